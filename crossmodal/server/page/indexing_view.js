import { api, Problem } from "./api.js";
import { byId, count, icon, make } from "./dom.js";
import { announce, button, errorCard, explainInLine, messageCard } from "./messages.js";
import { DEFAULTS, navigate } from "./navigation.js";
import { FORMATS, VIDEOS } from "./formats.js";
import { hasPhotoName, PHOTO_TYPES } from "./pictures.js";

/** Whether a file looks like a photo, by its type or its name. */
const isPhoto = (file) => (file.type.startsWith("image/") && file.type !== "image/svg+xml") || hasPhotoName(file.name);

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
async function droppedFiles(transfer) {
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
    // An answer names its file, so that one request never holds a name twice.
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
async function sendAll(files, options) {
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

/** Rows of files that went well; failures are always listed in full. */
const ROWS = 200;
const WORDS = { added: "added", replaced: "replaced", unchanged: "was there already" };

let visible = false;
let run = null;
let onChanged = () => undefined;

const part = (testid) => byId("indexing-view").querySelector(`[data-testid=${testid}]`);

function picker(label, symbol, testid, attributes) {
  const input = make("input", {
    type: "file",
    multiple: true,
    class: "visually-hidden",
    tabindex: -1,
    "aria-label": label,
    data: { testid: `${testid}-input` },
    on: {
      change: (event) => {
        const files = [...event.target.files];
        event.target.value = "";
        start(files);
      },
    },
    ...attributes,
  });
  return [button(label, { symbol, kind: testid === "choose-photos" ? "primary" : "", testid, on: { click: () => input.click() } }), input];
}

function dropZone() {
  const zone = make(
    "div",
    { class: "drop-zone", data: { testid: "drop-zone" } },
    make("span", { class: "message-symbol" }, icon("image")),
    make("h2", { text: "Drop photos or a folder here" }),
    make("p", { class: "muted", text: "Their originals are sent to this server and nowhere else. Photos that are there already are skipped." }),
    make(
      "div",
      { class: "message-actions" },
      ...picker("Choose photos", "image", "choose-photos", { accept: PHOTO_TYPES }),
      ...picker("Choose a folder", "folder", "choose-folder", { webkitdirectory: true }),
    ),
  );
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  return zone;
}

function tagField() {
  return make(
    "label",
    { class: "tag-field" },
    make("span", { text: "Tag them all (optional)" }),
    make("input", { type: "text", maxlength: 200, placeholder: "place=harbour, year=2024", autocomplete: "off", data: { testid: "upload-tags" } }),
    make("span", { class: "hint", text: "Tags become filters of the search." }),
  );
}

/** {place: "harbour", year: 2024} of "place=harbour, year=2024"; null for nothing. Throws a sentence. */
function readTags(written) {
  const tags = {};
  for (const pair of written.split(",").map((each) => each.trim()).filter(Boolean)) {
    const [name, ...rest] = pair.split("=");
    const value = rest.join("=").trim();
    if (!name.trim() || !value) throw new Error(`“${pair}” is not a tag. Write name=value, with a comma between tags.`);
    tags[name.trim()] = /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value;
  }
  return Object.keys(tags).length ? tags : null;
}

function newRun(files) {
  const photos = files.filter(isPhoto);
  return {
    files: photos,
    leftOut: files.filter((file) => !isPhoto(file)),
    done: 0,
    counts: { added: 0, replaced: 0, unchanged: 0, failed: 0 },
    failures: [],
    controller: new AbortController(),
    cancelled: false,
  };
}

function summaryOf({ counts, files, done, cancelled, leftOut }) {
  const said = [
    counts.added && `${counts.added} added`,
    counts.replaced && `${counts.replaced} replaced`,
    counts.unchanged && `${counts.unchanged} already there`,
    counts.failed && `${counts.failed} failed`,
    cancelled && `${files.length - done} not sent`,
    leftOut.length && `${count(leftOut.length, "other file")} left out`,
  ].filter(Boolean);
  return said.join(", ");
}

function drawProgress(state, words) {
  const bar = part("upload-progress");
  bar.max = Math.max(1, state.files.length);
  bar.value = state.done;
  part("upload-words").textContent = words;
  part("upload-summary").textContent = summaryOf(state);
}

function row({ file, outcome, id, error }) {
  const words = error ?? WORDS[outcome] ?? outcome;
  const name = file.webkitRelativePath || file.name;
  return make(
    "li",
    { class: error ? "failed" : outcome, data: { testid: "upload-outcome", outcome: outcome ?? "failed" } },
    icon(error ? "warning" : "check"),
    id && !error
      ? make("a", { href: `./?open=${encodeURIComponent(id)}`, data: { stateLink: "" }, class: "upload-name", text: name })
      : make("span", { class: "upload-name", text: name }),
    make("span", { class: "upload-said", text: words }),
  );
}

function takeOutcomes(state, outcomes) {
  for (const outcome of outcomes) {
    state.done += 1;
    state.counts[outcome.error ? "failed" : outcome.outcome] += 1;
    if (outcome.error) {
      state.failures.push(outcome.file);
      part("upload-failures").append(row(outcome));
      part("upload-failures").parentElement.hidden = false;
    } else {
      const list = part("upload-done");
      list.prepend(row(outcome));
      if (list.childElementCount > ROWS) list.lastElementChild.remove();
      list.parentElement.hidden = false;
    }
  }
  const hidden = state.done - state.failures.length - ROWS;
  part("upload-done-note").textContent = hidden > 0 ? `The latest ${ROWS} are listed; ${count(hidden, "earlier one")} went well, too.` : "";
}

function runPanel(state) {
  const cancel = button("Cancel", {
    testid: "upload-cancel",
    on: {
      click: () => {
        state.cancelled = true;
        state.controller.abort(new DOMException("cancelled", "AbortError"));
      },
    },
  });
  const leftOut = state.leftOut.map((file) => make("li", { text: file.webkitRelativePath || file.name }));
  return make(
    "section",
    { class: "panel run", "aria-label": "Progress", data: { testid: "upload-run" } },
    make(
      "div",
      { class: "run-head" },
      make("p", { class: "run-words", data: { testid: "upload-words" } }),
      make("div", { class: "run-actions", data: { testid: "upload-actions" } }, cancel),
    ),
    make("progress", { value: 0, max: 1, "aria-label": "Files sent", data: { testid: "upload-progress" } }),
    make("p", { class: "muted", data: { testid: "upload-summary" } }),
    make("div", { hidden: true }, make("h3", { text: "Failed" }), make("ul", { class: "outcomes", data: { testid: "upload-failures" } })),
    leftOut.length > 0 &&
      make(
        "details",
        { class: "left-out", data: { testid: "upload-left-out" } },
        make("summary", { text: `${count(leftOut.length, "file")} left out: no photos by their names` }),
        make("ul", {}, ...leftOut),
      ),
    make(
      "div",
      { hidden: true },
      make("h3", { text: "Done" }),
      make("ul", { class: "outcomes", data: { testid: "upload-done" } }),
      make("p", { class: "muted", data: { testid: "upload-done-note" } }),
    ),
  );
}

function finish(state, error) {
  run = null;
  const actions = [];
  const again = [...state.failures, ...(state.unsent ?? [])];
  if (again.length) actions.push(button(state.cancelled ? "Go on" : "Try the failed ones again", { symbol: "retry", testid: "upload-again", on: { click: () => start(again) } }));
  if (state.counts.added || state.counts.replaced) {
    onChanged();
    actions.push(button("See the photos", { kind: "primary", testid: "upload-see", on: { click: () => navigate({ ...DEFAULTS }) } }));
  }
  part("upload-actions").replaceChildren(...actions);
  const words = state.cancelled ? "Cancelled." : error ? "Stopped." : "Finished.";
  drawProgress(state, words);
  if (error) part("upload-run").append(errorCard(error, () => start(again)));
  announce(`${words} ${summaryOf(state)}`);
}

async function start(files) {
  if (run || !files.length) return;
  const problem = part("upload-problem");
  problem.replaceChildren();
  let tags;
  try {
    tags = readTags(part("upload-tags").value);
  } catch (error) {
    problem.replaceChildren(messageCard({ title: "The tags cannot be read", detail: error.message, kind: "error", symbol: "warning" }));
    return;
  }
  const state = newRun(files);
  if (!state.files.length) {
    problem.replaceChildren(
      messageCard({
        title: "No photos among these files",
        detail: `${count(files.length, "file")}, none of them a photo by its name. Photos are ${FORMATS}. Videos (${VIDEOS.join(", ")}) are indexed with their folder.`,
        kind: "error",
        symbol: "warning",
        testid: "upload-no-photos",
      }),
    );
    return;
  }
  run = state;
  part("upload-place").replaceChildren(runPanel(state));
  const total = count(state.files.length, "photo");
  drawProgress(state, `Starting, ${total} to send. The first ones take a few seconds longer.`);
  announce(`Sending ${total}.`);
  try {
    const unsent = await sendAll(state.files, {
      signal: state.controller.signal,
      tags,
      onSending: (batch) => drawProgress(state, `${state.done} of ${total}: sending ${batch[0].name}${batch.length > 1 ? " and others" : ""}`),
      onOutcomes: (outcomes) => takeOutcomes(state, outcomes),
      onRetry: (seconds) => drawProgress(state, `The server is busy; trying again in ${Math.ceil(seconds)} s`),
    });
    state.unsent = unsent;
    finish(state, null);
  } catch (error) {
    state.unsent = state.files.slice(state.done);
    finish(state, error);
  }
}

function writingOff(reason) {
  return messageCard({
    title: "Adding photos is switched off on this server",
    detail: `${reason ?? "It gave no reason."} You can index a folder where the server runs: crossmodal index ~/Pictures`,
    symbol: "warning",
    testid: "writing-off",
  });
}

async function build() {
  const view = byId("indexing-view");
  const place = make("div", { data: { testid: "upload-entry" } }, make("p", { class: "muted", text: "Asking the server…" }));
  view.replaceChildren(
    make(
      "header",
      { class: "view-header" },
      make("h1", { id: "indexing-title", text: "Add photos" }),
      make("p", { class: "muted", text: "They can be found by a sentence a moment later." }),
    ),
    place,
    make("div", { data: { testid: "upload-problem" }, "aria-live": "polite" }),
    make("div", { data: { testid: "upload-place" } }),
  );
  try {
    const { writing } = await api.status();
    place.replaceChildren(...(writing.allowed ? [dropZone(), tagField()] : [writingOff(writing.reason)]));
  } catch (error) {
    place.replaceChildren(errorCard(error, build));
  }
}

/** Shows the indexing view; a run under way goes on while it is hidden. */
export function showIndexing(open) {
  if (open === visible) return;
  visible = open;
  if (open && !run) build();
}

/** @param {{changed: () => void}} given `changed` is called after a run that changed the index */
export function startIndexing({ changed }) {
  onChanged = changed;
  addEventListener("drop", async (event) => {
    if (!visible || !part("drop-zone")) return;
    event.preventDefault();
    part("drop-zone").classList.remove("over");
    const files = droppedFiles(event.dataTransfer);
    start(await files);
  });
  addEventListener("beforeunload", (event) => {
    if (run) event.preventDefault();
  });
}
