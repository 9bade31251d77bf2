import { api } from "./api.js";
import { icon, make } from "./dom.js";
import { announce } from "./messages.js";
import { currentState, isSearch, searchKey } from "./navigation.js";
import { percent } from "./results.js";
import { explainingBody, matchesWords } from "./search.js";
import { termName } from "./terms.js";

/** Why the open photo was found: what each term gave, which words are in it, and which parts of it a word has to do with. */

const line = (text) => make("p", { class: "muted", text });

// The last explanation asked for, {key, answer}: a photo is drawn again while it is open.
let asked = { key: "", answer: null };

function explanationOf(id) {
  const state = currentState();
  const key = `${id} ${searchKey(state)}`;
  if (asked.key !== key) asked = { key, answer: api.search(explainingBody(state, id)).then(({ results }) => results[0].matches?.[0]?.explanation) };
  return asked.answer;
}

/** Of several terms what each one added to the cosine, or took away. */
function termRows(terms) {
  const most = Math.max(...terms.map(({ gave }) => Math.abs(gave)));
  return currentState().terms.map((term, at) => {
    const { gave } = terms[at];
    const bar = make("span");
    bar.style.inlineSize = `${(100 * Math.abs(gave)) / most}%`;
    const sign = gave < 0 ? "−" : "+";
    return make(
      "li",
      { class: gave < 0 ? "taken" : "given", data: { testid: "why-term" } },
      make("span", { class: "score-bar", "aria-hidden": "true" }, bar),
      make("span", { text: `${sign}${Math.abs(gave).toFixed(2)}` }),
      make("span", { text: term.weight < 0 ? `less ${termName(term)}` : termName(term) }),
    );
  });
}

const FIELDS = { caption: "a caption", file: "the file’s name", text_in_photo: "the text in the photo" };

const quoted = (words) => [...new Set(words)].map((word) => `\u201c${word}\u201d`).join(", ");

function drawExplanation(place, explanation) {
  const { terms, words } = explanation;
  if (terms.length > 1) place.append(make("ul", { class: "why-terms", "aria-label": "What each term gave" }, ...termRows(terms)));
  for (const [field, name] of Object.entries(FIELDS)) {
    const found = words.filter((each) => each.field === field).flatMap((each) => each.words);
    if (found.length) place.append(line(`In ${name}: ${quoted(found)}`));
  }
}

/** Words that are in nearly every sentence. */
const SMALL = new Set(["among", "and", "are", "for", "from", "has", "her", "his", "its", "near", "the", "their", "this", "that", "with"]);
const MOST_WORDS = 8;

/** The sentences of a search, and each word by itself where there are several. */
function mappable() {
  const texts = currentState().terms.filter(({ kind, weight }) => kind === "text" && weight > 0).map(({ value }) => value);
  const words = texts.flatMap((text) => text.toLowerCase().match(/\p{L}{3,}/gu) ?? []).filter((word) => !SMALL.has(word));
  return [...new Set([...texts, ...(words.length > 1 ? words : [])])].slice(0, MOST_WORDS);
}

/** A veil over the photo, thin where greying out a part takes most off the cosine. */
function veil({ falls, part }, ratio) {
  const side = falls.length;
  const most = Math.max(...falls.flat());
  const cells = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const pen = cells.getContext("2d");
  falls.forEach((row, top) => {
    row.forEach((fall, left) => {
      pen.fillStyle = `rgb(0 0 0 / ${Math.round(82 * (1 - Math.max(0, fall) / most))}%)`;
      pen.fillRect(left, top, 1, 1);
    });
  });
  const whole = Object.assign(document.createElement("canvas"), { width: 320, height: Math.round(320 / ratio) });
  const drawn = whole.getContext("2d");
  const [left, top, right, bottom] = part ?? [0, 0, 1, 1];
  drawn.imageSmoothingQuality = "high";
  drawn.drawImage(cells, left * whole.width, top * whole.height, (right - left) * whole.width, (bottom - top) * whole.height);
  return whole.toDataURL();
}

