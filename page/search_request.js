import { upload } from "./uploads.js";

/** offset + top_k may not be more than this; so says the API. */
export const DEEPEST_RESULT = 1000;

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
export function sectionsOf(show) {
  return { apart: ["image", "text"], together: ["both"], photos: ["image"], captions: ["text"] }[show];
}

/** Whether matching words can help: only texts have words. */
export const hasWords = (terms) => terms.some((term) => term.kind === "text");

function optionsOf(state) {
  return {
    ...(state.minScore ? { min_score: state.minScore } : {}),
    ...(state.filter ? { filter: state.filter } : {}),
    ...(state.hybrid && hasWords(state.terms) ? { hybrid: true } : {}),
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
export function moreBody(state, modality, offset) {
  const topK = Math.min(pageSize(state, modality), DEEPEST_RESULT - offset);
  if (topK < 1) return null;
  return { ...queryOf(state.terms), modality, top_k: topK, offset, ...optionsOf(state) };
}
