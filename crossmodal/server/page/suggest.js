import { api } from "./api.js";
import { byId, debounce, icon, make, placeBelow } from "./dom.js";
import { currentState, mainTermIndex, writeAddress } from "./navigation.js";
import { recentSearches } from "./start_page.js";

const PAUSE_MS = 120;
const MOST_RECENT = 3;
const MOST = 8;

const KINDS = { folder: "folder", camera: "camera", year: "clock", month: "clock", place: "pin", file: "image" };

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

const option = (symbol, kind, text, href, at) =>
  make(
    "a",
    { id: `suggest-${at}`, class: "menu-link", role: "option", "aria-selected": "false", href, tabindex: -1, data: { stateLink: "", testid: "suggest", kind } },
    icon(symbol),
    make("span", { text }),
    make("span", { class: "hint", text: kind }),
  );

/** What the server suggests for what was typed, or else for its last word; the words before it stay in the search. */
async function tagOptions(typed) {
  const state = currentState();
  const words = typed.split(/\s+/);
  let { suggestions } = await api.suggestions(typed);
  let rest = "";
  if (!suggestions.length && words.length > 1 && words.at(-1).length > 2) {
    ({ suggestions } = await api.suggestions(words.at(-1)));
    rest = words.slice(0, -1).join(" ");
  }
  const main = mainTermIndex(state.terms);
  const others = state.terms.filter((_, at) => at !== main);
  const terms = rest ? [{ kind: "text", value: rest, weight: 1 }, ...others] : others;
  return suggestions.map(({ kind, text, filter }) => ({
    symbol: KINDS[kind] ?? "tag",
    kind,
    text,
    href: writeAddress({ ...state, view: "search", open: null, terms, filter: { ...state.filter, ...filter } }),
  }));
}

async function suggest() {
  const typed = box().value.trim().toLowerCase();
  if (typed.length < 2) {
    close();
    return;
  }
  const tags = await tagOptions(typed).catch(() => []);
  if (typed !== box().value.trim().toLowerCase() || document.activeElement !== box()) return;
  const recent = recentSearches()
    .filter(({ label }) => label.toLowerCase().includes(typed) && label.toLowerCase() !== typed)
    .slice(0, MOST_RECENT)
    .map(({ label, address }) => ({ symbol: "search", kind: "recent", text: label, href: address }));
  const all = [...recent, ...tags].slice(0, MOST);
  if (!all.length) {
    close();
    return;
  }
  list().replaceChildren(...all.map(({ symbol, kind, text, href }, at) => option(symbol, kind, text, href, at)));
  choose(-1);
  placeBelow(list(), byId("search-form"));
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
    else if (event.key === "Enter" && chosen >= 0) options()[chosen].click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
