import { api, Problem } from "./api.js";
import { explainInLine } from "./messages.js";

/** File endings of photos; browsers know no type for some of them. */
const PHOTO_NAME = /\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|heic|heif)$/i;

/** Whether a file looks like a photo, by its type or its name. */
export const isPhoto = (file) => (file.type.startsWith("image/") && file.type !== "image/svg+xml") || PHOTO_NAME.test(file.name);

async function* entriesOf(directory) {
  const reader = directory.createReader();
  // A reader hands over at most a hundred entries at a time, and none when it is done.
  for (;;) {
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return;
    yield* entries;
  }
}

async function* filesOf(entry) {
  if (entry.isFile) yield new Promise((resolve, reject) => entry.file(resolve, reject));
  else if (entry.isDirectory) for await (const inner of entriesOf(entry)) yield* filesOf(inner);
}

/**
 * All files of a drop, folders searched to any depth.
 * @param {DataTransfer} transfer
 * @returns {Promise<File[]>}
 */
export async function droppedFiles(transfer) {
  // The transfer is emptied when the event is over: take the entries before the first await.
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? null);
  if (!entries.length || entries.includes(null)) return [...transfer.files];
  const files = [];
  for (const entry of entries) for await (const file of filesOf(entry)) files.push(file);
  return files;
}

const BATCH_FILES = 4;
const BATCH_BYTES = 16_000_000;
/** The first write starts the index Flow, which loads the model. */
const TIMEOUT_MS = 180_000;

function nextBatch(files) {
  const batch = [];
  const names = new Set();
  let size = 0;
  for (const file of files) {
    const full = batch.length >= BATCH_FILES || (batch.length > 0 && size + file.size > BATCH_BYTES);
    // Answers are told apart by the file's name, so that one request never holds a name twice.
    if (full || names.has(file.name)) break;
    batch.push(file);
    names.add(file.name);
    size += file.size;
  }
  return batch;
}

function formOf(batch, tags) {
  const form = new FormData();
  if (tags) form.append("metadata", JSON.stringify({ "*": { tags } }));
  for (const file of batch) form.append("file", file, file.name);
  return form;
}

// Captions of a photo are results of their own; the photo's result speaks for the file.
function outcomeOf(file, results) {
  const own = results.filter((result) => result.source === file.name);
  const result = own.find((each) => each.error) ?? own.find((each) => each.modality === "image") ?? own[0];
  if (!result) return { file, outcome: null, id: null, error: "The server said nothing about this file." };
  return { file, outcome: result.outcome, id: result.id, error: result.error };
}

async function send(batch, options) {
  try {
    const { results } = await api.upload(formOf(batch, options.tags), { signal: options.signal, timeout: TIMEOUT_MS, onRetry: options.onRetry });
    return batch.map((file) => outcomeOf(file, results));
  } catch (error) {
    if (options.signal.aborted) throw error;
    // One file too large must not cost its neighbours.
    if (error instanceof Problem && error.status === 413 && batch.length > 1) {
      const outcomes = [];
      for (const file of batch) outcomes.push(...(await send([file], options)));
      return outcomes;
    }
    if (error instanceof Problem && error.status === 403) throw error; // the others would be refused as well
    return batch.map((file) => ({ file, outcome: null, id: null, error: explainInLine(error) }));
  }
}

/**
 * Sends files a few at a time.
 * @param {File[]} files
 * @param {{signal: AbortSignal, tags?: object|null, onOutcomes: (outcomes: object[]) => void, onSending: (batch: File[]) => void,
 *   onRetry?: (seconds: number) => void}} options `onOutcomes` gets {file, outcome, id, error} of each file of a batch
 * @returns {Promise<File[]>} the files that were not sent, because of `signal`
 * @throws {Problem} 403, when writing is off
 */
export async function sendAll(files, options) {
  let waiting = files;
  while (waiting.length && !options.signal.aborted) {
    const batch = nextBatch(waiting);
    options.onSending(batch);
    try {
      options.onOutcomes(await send(batch, options));
    } catch (error) {
      if (options.signal.aborted) return waiting;
      throw error;
    }
    waiting = waiting.slice(batch.length);
  }
  return waiting;
}
