import { byId, icon, make } from "./dom.js";
import { button } from "./messages.js";
import { describeTerms, writeAddress } from "./state.js";
import { termName } from "./terms.js";

const KEY = "crossmodal.recent";
const KEPT = 12;

function read() {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(stored) ? stored.filter(({ label, address }) => label && address?.startsWith("/?")) : [];
  } catch {
    return []; // storage is forbidden, or holds another program's text: there are no recent searches then
  }
}

function write(searches) {
  try {
    localStorage.setItem(KEY, JSON.stringify(searches));
  } catch {
    return; // forbidden or full storage costs the recent searches, nothing else
  }
}

/** The searches of this browser, the latest first: {label, address}. */
export const recentSearches = () => read();

/** Keeps a search; those with uploaded pictures are not kept, because they could not be repeated. */
export function rememberSearch(state) {
  if (state.terms.some((term) => term.kind === "upload")) return;
  const address = writeAddress({ ...state, open: null, leftOut: 0 });
  const label = describeTerms(state.terms, termName);
  // What is typed on the way to a sentence is no search of its own.
  const others = read().filter((search) => search.address !== address && !label.startsWith(search.label));
  write([{ label, address }, ...others].slice(0, KEPT));
}

/** Forgets all searches. */
export function clearRecent() {
  write([]);
}

/** A link that repeats a search. */
export function recentLink({ label, address }, className) {
  return make("a", { class: className, href: address, data: { stateLink: "", testid: "recent-search" }, text: label, title: label });
}

/** Fills the menu each time it opens, and places it under its button. */
export function startRecentMenu(onClear) {
  const menu = byId("recent-menu");
  menu.addEventListener("beforetoggle", (event) => {
    if (event.newState !== "open") return;
    const searches = read();
    const clear = button("Clear", {
      symbol: "trash",
      kind: "quiet",
      testid: "recent-clear",
      on: {
        click: () => {
          clearRecent();
          menu.hidePopover();
          onClear();
        },
      },
    });
    menu.replaceChildren(
      make("h2", { text: "Recent searches" }),
      searches.length
        ? make("ul", {}, ...searches.map((search) => make("li", {}, icon("clock"), recentLink(search, "menu-link"))))
        : make("p", { class: "muted", text: "What you search for is listed here, in this browser only." }),
      searches.length ? clear : "",
    );
    const form = byId("search-form").getBoundingClientRect();
    menu.style.top = `${form.bottom + 6}px`;
    menu.style.left = `${form.left}px`;
    menu.style.width = `${form.width}px`;
  });
  menu.addEventListener("click", (event) => event.target.closest("a") && menu.hidePopover());
  addEventListener("scroll", () => menu.matches(":popover-open") && menu.hidePopover(), { passive: true });
}
