import { known, lookUp, nameOf } from "./api.js";
import { byId, icon, make, redraw } from "./dom.js";
import { iconButton, toast } from "./messages.js";
import { MAX_TERMS, currentState, navigate } from "./navigation.js";
import { upload } from "./pictures.js";
import { pictureOf } from "./results.js";

/** A fresh minus pulls half as hard as the wish it corrects; more would drown the wish. */
const MINUS_WEIGHT = -0.5;
const SLIDER_END = 3;

/** A term's name in words. */
export function termName(term) {
  if (term.kind === "text") return term.value;
  if (term.kind === "upload") return upload(term.value)?.name ?? "your picture";
  const item = known(term.value);
  return item ? nameOf(item) : `photo ${term.value}`;
}

function change(position, changes) {
  const terms = currentState().terms.map((term, each) => (each === position ? { ...term, ...changes } : term));
  navigate({ terms });
}

/** Takes a term out of the search. */
function removeTerm(position) {
  navigate({ terms: currentState().terms.filter((_, each) => each !== position) });
}

/** Adds a term, with a minus for `less`; one that is there already gets the new weight instead. */
export function addTerm(kind, value, { less = false } = {}) {
  const { terms, view } = currentState();
  const weight = less ? MINUS_WEIGHT : 1;
  const position = terms.findIndex((term) => term.kind === kind && term.value === value);
  if (position >= 0) {
    if (terms[position].weight !== weight) change(position, { weight });
    return;
  }
  if (terms.length >= MAX_TERMS) {
    toast(`A search has at most ${MAX_TERMS} terms. Remove one first.`, { kind: "error" });
    return;
  }
  if (less && !terms.some((term) => term.weight > 0)) {
    toast("Say first what you want to see: a sentence, or “More like this”. Then take things away.");
    return;
  }
  navigate({ view: view === "search" ? view : "search", open: null, terms: [...terms, { kind, value, weight }] });
}

function picture(term) {
  const source = term.kind === "upload" ? upload(term.value)?.url : term.kind === "id" ? pictureOf(term.value) : null;
  return source ? make("img", { class: "chip-picture", src: source, alt: "", width: 36, height: 36, decoding: "async" }) : null;
}

const weightText = (weight) => `×${Math.abs(weight)}`;

function weightSlider(term, position, name) {
  const strength = Math.abs(term.weight);
  const output = make("output", { class: "chip-weight", text: weightText(term.weight) });
  const slider = make("input", {
    type: "range",
    min: 0.1,
    max: Math.max(SLIDER_END, strength),
    step: 0.1,
    value: strength,
    "aria-label": `Weight of ${name}`,
    title: "How much this counts",
    data: { focusKey: `weight-${position}`, testid: "term-weight" },
    on: {
      input: (event) => (output.textContent = weightText(Number(event.target.value))),
      change: (event) => change(position, { weight: Math.sign(term.weight) * Number(event.target.value) }),
    },
  });
  return [slider, output];
}

function chip(term, position, alone) {
  const name = termName(term);
  const minus = term.weight < 0;
  const sign = iconButton(
    minus ? "minus" : "plus",
    minus ? `Less of ${name}: pressed` : `Less of ${name}`,
    () => change(position, { weight: minus ? 1 : MINUS_WEIGHT }),
    {
      class: "chip-sign",
      "aria-pressed": String(minus),
      title: minus ? "Taken away; press to add it instead" : "Added; press to take it away instead",
      data: { focusKey: `sign-${position}`, testid: "term-sign" },
    },
  );
  const remove = iconButton("close", `Remove ${name}`, () => removeTerm(position), {
    class: "chip-remove",
    title: "Remove",
    data: { focusKey: `remove-${position}`, testid: "term-remove" },
  });
  return make(
    "li",
    { class: minus ? "chip minus" : "chip", data: { testid: "term", kind: term.kind, value: term.value, weight: term.weight } },
    !alone && sign,
    picture(term),
    make("span", { class: "chip-name", text: name, title: name }),
    ...(alone ? [] : weightSlider(term, position, name)),
    remove,
  );
}

function refineForm() {
  const input = make("input", {
    id: "refine-box",
    type: "text",
    dir: "auto",
    maxlength: 2000,
    autocomplete: "off",
    placeholder: "Refine with words",
    "aria-label": "Words to add or take away",
    data: { focusKey: "refine", testid: "refine-box" },
  });
  const add = (less) => {
    const value = input.value.trim();
    if (!value) {
      input.focus();
      return;
    }
    input.value = "";
    addTerm("text", value, { less });
  };
  const refine = (type, word, symbol, click = () => undefined) =>
    make(
      "button",
      { type, class: `refine-button ${word}`, title: `Show ${word} of this`, data: { testid: `refine-${word}` }, on: { click } },
      icon(symbol),
      word === "more" ? "More of" : "Less of",
    );
  return make(
    "form",
    { class: "refine", data: { testid: "refine" }, on: { submit: (event) => (event.preventDefault(), add(false)) } },
    input,
    refine("submit", "more", "plus"),
    refine("button", "less", "minus", () => add(true)),
  );
}

/** Draws the terms of the search and the field that adds one. */
export function showTerms(state) {
  const place = byId("terms");
  place.hidden = state.terms.length === 0;
  if (place.hidden) {
    place.replaceChildren();
    return;
  }
  const typed = place.querySelector("#refine-box")?.value ?? "";
  const onlyMain = state.terms.length === 1 && state.terms[0].kind === "text" && state.terms[0].weight > 0;
  const alone = state.terms.length === 1 && state.terms[0].weight > 0;
  const list = make("ul", { class: "chips", data: { testid: "chips" } }, ...state.terms.map((term, position) => chip(term, position, alone)));
  redraw(place, onlyMain ? null : list, refineForm());
  place.querySelector("#refine-box").value = typed;
  for (const term of state.terms) {
    if (term.kind !== "id" || known(term.value)) continue;
    // A link may name a document that has gone: the search itself says so, the chip keeps its id.
    lookUp(term.value).then(
      () => currentState() === state && showTerms(state),
      () => undefined,
    );
  }
}
