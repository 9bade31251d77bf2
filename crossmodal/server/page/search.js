import { api, remember } from "./api.js";
import { upload } from "./pictures.js";
import { searchKey } from "./navigation.js";

// offset + top_k may not be more than this, with and without words; so says the API.
const DEEPEST_RESULT = 1000;
const DEEPEST_WITH_WORDS = 200;

function queryOf(terms) {
  const written = terms.map(({ kind, value, weight }) => {
    const name = kind === "upload" ? "image" : kind;
    const term = { [name]: kind === "upload" ? upload(value).dataUri : value };
    return weight === 1 ? term : { ...term, weight };
  });
  if (written.length === 1 && terms[0].weight > 0) {
    const { weight, ...query } = written[0]; // one term's weight changes nothing
    return query;
  }
  return { terms: written };
}

/** The sections that a way of showing results has: the modality each asks for. */
function sectionsOf(show) {
  return { apart: ["image", "text"], together: ["both"], photos: ["image"], captions: ["text"] }[show];
}

// Whether the index has text in photos, which only words find.
let textsThere = false;

/** Says whether the index has text in photos. */
export function setTexts(there) {
  textsThere = there;
}

/** Whether a search of this state matches words too: as it says, or else where there is text in photos. */
export const matchesWords = (state) => hasWords(state.terms) && (state.hybrid ?? textsThere);

/** What a state says of matching words, for what was chosen: null where that is so anyway. */
export const wordsChoice = (chosen) => (chosen === textsThere ? null : chosen);

/** How many results a search of this state can show at most. */
export const deepest = (state) => (matchesWords(state) ? DEEPEST_WITH_WORDS : DEEPEST_RESULT);

/** Whether matching words can help: only texts have words. */
export const hasWords = (terms) => terms.some((term) => term.kind === "text");

function optionsOf(state) {
  return {
    ...(state.minScore ? { min_score: state.minScore } : {}),
    ...(state.filter ? { filter: state.filter } : {}),
    ...(state.literal ? { recognise: false } : {}),
    ...(matchesWords(state) ? { hybrid: true } : {}),
    ...(state.group ? { group_duplicates: true } : {}),
  };
}

// Captions stand in a narrow column beside the photos, where half as many are as long.
const pageSize = (state, modality) =>
  state.show === "apart" && modality === "text" ? Math.ceil(state.topK / 2) : state.topK;

/** The body of POST /v1/search for a state's first results. */
export function searchBody(state) {
  const query = queryOf(state.terms);
  const sections = sectionsOf(state.show);
  if (sections.length === 1) {
    return { ...query, modality: sections[0], top_k: state.topK, ...optionsOf(state) };
  }
  const queries = sections.map((modality) => ({ ...query, modality, top_k: pageSize(state, modality) }));
  return { queries, ...optionsOf(state) };
}

/** The body for a section's next results, after `offset` of them; null where the API ends. */
function moreBody(state, modality, offset) {
  const topK = Math.min(pageSize(state, modality), deepest(state) - offset);
  if (topK < 1) return null;
  return { ...queryOf(state.terms), modality, top_k: topK, offset, ...optionsOf(state) };
}

const KEPT_ANSWERS = 12;
const kept = new Map();
let running = null;

/** Stops the search under way, if there is one: its answer is no longer wanted. */
export function abandonSearch() {
  running?.abort(new DOMException("another search was started", "AbortError"));
  running = null;
}

/** Forgets all answers, since the index has changed. */
export const forgetAnswers = () => kept.clear();

/** The answer that this state had before in this visit, or undefined. */
export const keptAnswer = (state) => kept.get(searchKey(state));

function keep(key, answer) {
  kept.delete(key);
  kept.set(key, answer);
  if (kept.size > KEPT_ANSWERS) kept.delete(kept.keys().next().value);
}

function section(modality, result) {
  remember(result.matches);
  return { modality, matches: result.matches, hasMore: result.has_more, recognised: result.recognised, doubt: result.doubt, error: result.error };
}

/**
 * Searches for a state and stops the search before it.
 * @returns {Promise<{sections: object[], timing: object, model: string, body: object}|null>} null where
 *   another search has been started meanwhile
 */
export async function search(state, { onRetry } = {}) {
  abandonSearch();
  const controller = new AbortController();
  running = controller;
  const body = searchBody(state);
  let answer;
  try {
    answer = await api.search(body, { signal: controller.signal, onRetry });
  } catch (error) {
    if (running !== controller) return null;
    running = null;
    throw error;
  }
  if (running !== controller) return null;
  running = null;
  const sections = sectionsOf(state.show).map((modality, position) => section(modality, answer.results[position]));
  const result = { sections, timing: answer.timing, model: answer.model, body };
  keep(searchKey(state), result);
  return result;
}

/** Adds a section's next matches to it and answers only those. */
export async function searchMore(state, part, { onRetry } = {}) {
  const last = part.matches.at(-1);
  const body = moreBody(state, part.modality, last ? last.rank : 0);
  if (!body) {
    part.hasMore = false;
    part.atEnd = true;
    return [];
  }
  const answer = await api.search(body, { onRetry });
  const next = section(part.modality, answer.results[0]);
  const shown = new Set(part.matches.map((match) => match.id));
  const fresh = next.matches.filter((match) => !shown.has(match.id));
  part.matches.push(...fresh);
  part.hasMore = next.hasMore;
  return fresh;
}
