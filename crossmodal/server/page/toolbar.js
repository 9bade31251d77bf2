import { ROOT } from "./api.js";
import { byId, icon, make, redraw } from "./dom.js";
import { narrowing, toggleFilters } from "./filters.js";
import { iconButton, toast } from "./messages.js";
import { currentState, navigate, writeAddress } from "./navigation.js";
import { countSentence } from "./results.js";
import { currentDensity, setDensity } from "./rows.js";
import { hasCaptions, searchBody } from "./search.js";

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * A shell command that asks this server the same question.
 * Pictures make it longer than the 128 KiB that Linux allows one argument, so that those go through a here-document.
 */
function curlCommand(state) {
  const target = `curl --request POST ${quote(`${location.origin}${ROOT}v1/search`)} --header 'Content-Type: application/json'`;
  const body = JSON.stringify(searchBody(state));
  if (state.terms.some((term) => term.kind === "upload")) return `${target} --data-binary @- <<'END_OF_QUERY'\n${body}\nEND_OF_QUERY\n`;
  return `${target} --data ${quote(body)}`;
}

function copyTheOldWay(text) {
  const field = make("textarea", { class: "visually-hidden", readonly: true, "aria-hidden": "true" });
  field.value = text;
  // Outside an open modal dialog nothing can be selected.
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  const focused = document.activeElement;
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return copied;
}

/** Copies text, also where the page is not on a secure origin and the clipboard interface is missing. */
export async function copy(text, message) {
  let copied = false;
  try {
    await navigator.clipboard.writeText(text);
    copied = true;
  } catch {
    copied = copyTheOldWay(text);
  }
  if (copied) toast(message);
  else toast("This browser does not let the page copy. Take the address from the address bar.", { kind: "error" });
}

/** Copies the link of what is shown; uploads stay behind, and the message says so. */
export function copyLink(changes = {}) {
  const state = { ...currentState(), ...changes };
  const uploads = state.terms.some((term) => term.kind === "upload");
  const message = uploads ? "Link copied. It leaves out the pictures that you uploaded." : "Link copied.";
  return copy(`${location.origin}${writeAddress(state)}`, message);
}

/** Copies the search as a command for the shell. */
const copyCurl = () => copy(curlCommand(currentState()), "curl command copied.");

/** Saves an answer as a JSON file: the request, and all results loaded so far. */
function downloadResults(answer) {
  const content = {
    request: answer.body,
    model: answer.model,
    timing: answer.timing,
    results: answer.results,
  };
  const blob = new Blob([`${JSON.stringify(content, null, 2)}\n`], { type: "application/json" });
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: "search-results.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const SHOW_LABELS = { photos: "Photos", captions: "Captions" };
const WAYS = { rows: "By date", similar: "Similar", map: "Map" };
const DENSITY_LABELS = { small: "S", medium: "M", large: "L" };
function segments(name, legend, choices, chosen, choose) {
  const labels = Object.entries(choices).map(([value, label]) =>
    make(
      "label",
      { class: "segment" },
      make("input", {
        type: "radio",
        name,
        value,
        checked: value === chosen,
        "aria-label": label.length > 1 ? null : value.replace(/^./, (letter) => letter.toUpperCase()),
        data: { focusKey: `${name}-${value}`, testid: `${name}-${value}` },
        on: { change: () => choose(value) },
      }),
      make("span", { text: label }),
    ),
  );
  return make("fieldset", { class: "segments", data: { testid: name } }, make("legend", { class: "visually-hidden", text: legend }), ...labels);
}

const tool = (symbol, label, testid, click, disabled = false) => iconButton(symbol, label, click, { disabled, data: { testid, focusKey: testid } });

function filterButton(state) {
  const active = narrowing(state);
  const pressed = !byId("filters").hidden;
  const click = (event) => {
    toggleFilters();
    event.currentTarget.setAttribute("aria-expanded", String(!byId("filters").hidden));
  };
  return make(
    "button",
    {
      type: "button",
      class: "button",
      "aria-expanded": String(pressed),
      "aria-controls": "filters",
      data: { testid: "filters-button", focusKey: "filters-button" },
      on: { click },
    },
    icon("filter"),
    make("span", { class: "filter-word", text: "Filters" }),
    active > 0 && make("span", { class: "badge", text: String(active) }, make("span", { class: "visually-hidden", text: " in force" })),
  );
}

function summary(answer) {
  const line = make("p", { class: "count", dir: "auto", id: "result-count", tabindex: -1, data: { testid: "result-count" } });
  if (!answer) {
    line.textContent = "Searching…";
    return line;
  }
  line.textContent = countSentence(answer);
  line.title = `Found in ${Math.round(answer.timing.total_ms).toLocaleString("en")} ms`;
  return line;
}

let placesKnown = false;

/** Says whether photos have places, for the map. */
export function setPlaces(known) {
  placesKnown = known;
}

/** Draws the line above the results; `answer` is null while the first one is awaited. */
export function showToolbar(state, answer) {
  const bar = byId("toolbar");
  bar.hidden = false;
  const density = segments("density", "Size of the photos", DENSITY_LABELS, currentDensity(), setDensity);
  if (!state.terms.length) {
    const { map, ...ways } = WAYS;
    const offered = placesKnown || state.as === "map" ? { ...ways, map } : ways;
    const way = !state.moment && segments("as", "How to show the photos", offered, state.as, (as) => navigate({ as }));
    redraw(bar, make("div", { class: "toolbar-tools" }, way, state.as === "rows" && density, filterButton(state)));
    return;
  }
  const facts = make("div", { class: "toolbar-facts" }, summary(answer));
  const tools = make(
    "div",
    { class: "toolbar-tools" },
    hasCaptions() && segments("show", "What to show", SHOW_LABELS, state.show, (show) => navigate({ show })),
    state.show === "photos" && density,
    filterButton(state),
    make(
      "div",
      { class: "tool-group" },
      tool("link", "Copy the link", "copy-link", () => copyLink()),
      tool("code", "Copy as curl", "copy-curl", copyCurl),
      tool("download", "Download the results as JSON", "download-json", () => downloadResults(answer), !answer),
    ),
  );
  redraw(bar, facts, tools);
}
