import { byId, debounce, icon, make } from "./dom.js";
import { readTags, SELDOM_CHOSEN, withCondition } from "./filters.js";
import { currentState, mainTermIndex, navigate, writeAddress } from "./navigation.js";
import { recentSearches } from "./start_page.js";

const PAUSE_MS = 120;
const MOST_RECENT = 3;
const MOST = 8;

const KINDS = { folder: "folder", camera: "camera", year: "clock", city: "pin", region: "pin", country: "pin" };

let chosen = -1;

const box = () => byId("search-box");
const list = () => byId("suggest");
const options = () => [...list().children];

function close() {
  chosen = -1;
  if (list().matches(":popover-open")) list().hidePopover();
  box().setAttribute("aria-expanded", "false");
  box().removeAttribute("aria-activedescendant");
}

function choose(next) {
  chosen = next;
  options().forEach((option, at) => option.setAttribute("aria-selected", String(at === chosen)));
  if (chosen < 0) box().removeAttribute("aria-activedescendant");
  else box().setAttribute("aria-activedescendant", options()[chosen].id);
}

function option(symbol, kind, text, href, at) {
  return make(
    "li",
    { id: `suggest-${at}`, role: "option", "aria-selected": "false", data: { testid: "suggest", kind } },
    make("a", { class: "menu-link", href, tabindex: -1, data: { stateLink: "" } }, icon(symbol), make("span", { text }), make("span", { class: "hint", text: kind })),
  );
}

/** Values of tags that begin with what was typed, or with its last word; the words before it stay in the search. */
function tagOptions(fields, typed) {
  const state = currentState();
  const words = typed.split(/\s+/);
  const last = words.pop();
  const found = [];
  for (const { name, type, values } of fields) {
    const plain = type === "string" || type === "mixed" || name === "year";
    if (!plain || (SELDOM_CHOSEN.has(name) && name !== "file")) continue;
    for (const { value, count } of values) {
      const parts = [String(value), ...String(value).split(/[\s/]+/)].map((part) => part.toLowerCase());
      const whole = parts.some((part) => part.startsWith(typed));
      if (!whole && !(last.length > 2 && parts.some((part) => part.startsWith(last)))) continue;
      const rest = whole ? "" : words.join(" ");
      const main = mainTermIndex(state.terms);
      const others = state.terms.filter((_, at) => at !== main);
      const terms = rest ? [{ kind: "text", value: rest, weight: 1 }, ...others] : others;
      const href = writeAddress({ ...state, view: "search", open: null, terms, filter: withCondition(state.filter, name, value) });
      found.push({ symbol: KINDS[name] ?? "tag", kind: name, text: String(value), href, count: whole ? count + 1e9 : count });
    }
  }
  return found.sort((one, other) => other.count - one.count);
}

async function suggest() {
  const typed = box().value.trim().toLowerCase();
  if (typed.length < 2) {
    close();
    return;
  }
  const fields = await readTags().catch(() => []);
  if (typed !== box().value.trim().toLowerCase() || document.activeElement !== box()) return;
  const recent = recentSearches()
    .filter(({ label }) => label.toLowerCase().includes(typed) && label.toLowerCase() !== typed)
    .slice(0, MOST_RECENT)
    .map(({ label, address }) => ({ symbol: "search", kind: "recent", text: label, href: address }));
  const all = [...recent, ...tagOptions(fields, typed)].slice(0, MOST);
  if (!all.length) {
    close();
    return;
  }
  list().replaceChildren(...all.map(({ symbol, kind, text, href }, at) => option(symbol, kind, text, href, at)));
  choose(-1);
  const form = byId("search-form").getBoundingClientRect();
  Object.assign(list().style, { top: `${form.bottom + 6}px`, left: `${form.left}px`, width: `${form.width}px` });
  if (!list().matches(":popover-open")) list().showPopover();
  box().setAttribute("aria-expanded", "true");
}

/** Suggests recent searches and values of tags while somebody types. */
export function startSuggesting() {
  const later = debounce(suggest, PAUSE_MS);
  box().addEventListener("input", later);
  box().addEventListener("blur", () => {
    later.cancel();
    close();
  });
  byId("search-form").addEventListener("submit", () => {
    later.cancel();
    close();
  });
  // The box keeps the focus while something in the list is pressed.
  list().addEventListener("mousedown", (event) => event.preventDefault());
  list().addEventListener("click", (event) => event.target.closest("a") && (close(), box().blur()));
  box().addEventListener("keydown", (event) => {
    if (!list().matches(":popover-open")) return;
    const number = options().length;
    if (event.key === "ArrowDown") choose((chosen + 2) % (number + 1) - 1);
    else if (event.key === "ArrowUp") choose((chosen + number + 1) % (number + 1) - 1);
    else if (event.key === "Escape") close();
    else if (event.key === "Enter" && chosen >= 0) options()[chosen].firstChild.click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
