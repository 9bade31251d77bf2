import { api } from "./api.js";
import { byId, count, icon, make } from "./dom.js";
import { announce, button, errorCard, messageCard } from "./messages.js";
import { navigate } from "./navigation.js";
import { DEFAULTS } from "./state.js";
import { droppedFiles, isPhoto, sendAll } from "./upload_queue.js";

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
      ...picker("Choose photos", "image", "choose-photos", { accept: "image/*" }),
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
export function readTags(written) {
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
      ? make("a", { href: `/?open=${encodeURIComponent(id)}`, data: { stateLink: "" }, class: "upload-name", text: name })
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
        detail: `${count(files.length, "file")}, none of them a JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC picture by its name.`,
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
