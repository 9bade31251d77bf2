import { api } from "./api.js";
import { remember } from "./documents_seen.js";
import { moreBody, searchBody, sectionsOf } from "./search_request.js";
import { searchKey } from "./state.js";

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
  return { modality, matches: result.matches, hasMore: result.has_more, error: result.error };
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