/** "at the top left", of the part with the largest fall. */
function hottest(falls) {
  const flat = falls.flat();
  const at = flat.indexOf(Math.max(...flat));
  const third = (number) => Math.min(2, Math.floor((3 * (number + 0.5)) / falls.length));
  const [down, across] = [third(Math.floor(at / falls.length)), third(at % falls.length)];
  const words = [["top", "", "bottom"][down], ["left", "", "right"][across]].filter(Boolean).join(" ");
  return words ? `at the ${words}` : "in the middle";
}

const removeVeil = () => document.querySelector(".lightbox-stage .veil")?.remove();

async function showHeat(button, id, text, said) {
  const pressed = button.getAttribute("aria-pressed") === "true";
  removeVeil();
  for (const each of button.parentElement.children) each.setAttribute("aria-pressed", "false");
  if (pressed) return;
  button.setAttribute("aria-busy", "true");
  try {
    const heat = await api.heatMap(id, text);
    const photo = document.querySelector(`#lightbox[data-id="${CSS.escape(id)}"] .lightbox-stage > img`);
    if (!photo || !button.isConnected) return;
    if (Math.max(...heat.falls.flat()) <= 0) {
      said.textContent = `No part of it stands out for \u201c${text}\u201d.`;
      return;
    }
    const words = `\u201c${text}\u201d is seen most ${hottest(heat.falls)}.`;
    const cover = make("img", { class: "veil", alt: words, src: veil(heat, photo.naturalWidth / photo.naturalHeight), data: { testid: "heat", of: `${id} ${text}` } });
    cover.style.setProperty("--ratio", photo.style.getPropertyValue("--ratio"));
    removeVeil();
    photo.after(cover);
    button.setAttribute("aria-pressed", "true");
    said.textContent = "";
    announce(words);
  } catch (error) {
    said.textContent = error.detail ?? error.message;
  } finally {
    button.removeAttribute("aria-busy");
  }
}

function heatRow(id) {
  const said = line("");
  // The panel is drawn again while the veil stays.
  const covered = document.querySelector(".lightbox-stage .veil")?.dataset.of;
  const button = (text) =>
    make("button", { type: "button", class: "suggestion", "aria-pressed": String(covered === `${id} ${text}`), text, data: { testid: "heat-of" }, on: { click: (event) => showHeat(event.currentTarget, id, text, said) } });
  const texts = mappable();
  return texts.length ? [line("Show which parts of it fit:"), make("div", { class: "panel-chips" }, ...texts.map(button)), said] : [];
}

/** Why a match was found, as a row of the panel; null for what no search has found. */
export function whyFound(match) {
  if (typeof match?.cosine !== "number") return null;
  const { vector_rank: meaning, word_rank: words, text_rank: text } = match.parts ?? {};
  const caption = match.found_caption;
  const said = [
    typeof match.score === "number" ? `Score ${percent(match.score)}, cosine ${match.cosine.toFixed(3)}` : `Cosine ${match.cosine.toFixed(3)}`,
    meaning && `place ${meaning} by meaning`,
    words && `place ${words} by words`,
    text && `place ${text} by the text in it`,
  ];
  const more = make("div", { data: { testid: "why" } });
  const photo = match.modality === "image" && isSearch(currentState());
  const many = currentState().terms.length > 1 || matchesWords(currentState());
  // What it adds is worth no message where it fails.
  if (photo && many) explanationOf(match.id).then((explanation) => explanation && drawExplanation(more, explanation), () => undefined);
  return make(
    "div",
    { class: "panel-row" },
    icon("search"),
    make(
      "div",
      {},
      line(said.filter(Boolean).join(", ")),
      caption && line(`Its caption matched: \u201c${caption.text}\u201d`),
      more,
      ...(photo && !match.video ? heatRow(match.id) : []),
    ),
  );
}
