import { api } from "./api.js";

const seen = new Map();

/** Remembers documents that an answer brought, so that their names and photos need no further request. */
export function remember(documents) {
  for (const item of documents) seen.set(item.id, { ...seen.get(item.id), ...item });
}

/** What is known of a document, or undefined. */
export const known = (id) => seen.get(id);

/** Forgets deleted documents. */
export function forget(ids) {
  for (const id of ids) seen.delete(id);
}

/** A document, asked for once if it has not been seen; rejects as api.document() does. */
export async function lookUp(id, options) {
  if (!seen.has(id)) remember([await api.document(id, options)]);
  return seen.get(id);
}

/** A document's name in words: its caption, else its file's name, else its id. */
export function nameOf(item) {
  const caption = item.text ?? item.captions?.[0]?.text;
  if (caption) return caption;
  return typeof item.tags?.file === "string" ? item.tags.file : `Photo ${item.id}`;
}
