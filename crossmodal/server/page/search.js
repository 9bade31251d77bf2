import { api, isHidden, known, remember } from "./api.js";
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

// Whether the index has text in photos, which only words find, and whether it has captions; at first as the server wrote it into the page.
const written = document.documentElement.dataset;
let textsThere = "texts" in written;
let captionsThere = "captions" in written;

/** Says what the index has: text in photos, and captions. */
export function setContents({ texts, captions }) {
  textsThere = texts;
  captionsThere = captions;
}

/** Whether the index has captions; without them nothing speaks of them. */
export const hasCaptions = () => captionsThere;

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

/** The body of POST /v1/search for a state's first results; photos are found by their captions, too. */
export function searchBody(state) {
  const query = queryOf(state.terms);
  const modality = state.show === "captions" ? "text" : "image";
  if (modality === "text" || !captionsThere) return { ...query, modality, top_k: state.topK, ...optionsOf(state) };
  const queries = ["image", "text"].map((each) => ({ ...query, modality: each, top_k: state.topK }));
  return { queries, ...optionsOf(state) };
}

/** The body for the next results, after `offset` of them; null where the API ends. */
function moreBody(state, modality, offset) {
  const topK = Math.min(state.topK, deepest(state) - offset);
  if (topK < 1) return null;
  return { ...queryOf(state.terms), modality, top_k: topK, offset, ...optionsOf(state) };
}

/** The body that asks of a state's search why it finds one photo. */
export function explainingBody(state, id) {
  const { group_duplicates: _, min_score: __, ...options } = optionsOf(state);
  return { ...queryOf(state.terms), ...options, modality: "image", top_k: 1, filter: { ...state.filter, $ids: [id] }, explain: true };
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

function sectionOf(state, modality, result) {
  remember(result.matches);
  const { matches, has_more: hasMore, recognised, doubt, partial, error } = result;
  // Who says how well they are to fit has said what is weak.
  const weakShown = state.minScore > 0;
  return { modality, matches, hasMore, recognised, doubt, partial, error, weakShown, reached: matches.at(-1)?.rank ?? 0, found: [] };
}

/** What scores less doesn't fit well: FITTING_SCORE of the server. */
const FITTING_SCORE = 0.1;

const scoresWell = ({ score }) => typeof score !== "number" || score >= FITTING_SCORE;

/** Whether a match fits: by its score or its caption's, or because it has the very words. */
function fits({ score, parts, found_caption: caption }) {
  return scoresWell({ score }) || Boolean(parts?.word_rank || parts?.text_rank) || Boolean(caption && scoresWell(caption));
}

export const isWeak = (match) => !fits(match);

/** Those that are set apart, because they fit less well. */
export const weakMatches = ({ matches }) => matches.filter((match) => isWeak(match) && !isHidden(match.id));

/** The matches to show: those that fit, and once somebody asked for them the weak ones, by rank each. */
export const shownMatches = (section) => [...section.matches.filter((match) => fits(match) && !isHidden(match.id)), ...(section.weakShown ? weakMatches(section) : [])];

/**
 * Puts captions that matched on their photos. A photo that only its caption found stands where the caption's
 * score puts it, if that fits, and without scores at the end.
 */
function foldCaptions(section, captions, terms) {
  section.found = captions;
  const best = new Map();
  for (const caption of captions) {
    if (caption.photo && !best.has(caption.photo.id)) best.set(caption.photo.id, caption);
  }
  section.matches = section.matches.map((match) => withCaption(match, best));
  // A photo that is searched with is no result, though it has captions.
  const shown = new Set([...section.matches.map(({ id }) => id), ...terms.map(({ value }) => value)]);
  for (const [id, caption] of best) {
    const { photo, text, score, cosine, tags } = caption;
    if (shown.has(id) || !scoresWell(caption)) continue;
    const place = typeof score === "number" ? section.matches.findIndex((match) => match.score < score) : -1;
    // Photos that follow on a later page have their own place there.
    if (place < 0 && section.hasMore) continue;
    const match = { ...known(id), id, modality: "image", photo, score, cosine, tags: known(id)?.tags ?? tags, found_caption: caption };
    match.captions ??= [{ id: caption.id, text }];
    section.matches.splice(place < 0 ? section.matches.length : place, 0, match);
  }
}

function withCaption(match, best) {
  const caption = best.get(match.id);
  return caption ? { ...match, found_caption: caption } : match;
}

/**
 * Searches for a state and stops the search before it.
 * @returns {Promise<{section: object, results: object[], timing: object, model: string, body: object}|null>} `results`
 *   as the server said them; null where another search has been started meanwhile
 */
export async function search(state, { onRetry } = /** @type {{onRetry?: (seconds: number) => void}} */ ({})) {
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
  const [first, captions] = answer.results;
  const section = sectionOf(state, body.queries ? "image" : body.modality, first);
  const results = [{ modality: section.modality, matches: [...section.matches], has_more: first.has_more }];
  if (captions?.matches) {
    remember(captions.matches);
    results.push({ modality: "text", matches: captions.matches, has_more: captions.has_more });
    if (!section.error) foldCaptions(section, captions.matches, state.terms);
  }
  const result = { section, results, timing: answer.timing, model: answer.model, body };
  keep(searchKey(state), result);
  return result;
}

/** Adds the next matches to an answer and answers those of them that are shown. */
export async function searchMore(state, { section, results }) {
  const body = moreBody(state, section.modality, section.reached);
  if (!body) {
    section.hasMore = false;
    return [];
  }
  const answer = await api.search(body);
  const next = sectionOf(state, section.modality, answer.results[0]);
  const best = new Map(section.found.toReversed().map((caption) => [caption.photo?.id, caption]));
  const shown = new Set(section.matches.map((match) => match.id));
  const fresh = next.matches.filter((match) => !shown.has(match.id)).map((match) => withCaption(match, best));
  results[0].matches.push(...next.matches);
  results[0].has_more = next.hasMore;
  section.matches.push(...fresh);
  section.hasMore = next.hasMore;
  section.reached = Math.max(next.reached, section.reached + (next.matches.length ? 0 : body.top_k));
  return section.weakShown ? fresh : fresh.filter(fits);
}
