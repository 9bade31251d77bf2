/**
 * What the page shows, and how the address bar says it.
 *
 * A term is {kind: "text"|"id"|"upload", value: string, weight: number}; an upload's value is its key in this
 * tab's memory, so it cannot be in a link: `uploads=N` says how many a link leaves out.
 */
export const SHOWS = ["apart", "together", "photos", "captions"];
export const PAGE_SIZES = [12, 24, 48, 96];
export const MAX_TERMS = 16;

export const DEFAULTS = Object.freeze({
  view: "search",
  terms: Object.freeze([]),
  show: "apart",
  filter: null,
  hybrid: false,
  group: false,
  minScore: 0,
  topK: 24,
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
export function readAddress(query) {
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
    hybrid: parameters.get("hybrid") === "1",
    group: parameters.get("group") === "1",
    minScore: minScore > 0 && minScore <= 1 ? minScore : 0,
    topK: Number.isInteger(topK) && topK >= 1 && topK <= 1000 ? topK : DEFAULTS.topK,
    open: parameters.get("open"),
    leftOut: Math.max(0, Math.trunc(Number(parameters.get("uploads"))) || 0),
  };
}

/** The address of a state, beginning with "/". */
export function writeAddress(state) {
  const parameters = new URLSearchParams();
  if (state.view !== "search") parameters.set("view", state.view);
  for (const term of state.terms) if (term.kind !== "upload") parameters.append(term.kind, writeTerm(term));
  const uploads = state.terms.filter((term) => term.kind === "upload").length + state.leftOut;
  if (uploads) parameters.set("uploads", uploads);
  if (state.show !== DEFAULTS.show) parameters.set("show", state.show);
  if (state.filter) parameters.set("filter", JSON.stringify(state.filter));
  if (state.hybrid) parameters.set("hybrid", "1");
  if (state.group) parameters.set("group", "1");
  if (state.minScore) parameters.set("min_score", state.minScore);
  if (state.topK !== DEFAULTS.topK) parameters.set("top_k", state.topK);
  if (state.open) parameters.set("open", state.open);
  const query = parameters.toString();
  return query ? `/?${query}` : "/";
}

/** Whether there is something to search for. */
export const isSearch = (state) => state.view === "search" && state.terms.length > 0;

/** The position of the term that the search box holds (the first wanted text), or -1. */
export const mainTermIndex = (terms) => terms.findIndex((term) => term.kind === "text" && term.weight > 0);

/** All that decides about the results: two states with the same key have the same results. */
export function searchKey(state) {
  const { terms, show, filter, hybrid, group, minScore, topK } = state;
  return JSON.stringify([terms, show, filter, hybrid, group, minScore, topK]);
}

/** A short sentence for the title and the recent searches: "dog + photo − snow". */
export function describeTerms(terms, nameOf = () => "a photo") {
  return terms
    .map((term, position) => {
      const name = term.kind === "text" ? term.value : nameOf(term);
      if (term.weight < 0) return `− ${name}`;
      return position ? `+ ${name}` : name;
    })
    .join(" ");
}
