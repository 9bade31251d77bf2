import { ROOT, api, isHidden, remember } from "./api.js";
import { byId, icon, make, placeBelow } from "./dom.js";
import { button, messageCard } from "./messages.js";
import { DEFAULTS, describeTerms, navigate, writeAddress } from "./navigation.js";
import { fillResults, fillWithSkeletons, listFoot, refreshBy, resultTile, showError } from "./results.js";
import { photoRows } from "./rows.js";
import { termName } from "./terms.js";

const RECENT_KEY = "crossmodal.recent";
const STORED = 12;

/** The searches of this browser, the latest first: {label, address}. */
export function recentSearches() {
  try {
    const stored = JSON.parse(localStorage.getItem(RECENT_KEY) ?? "[]");
    return Array.isArray(stored) ? stored.filter(({ label, address }) => label && address?.startsWith(`${ROOT}?`)) : [];
  } catch {
    return []; // storage is forbidden, or holds another program's text: there are no recent searches then
  }
}

function storeSearches(searches) {
  try {
    localStorage.setItem(RECENT_KEY, JSON.stringify(searches));
  } catch {
    return; // forbidden or full storage costs the recent searches, nothing else
  }
}

/** Stores a search; those with uploaded pictures are not stored, because they could not be repeated. */
export function rememberSearch(state) {
  if (state.terms.some((term) => term.kind === "upload")) return;
  const address = writeAddress({ ...state, open: null, leftOut: 0 });
  const label = describeTerms(state.terms, termName);
  const others = recentSearches().filter((search) => search.address !== address);
  // What is typed on the way to a sentence is no search of its own.
  if (state.terms.length === 1 && others.length && label.startsWith(others[0].label)) others.shift();
  storeSearches([{ label, address }, ...others].slice(0, STORED));
}

/** Forgets all searches. */
function clearRecent() {
  storeSearches([]);
  drawSuggestions();
}

/** A link that repeats a search. */
function recentLink({ label, address }, className) {
  return make("a", { class: className, href: address, data: { stateLink: "", testid: "recent-search" }, text: label, title: label });
}

