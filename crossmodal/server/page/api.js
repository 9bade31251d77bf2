/** An answer of the server that says why it refused: an RFC 9457 problem document. */
export class Problem extends Error {
  constructor({ status, title, detail, errors = [] }) {
    super(title);
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.errors = errors;
  }
}

/** No answer came: the server, or the way to it, is down. */
export class Unreachable extends Error {}

/** The path of the page, "/" or that under which a proxy shows it; everything of the server lies below. */
export const ROOT = new URL("..", import.meta.url).pathname;

const TIMEOUT_MS = 30_000;
const ATTEMPTS = 3;
const LONGEST_WAIT_S = 15;

function waitSeconds(answer, attempt) {
  const header = answer.headers.get("Retry-After");
  const seconds = Number(header);
  if (header !== null && Number.isFinite(seconds)) return Math.min(seconds, LONGEST_WAIT_S);
  const date = Date.parse(header ?? "");
  if (Number.isFinite(date)) return Math.min(Math.max(0, (date - Date.now()) / 1000), LONGEST_WAIT_S);
  return 2 ** attempt;
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

async function problemOf(answer) {
  const fallback = {
    status: answer.status,
    title: `The server answered with ${answer.status}`,
    detail: answer.statusText || "It gave no reason.",
  };
  try {
    return new Problem({ ...fallback, ...(await answer.json()) });
  } catch {
    return new Problem(fallback);
  }
}

/** The answer to what index.html has asked already, once; else undefined. */
function earlyAnswer(path, body) {
  const { early } = globalThis;
  if (early?.path !== path || early.body !== body) return undefined;
  globalThis.early = null;
  return early.answer;
}

/**
 * Sends one request and answers its JSON.
 * @param {string} path below ROOT
 * @param {{method?: string, body?: object|FormData, signal?: AbortSignal, timeout?: number, keepalive?: boolean, unread?: boolean,
 *   onRetry?: (seconds: number) => void}} [options] `timeout` in milliseconds for each attempt; `keepalive` sends even if
 *   the page is left meanwhile; `unread` wants to know only whether the server would answer
 * @throws {Problem} when the server refuses; 429 and 503 are tried again first, as Retry-After says
 * @throws {Unreachable} when no answer comes in time
 */
async function request(path, { method = "GET", body, signal, timeout = TIMEOUT_MS, keepalive, unread, onRetry } = {}) {
  const headers = { Accept: "application/json, application/problem+json" };
  let payload = body;
  if (body && !(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    payload = JSON.stringify(body);
  }
  for (let attempt = 0; ; attempt += 1) {
    const limit = AbortSignal.timeout(timeout);
    let answer;
    try {
      answer = await (earlyAnswer(path, payload) ?? fetch(ROOT + path, { method, headers, keepalive, body: payload, signal: signal ? AbortSignal.any([signal, limit]) : limit }));
      if (answer.ok) {
        // Kept by offline.js from before.
        dispatchEvent(new CustomEvent(answer.headers.has("X-Kept") ? "server-unreachable" : "server-answered"));
        return await (unread ? answer.body.cancel() : answer.json());
      }
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (limit.aborted) throw new Unreachable(`No answer came within ${timeout / 1000} seconds.`);
      if (error instanceof SyntaxError) throw new Problem({ status: answer.status, title: "The answer cannot be read", detail: "The server sent no valid JSON." });
      dispatchEvent(new CustomEvent("server-unreachable"));
      throw new Unreachable(navigator.onLine ? `${location.host} does not answer.` : "This device is offline.");
    }
    if (answer.status === 401) {
      // The session is over, or its key was revoked.
      location.assign(loginUrl());
      throw await problemOf(answer);
    }
    const busy = answer.status === 429 || answer.status === 503;
    if (!busy || attempt + 1 >= ATTEMPTS) throw await problemOf(answer);
    const seconds = waitSeconds(answer, attempt);
    onRetry?.(seconds);
    await pause(seconds, signal);
  }
}

/** Where to log in, to come back to what is shown now. */
const loginUrl = () => `${ROOT}login?next=${encodeURIComponent(location.pathname + location.search)}`;

/** Ends the session, and shows the page on which to log in. */
export async function logOut() {
  await request("logout", { method: "POST" });
  await globalThis.caches?.delete("crossmodal");
  location.assign(`${ROOT}login`);
}

const documentPath = (id) => `v1/documents/${encodeURIComponent(id)}`;

export const thumbnailUrl = (id) => `${ROOT}${documentPath(id)}/thumbnail`;
const ARCHIVE = "v1/documents/archive";
export const archiveUrl = ROOT + ARCHIVE;
export const contentUrl = (id) => `${ROOT}${documentPath(id)}/content`;

/** The server's routes, one function each; options as for request(). */
export const api = {
  search: (body, options) => request("v1/search", { ...options, method: "POST", body }),
  document: (id, options) => request(documentPath(id), options),
  documents: ({ modality, limit, ...others }, options) => {
    const parameters = new URLSearchParams({ modality, limit });
    for (const [name, value] of Object.entries(others)) if (value) parameters.set(name, value);
    return request(`v1/documents?${parameters}`, options);
  },
  /** Answers what the document has become, and what takes the change back, null where it changed nothing. */
  change: async (id, body) => {
    const { undo, ...item } = await request(documentPath(id), { method: "PATCH", body });
    remember([item]);
    return { item, undo: Object.keys(undo).length ? () => api.change(id, undo) : null };
  },
  remove: (ids, options) => request("v1/documents/deletion", { ...options, method: "POST", body: { ids } }),
  /** Throws where the server would send no archive. */
  checkArchive: (body) => request(ARCHIVE, { method: "POST", body, unread: true }),
  upload: (form, options) => request("v1/documents", { ...options, method: "POST", body: form }),
  heatMap: (id, text) => request(`${documentPath(id)}/heatmap?${new URLSearchParams({ text })}`),
  suggestions: (q) => request(`v1/suggestions?${new URLSearchParams({ q, limit: "8" })}`),
  layout: (asked) => request(`v1/layout?${new URLSearchParams(asked)}`),
  layoutNames: () => request("v1/layout/names"),
  facet: (asked) => request(`v1/facets?${new URLSearchParams(asked)}`),
  tags: (options) => request("v1/tags", options),
  status: (options) => request("v1/status", options),
  models: (options) => request("v1/models", options),
  flow: (kind, options) => request(`v1/flows/${kind}`, options),
};

const seen = new Map();

/** Remembers documents that an answer brought, so that their names and photos need no further request. */
export function remember(documents) {
  for (const item of documents) {
    // What was deleted and is answered again is back.
    for (const { id } of [item, item.photo ?? item, ...(item.captions ?? [])]) deleted.delete(id);
    seen.set(item.id, { ...seen.get(item.id), ...item });
  }
}

/** What is known of a document, or undefined. */
export const known = (id) => seen.get(id);

// What is about to be deleted is not shown any more, nor what was.
const hidden = new Set();
const deleted = new Set();

export const isHidden = (id) => hidden.has(id) || deleted.has(id);

/** Forgets deleted documents. */
export function forget(ids) {
  for (const id of ids) {
    seen.delete(id);
    hidden.delete(id);
    deleted.add(id);
  }
}

/** Takes documents out of what is shown. */
export function hide(ids) {
  for (const id of ids) hidden.add(id);
  dispatchEvent(new CustomEvent("documents-hidden"));
}

/** Shows them again. */
export function unhide(ids) {
  for (const id of ids) hidden.delete(id);
  dispatchEvent(new CustomEvent("documents-hidden"));
}

/** A document, asked for once if it has not been seen; rejects as api.document() does. */
export async function lookUp(id, options) {
  if (!seen.has(id)) remember([await api.document(id, options)]);
  return seen.get(id);
}

/** The name of a photo's file, or its id where none is known. */
export const fileOf = (item) => item.photo?.file ?? (typeof item.tags?.file === "string" ? item.tags.file : `Photo ${item.id}`);

/** The path of a photo's file from the root that was indexed; of an upload its name. */
export function pathOf(item) {
  const folders = [item.tags?.folder ?? []].flat();
  const folder = folders.reduce((longest, each) => (each.length > longest.length ? each : longest), "");
  return folder ? `${folder}/${fileOf(item)}` : fileOf(item);
}

/** The tags that are words by themselves. */
export const keywordsOf = (item) => [item.tags?.keywords ?? []].flat();

/** A document's name in words: its caption, else its file's name, else its id. */
export const nameOf = (item) => item.text ?? item.captions?.[0]?.text ?? fileOf(item);
