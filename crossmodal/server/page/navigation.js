import { ROOT } from "./api.js";
import { debounce } from "./dom.js";
import { hasUpload } from "./pictures.js";

/**
 * What the page shows, and how the address bar says it.
 *
 * A term is {kind: "text"|"id"|"upload", value: string, weight: number}; an upload's value is its key in this
 * tab's memory, so it cannot be in a link: `uploads=N` says how many a link leaves out. `hybrid` is whether
 * words are matched too, null where that is left to what the index has. `moment` is the id of a photo, without
 * terms: photos taken when it was are shown. `as` is how photos are browsed without terms.
 */
const SHOWS = ["photos", "captions"];
const WAYS = ["rows", "similar", "map"];
export const PAGE_SIZES = [12, 24, 48, 96];
export const MAX_TERMS = 16;

export const DEFAULTS = Object.freeze({
  view: "search",
  terms: Object.freeze([]),
  show: "photos",
  filter: null,
  moment: null,
  as: "rows",
  literal: false,
  hybrid: null,
  group: true,
  minScore: 0,
  topK: 48,
  open: null,
  leftOut: 0,
});

const WEIGHT = /~(-?\d+(?:\.\d+)?)$/;

function writeTerm({ value, weight }) {
  return weight !== 1 || WEIGHT.test(value) ? `${value}~${weight}` : value;
}

function readTerm(kind, written) {
  const found = WEIGHT.exec(written);
  if (!found) return { kind, value: written, weight: 1 };
  return { kind, value: written.slice(0, found.index), weight: Number(found[1]) };
}

function readFilter(written) {
  if (!written) return null;
  try {
    const filter = JSON.parse(written);
    return filter && typeof filter === "object" && !Array.isArray(filter) ? filter : null;
  } catch {
    return null;
  }
}

/** The state that an address describes; what it does not say is as in DEFAULTS. */
function readAddress(query) {
  const parameters = new URLSearchParams(query);
  const terms = [];
  for (const [name, value] of parameters) {
    if ((name === "text" || name === "id") && value.trim()) terms.push(readTerm(name, value));
  }
  const view = parameters.get("view");
  const minScore = Number(parameters.get("min_score"));
  const topK = Number(parameters.get("top_k"));
  return {
    ...DEFAULTS,
    view: view === "status" || view === "add" ? view : "search",
    terms,
    show: SHOWS.includes(parameters.get("show")) ? parameters.get("show") : DEFAULTS.show,
    filter: readFilter(parameters.get("filter")),
    moment: parameters.get("moment"),
    as: WAYS.includes(parameters.get("as")) ? parameters.get("as") : DEFAULTS.as,
    literal: parameters.get("literal") === "1",
    hybrid: { 1: true, 0: false }[parameters.get("hybrid")] ?? null,
    group: parameters.get("group") !== "0",
    minScore: minScore > 0 && minScore <= 1 ? minScore : 0,
    topK: Number.isInteger(topK) && topK >= 1 && topK <= 1000 ? topK : DEFAULTS.topK,
    open: parameters.get("open"),
    leftOut: Math.max(0, Math.trunc(Number(parameters.get("uploads"))) || 0),
  };
}

/** The address of a state, a path of this host. */
export function writeAddress(state) {
  const parameters = new URLSearchParams();
  if (state.view !== "search") parameters.set("view", state.view);
  for (const term of state.terms) if (term.kind !== "upload") parameters.append(term.kind, writeTerm(term));
  const uploads = state.terms.filter((term) => term.kind === "upload").length + state.leftOut;
  if (uploads) parameters.set("uploads", uploads);
  if (state.show !== DEFAULTS.show) parameters.set("show", state.show);
  if (state.filter) parameters.set("filter", JSON.stringify(state.filter));
  if (state.moment && !state.terms.length) parameters.set("moment", state.moment);
  if (state.as !== DEFAULTS.as) parameters.set("as", state.as);
  if (state.literal) parameters.set("literal", "1");
  if (state.hybrid !== null) parameters.set("hybrid", state.hybrid ? "1" : "0");
  if (!state.group) parameters.set("group", "0");
  if (state.minScore) parameters.set("min_score", state.minScore);
  if (state.topK !== DEFAULTS.topK) parameters.set("top_k", state.topK);
  if (state.open) parameters.set("open", state.open);
  const query = parameters.toString();
  return query ? `${ROOT}?${query}` : ROOT;
}

