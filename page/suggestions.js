import { api } from "./api.js";
import { byId, make } from "./dom.js";
import { button } from "./messages.js";
import { recentLink, recentSearches, clearRecent } from "./recent.js";
import { DEFAULTS, writeAddress } from "./state.js";

const EXAMPLES = 5;
const LONGEST_EXAMPLE = 52;
const RECENT = 4;
let examples = null;

/** Forgets the examples, since the index has changed. */
export function forgetExamples() {
  examples = null;
}

// Data sets often put a space before the full stop, as tokenisers do.
const asQuery = (caption) => caption.trim().replace(/\s*[.!]+$/, "");

async function loadExamples() {
  const { documents } = await api.documents({ modality: "text", limit: 100 });
  const byPhoto = new Map();
  for (const { id, text, photo } of documents) {
    const query = asQuery(text ?? "");
    const key = photo?.id ?? id;
    if (query.length >= 12 && query.length <= LONGEST_EXAMPLE && !/[<>{}]/.test(query) && !byPhoto.has(key)) byPhoto.set(key, query);
  }
  const all = [...byPhoto.values()];
  const step = Math.max(1, Math.floor(all.length / EXAMPLES));
  return all.filter((_, position) => position % step === 0).slice(0, EXAMPLES);
}

function exampleLink(text) {
  const href = writeAddress({ ...DEFAULTS, terms: [{ kind: "text", value: text, weight: 1 }] });
  return make("a", { class: "suggestion", href, data: { stateLink: "", testid: "example" }, text });
}

function draw() {
  const recent = recentSearches().slice(0, RECENT);
  const rows = [];
  if (examples?.length) {
    rows.push(make("div", { class: "suggestion-row" }, make("span", { class: "row-name", text: "Try" }), ...examples.map(exampleLink)));
  }
  if (recent.length) {
    const clear = () => {
      clearRecent();
      draw();
    };
    rows.push(
      make(
        "div",
        { class: "suggestion-row recent" },
        make("span", { class: "row-name", text: "Recent" }),
        ...recent.map((search) => recentLink(search, "suggestion")),
        button("Clear", { kind: "quiet", on: { click: clear }, testid: "recent-clear-row", "aria-label": "Clear the recent searches" }),
      ),
    );
  }
  byId("suggestions").replaceChildren(...rows);
}

/** Shows example searches taken from the captions that are indexed, and the latest own ones; hides them elsewhere. */
export async function showSuggestions(visible) {
  byId("suggestions").hidden = !visible;
  if (!visible) return;
  draw();
  if (examples) return;
  try {
    examples = await loadExamples();
  } catch {
    return; // the photos below tell why the server does not answer
  }
  draw();
}

/** Draws the row of recent searches again. */
export const refreshSuggestions = () => draw();