/** Fills the menu each time it opens, and places it under its button. */
export function startRecentMenu() {
  const menu = byId("recent-menu");
  menu.addEventListener("beforetoggle", (event) => {
    if (event.newState !== "open") return;
    const searches = recentSearches();
    const clear = button("Clear", {
      symbol: "trash",
      kind: "quiet",
      testid: "recent-clear",
      on: {
        click: () => {
          clearRecent();
          menu.hidePopover();
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
    placeBelow(menu, byId("search-form"));
  });
  menu.addEventListener("click", (event) => event.target.closest("a") && menu.hidePopover());
  addEventListener("scroll", () => menu.matches(":popover-open") && menu.hidePopover(), { passive: true });
}

const EXAMPLES = 4;
const LONGEST_EXAMPLE = 38;
const RECENT = 4;
const PAGE = 48;

let examples = null;
// The photos of the start page: {filter, moment, documents, next}.
let gallery = null;

/** Forgets the examples and photos, since the index has changed. */
export function forgetStartPage() {
  examples = null;
  gallery = null;
}

// Data sets often put a space before the full stop, as tokenisers do.
const asQuery = (caption) => caption.trim().replace(/\s*[.!]+$/, "");

async function loadExamples() {
  const { documents } = await api.documents({ modality: "text", limit: 100 });
  const byPhoto = new Map();
  for (const { id, text, photo } of documents) {
    const query = asQuery(text ?? "");
    const key = photo?.id ?? id;
    if (query.length >= 12 && query.length <= LONGEST_EXAMPLE && !/[<>{}]/.test(query) && !byPhoto.has(key)) byPhoto.set(key, query);
  }
  const all = [...byPhoto.values()];
  const step = Math.max(1, Math.floor(all.length / EXAMPLES));
  return all.filter((_, position) => position % step === 0).slice(0, EXAMPLES);
}

function exampleLink(text) {
  const href = writeAddress({ ...DEFAULTS, terms: [{ kind: "text", value: text, weight: 1 }] });
  return make("a", { class: "suggestion", href, data: { stateLink: "", testid: "example" }, text });
}

const suggestionRow = (name, ...links) =>
  make("div", { class: `suggestion-row ${name.toLowerCase()}` }, make("span", { class: "row-name", text: name }), ...links);

/** Draws the rows of example searches and of recent ones. */
function drawSuggestions() {
  const recent = recentSearches().slice(0, RECENT);
  byId("suggestions").replaceChildren(
    ...(examples?.length ? [suggestionRow("Try", ...examples.map(exampleLink))] : []),
    ...(recent.length
      ? [
          suggestionRow(
            "Recent",
            ...recent.map((search) => recentLink(search, "suggestion")),
            button("Clear", { kind: "quiet", on: { click: clearRecent }, testid: "recent-clear-row", "aria-label": "Clear the recent searches" }),
          ),
        ]
      : []),
  );
}

/** Shows example searches taken from the captions that are indexed, and the latest own ones; hides them elsewhere. */
export async function showSuggestions(visible) {
  byId("suggestions").hidden = !visible;
  if (!visible) return;
  drawSuggestions();
  if (examples) return;
  try {
    examples = await loadExamples();
  } catch {
    return; // the photos below show why the server does not answer
  }
  drawSuggestions();
}

const nothingIndexed = () =>
  messageCard({
    title: "Nothing is indexed yet",
    detail: "Add photos on this page, or index a folder where the server runs: crossmodal index ~/Pictures",
    symbol: "image",
    testid: "nothing-indexed",
    actions: [make("a", { class: "button primary", href: "./?view=add", data: { view: "add" }, text: "Add photos" })],
  });

const shownPhotos = () => (gallery ? gallery.documents.filter(({ id }) => !isHidden(id)) : []);

const nothingLeft = () =>
  messageCard({
    title: "No photo fits the filters",
    detail: "Take one of them away.",
    symbol: "filter",
    testid: "nothing-left",
    actions: [button("Remove all filters", { kind: "primary", on: { click: () => navigate({ filter: null, moment: null }) } })],
  });

const isEmpty = () => !gallery.next && !shownPhotos().length;

function drawGallery(actions) {
  if (isEmpty()) {
    fillResults("gallery", gallery.filter || gallery.moment ? nothingLeft() : nothingIndexed());
    refreshBy(() => gallery && drawGallery(actions));
    return;
  }
  const rows = photoRows(shownPhotos(), (item) => resultTile(item, actions), "gallery");
  const foot = listFoot({
    label: "Show more photos",
    testid: "gallery-more",
    hasMore: () => Boolean(gallery?.next),
    load: async () => {
      const before = gallery;
      const page = await loadPage(before, before.next);
      if (gallery !== before) return []; // forgotten meanwhile, since the index has changed
      gallery = { ...before, documents: [...before.documents, ...page.documents], next: page.next };
      if (isEmpty()) drawGallery(actions);
      else rows.set(shownPhotos());
      return page.documents.filter(({ id }) => !isHidden(id));
    },
    focus: (item) => item && rows.tile(item.id)?.querySelector("a").focus({ preventScroll: true }),
  });
  fillResults("gallery", make("h2", { class: "section-title visually-hidden", text: "Some of the photos" }), rows.element, foot.element);
  refreshBy(() => gallery && (isEmpty() ? drawGallery(actions) : rows.set(shownPhotos())));
}

// The newest first; those without a date come at the end.
async function loadPage({ filter, moment }, after) {
  const narrowed = { filter: filter && JSON.stringify(filter), moment_of: moment };
  const page = await api.documents({ modality: "image", limit: PAGE, after, sort: moment ? "taken" : "-taken", ...narrowed });
  remember(page.documents);
  return page;
}

/** Shows the indexed photos that a state's filter lets through, or those of a moment; `stillWanted` is asked when the answer has come. */
export async function showGallery({ filter, moment }, actions, stillWanted) {
  if (!gallery || gallery.moment !== moment || JSON.stringify(gallery.filter) !== JSON.stringify(filter)) {
    fillWithSkeletons(24);
    try {
      const page = await loadPage({ filter, moment });
      if (!stillWanted()) return;
      gallery = { filter, moment, ...page };
    } catch (error) {
      if (stillWanted()) showError(error, () => showGallery({ filter, moment }, actions, stillWanted));
      return;
    }
  }
  if (stillWanted()) drawGallery(actions);
}

/** The ids of the start page's photos, in their order. */
export const galleryIds = () => shownPhotos().map((item) => item.id);