/** Whether there is something to search for. */
export const isSearch = (state) => state.view === "search" && state.terms.length > 0;

/** The position of the term that the search box holds (the first wanted text), or -1. */
export const mainTermIndex = (terms) => terms.findIndex((term) => term.kind === "text" && term.weight > 0);

/** All that decides about the results: two states with the same key have the same results. */
export function searchKey(state) {
  const { terms, show, filter, moment, as, literal, hybrid, group, minScore, topK } = state;
  return JSON.stringify([terms, show, filter, terms.length ? null : [moment, as], literal, hybrid, group, minScore, topK]);
}

/** A short sentence for the title and the recent searches: "dog + photo − snow". */
export function describeTerms(terms, nameOf = (_term) => "a photo") {
  return terms
    .map((term, position) => {
      const name = term.kind === "text" ? term.value : nameOf(term);
      if (term.weight < 0) return `− ${name}`;
      return position ? `+ ${name}` : name;
    })
    .join(" ");
}

let current = null;
const listeners = [];

/** The state the page shows now; treat it as read-only and change it through navigate(). */
export const currentState = () => current;

/** Calls `listener(state, {returned, again})` after each change; `returned` after Back and Forward. */
export function onNavigation(listener) {
  listeners.push(listener);
}

// The history entry holds all terms, because uploads have no place in the address.
const entry = (more = {}) => ({ terms: current.terms, ...more });

function withoutLostUploads(state, terms) {
  const kept = terms.filter((term) => term.kind !== "upload" || hasUpload(term.value));
  return { ...state, terms: kept, leftOut: terms.length - kept.length };
}

function fromLocation() {
  const state = readAddress(location.search);
  return history.state?.terms ? withoutLostUploads(state, history.state.terms) : state;
}

function announce(details) {
  for (const listener of listeners) listener(current, details);
}

/**
 * Shows another state and says so in the address bar.
 * @param {object} changes parts of the state
 * @param {{replace?: boolean, again?: boolean, opened?: boolean}} [how] `replace` makes no new step for Back;
 *   `again` searches even if nothing changed; `opened` marks a step that closing a photo can take back.
 */
export function navigate(changes, { replace = false, again = false, opened = false } = {}) {
  const next = { ...current, ...changes };
  if (changes.terms) next.leftOut = 0;
  const address = writeAddress(next);
  const same =
    address === writeAddress(current) && JSON.stringify(next.terms) === JSON.stringify(current.terms);
  if (!same && !replace) history.replaceState({ ...history.state, scroll: scrollY }, "");
  current = next;
  if (same || replace) history.replaceState({ ...history.state, ...entry() }, "", address);
  else history.pushState(entry({ opened }), "", address);
  announce({ returned: false, again });
}

/** Leaves the open photo: back where it was opened from this page, else without a step. */
export function closeOpened() {
  if (!current.open) return;
  if (history.state?.opened) history.back();
  else navigate({ open: null }, { replace: true });
}

/** The scroll position that the present history entry was left at, in CSS pixels. */
export const savedScroll = () => history.state?.scroll ?? 0;

/** Reads the address and follows Back, Forward and clicks on links within the page. */
export function startNavigation() {
  history.scrollRestoration = "manual";
  current = fromLocation();
  history.replaceState({ ...history.state, ...entry() }, "");
  addEventListener("popstate", () => {
    current = fromLocation();
    announce({ returned: true, again: false });
  });
  addEventListener(
    "scroll",
    debounce(() => {
      if (isSearch(current) || current.view === "search") history.replaceState({ ...history.state, scroll: scrollY }, "");
    }, 250),
    { passive: true },
  );
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-view], a[data-state-link]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    navigate(readAddress(new URL(link.href).search));
  });
  announce({ returned: true, again: false });
}
