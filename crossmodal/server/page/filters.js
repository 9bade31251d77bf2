import { api } from "./api.js";
import { byId, count, icon, make, redraw } from "./dom.js";
import { button, errorCard } from "./messages.js";
import { PAGE_SIZES, currentState, navigate } from "./navigation.js";
import { hasWords, matchesWords, wordsChoice } from "./search.js";

/**
 * Filters of the API, as the filter panel understands them: for each field the wanted values, the ends of a
 * range, a point in degrees with a distance in km, and whether the tag has to exist. Whatever else a link's
 * filter says is left as it is.
 *
 * @typedef {{
 *   values: Array, min: number|string|null, max: number|string|null, near: [number, number]|null, km: number|null,
 *   exists: boolean|null,
 * }} Choice
 */
const RESERVED = /^(modality$|tags\.|\$)/;

// "modality" alone means the document's modality, so that a tag of this name needs the long form.
const fieldOf = (tag) => (RESERVED.test(tag) ? `tags.${tag}` : tag);
const tagOf = (field) => (field.startsWith("tags.") ? field.slice("tags.".length) : field);

/** @returns {Choice} */
const noChoice = () => ({ values: [], min: null, max: null, near: null, km: null, exists: null });

// Not a tag: the ids of the photos to search within. No tag has this name, as none is empty.
const WITHIN = "";

// Where photos were taken: latitude and longitude together, under a name that filters know.
const PLACE = "location";
const USUAL_KM = 5;

// The bounds of dates are days, such as 2019-07-04.
const isBound = (value) => typeof value === "number" || (typeof value === "string" && /^\d{4}-\d\d-\d\d$/.test(value));

const isPoint = (value) => Array.isArray(value) && value.length === 2 && value.every(Number.isFinite);

const isPlain = (value) => ["string", "number", "boolean"].includes(typeof value);

function readConditions(conditions) {
  if (isPlain(conditions)) return { ...noChoice(), values: [conditions] };
  if (!conditions || typeof conditions !== "object" || Array.isArray(conditions)) return null;
  const choice = noChoice();
  for (const [operator, operand] of Object.entries(conditions)) {
    if (operator === "$in" && Array.isArray(operand) && operand.every(isPlain)) choice.values = operand;
    else if (operator === "$eq" && isPlain(operand)) choice.values = [operand];
    else if (operator === "$gte" && isBound(operand)) choice.min = operand;
    else if (operator === "$lte" && isBound(operand)) choice.max = operand;
    else if (operator === "$near" && isPoint(operand)) choice.near = operand;
    else if (operator === "$within_km" && Number.isFinite(operand)) choice.km = operand;
    else if (operator === "$exists" && typeof operand === "boolean") choice.exists = operand;
    else return null;
  }
  return choice;
}

/**
 * The panel's choices for a filter.
 * @param {object|null} filter
 * @returns {Map<string, Choice>|null} by tag; null where the filter says more than the panel can show
 */
function readChoices(filter) {
  const choices = new Map();
  const { $ids: ids, ...others } = filter ?? {};
  if (Array.isArray(ids)) choices.set(WITHIN, { ...noChoice(), values: ids });
  else if (ids) return null;
  for (const [field, conditions] of Object.entries(others)) {
    const choice = field === "modality" || field.startsWith("$") ? null : readConditions(conditions);
    if (!choice) return null;
    choices.set(tagOf(field), choice);
  }
  return choices;
}

/** The filter of these choices, or null where nothing is chosen. */
function writeFilter(choices) {
  const filter = {};
  for (const [tag, { values, min, max, near, km, exists }] of choices) {
    const conditions = {
      ...(values.length ? { $in: values } : {}),
      ...(min !== null ? { $gte: min } : {}),
      ...(max !== null ? { $lte: max } : {}),
      ...(near !== null ? { $near: near, $within_km: km } : {}),
      ...(exists !== null ? { $exists: exists } : {}),
    };
    if (tag === WITHIN && values.length) filter.$ids = values;
    else if (Object.keys(conditions).length) filter[fieldOf(tag)] = conditions;
  }
  return Object.keys(filter).length ? filter : null;
}

/** What a choice says in words, one sentence part for each condition: {label, without}. */
function describeChoice(tag, choice) {
  const said = [];
  if (tag === WITHIN) return choice.values.length ? [{ label: `among ${count(choice.values.length, "selected photo")}`, without: noChoice() }] : said;
  if (choice.values.length) said.push({ label: `${tag}: ${choice.values.join(" or ")}`, without: { ...choice, values: [] } });
  if (choice.min !== null || choice.max !== null) {
    const { min, max } = choice;
    const [least, most] = typeof (min ?? max) === "string" ? ["from", "until"] : ["at least", "at most"];
    const range = min === null ? `${most} ${max}` : max === null ? `${least} ${min}` : `${min} to ${max}`;
    said.push({ label: `${tag}: ${range}`, without: { ...choice, min: null, max: null } });
  }
  if (choice.near !== null) {
    said.push({ label: `within ${choice.km} km of ${choice.near.join(", ")}`, without: { ...choice, near: null, km: null } });
  }
  if (choice.exists !== null) said.push({ label: choice.exists ? `has ${tag}` : `without ${tag}`, without: { ...choice, exists: null } });
  return said;
}

const SHORT_LIST = 8;
let fields = null;
let calibrated = true;
const opened = new Set();
const expanded = new Set();

/** Whether scores are calibrated, so that a minimum score means something. */
export function setCalibrated(value) {
  calibrated = value;
}

let asked = null;

/** Forgets the tags, since the index has changed. */
export function forgetTags() {
  fields = null;
  asked = null;
}

/** The tags that the index has, asked for once: what /v1/tags lists. */
export function readTags() {
  asked ??= api.tags().then(
    (answer) => answer.fields,
    (error) => {
      asked = null;
      throw error;
    },
  );
  return asked;
}

/** Whether photos say where they were taken, and to this visitor; false where that can't be asked. */
export const havePlaces = () => readTags().then((listed) => listed.some(({ name }) => name === "latitude"), () => false);

/** The values that a filter wants of a tag. */
export const wantedValues = (filter, tag) => readChoices(filter)?.get(tag)?.values ?? [];

/** A filter with another value for a tag, or with none. */
export function withCondition(filter, tag, value) {
  const { [fieldOf(tag)]: before, ...others } = filter ?? {};
  const next = value === null ? others : { ...others, [fieldOf(tag)]: { $in: [value] } };
  return Object.keys(next).length ? next : null;
}

function choose(tag, changes) {
  const choices = readChoices(currentState().filter) ?? new Map();
  choices.set(tag, { ...(choices.get(tag) ?? noChoice()), ...changes });
  navigate({ filter: writeFilter(choices) });
}

function toggle({ label, hint, checked, disabled = false, onChange, testid }) {
  return make(
    "label",
    { class: "switch" },
    make("input", {
      type: "checkbox",
      role: "switch",
      checked,
      disabled,
      data: { testid, focusKey: testid },
      on: { change: (event) => onChange(event.target.checked) },
    }),
    make("span", { class: "switch-words" }, make("span", { text: label }), make("span", { class: "hint", text: hint })),
  );
}

function minimumScore(state) {
  const percent = (value) => (value ? `at least ${Math.round(value * 100)}%` : "any");
  const output = make("output", { text: percent(state.minScore) });
  return make(
    "label",
    { class: "slider" },
    make("span", {}, "Minimum score", output),
    make("input", {
      type: "range",
      min: 0,
      max: 1,
      step: 0.05,
      value: state.minScore,
      disabled: !calibrated,
      data: { testid: "min-score", focusKey: "min-score" },
      on: {
        input: (event) => (output.textContent = percent(Number(event.target.value))),
        change: (event) => navigate({ minScore: Number(event.target.value) }),
      },
    }),
    !calibrated && make("span", { class: "hint", text: "This model has no calibrated scores." }),
  );
}

function pageSize(state) {
  const sizes = [...new Set([...PAGE_SIZES, state.topK])].sort((one, other) => one - other);
  return make(
    "label",
    { class: "select" },
    make("span", { text: "Results at a time" }),
    make(
      "select",
      { data: { testid: "top-k", focusKey: "top-k" }, on: { change: (event) => navigate({ topK: Number(event.target.value) }) } },
      ...sizes.map((size) => make("option", { value: size, selected: size === state.topK, text: String(size) })),
    ),
  );
}

function options(state) {
  const words = hasWords(state.terms);
  return make(
    "fieldset",
    { class: "options" },
    make("legend", { text: "Options" }),
    toggle({
      label: "Match words too",
      hint: words ? "Captions, file names and text in photos with the very words come first" : "Needs a sentence in the search",
      checked: matchesWords(state),
      disabled: !words,
      onChange: (chosen) => navigate({ hybrid: wordsChoice(chosen) }),
      testid: "hybrid",
    }),
    toggle({
      label: "Group near-duplicates",
      hint: "One result for photos that look the same, or that were taken in one burst",
      checked: state.group,
      onChange: (group) => navigate({ group }),
      testid: "group-duplicates",
    }),
    minimumScore(state),
    pageSize(state),
  );
}

function valueBoxes(field, choice) {
  const wanted = new Set(choice.values);
  // A value that a link asks for is shown even where it is not among the most frequent.
  const listed = field.values.map(({ value }) => value);
  const missing = choice.values.filter((value) => !listed.includes(value)).map((value) => ({ value, count: null }));
  const all = [...missing, ...field.values];
  const visible = expanded.has(field.name) ? all : all.filter(({ value }, position) => position < SHORT_LIST || wanted.has(value));
  /** @type {HTMLElement[]} */
  const boxes = visible.map(({ value, count }) =>
    make(
      "label",
      { class: "value" },
      make("input", {
        type: "checkbox",
        checked: wanted.has(value),
        data: { focusKey: `${field.name}=${value}`, testid: "filter-value", field: field.name, value: String(value) },
        on: {
          change: (event) =>
            choose(field.name, {
              values: event.target.checked ? [...choice.values, value] : choice.values.filter((each) => each !== value),
            }),
        },
      }),
      make("span", { class: "value-name", text: String(value) }),
      count !== null && make("span", { class: "value-count", text: String(count) }),
    ),
  );
  const rest = all.length - visible.length;
  if (rest > 0) {
    boxes.push(
      button(`Show ${rest} more`, {
        kind: "quiet",
        on: {
          click: () => {
            expanded.add(field.name);
            drawPanel(currentState());
          },
        },
      }),
    );
  }
  return make("div", { class: "values" }, ...boxes);
}

function range(field, choice) {
  const dated = field.type === "date";
  const end = (name, placeholder, label) =>
    make("input", {
      type: dated ? "date" : "number",
      step: dated ? "1" : "any",
      value: choice[name],
      placeholder,
      "aria-label": `${field.name}, ${label}`,
      data: { focusKey: `${field.name}-${name}`, testid: `filter-${name}`, field: field.name },
      on: {
        change: (event) => choose(field.name, { [name]: event.target.value === "" ? null : dated ? event.target.value : Number(event.target.value) }),
      },
    });
  return make(
    "div",
    { class: "range" },
    end("min", field.min ?? "", "from"),
    make("span", { "aria-hidden": "true", text: "to" }),
    end("max", field.max ?? "", "to"),
  );
}

/** The point that a text such as "48.86, 2.35" names, as maps give it; null where it is none. */
function pointOf(text) {
  const found = /^\s*([-+]?\d+(?:\.\d+)?)\s*[,;\s]\s*([-+]?\d+(?:\.\d+)?)\s*$/.exec(text);
  const point = found && found.slice(1).map(Number);
  return point && Math.abs(point[0]) <= 90 && Math.abs(point[1]) <= 180 ? point : null;
}

function distance(field, choice) {
  const km = make("input", {
    type: "number",
    min: 0.001,
    max: 20000,
    step: "any",
    value: choice.km ?? USUAL_KM,
    "aria-label": "Kilometres around the point",
    data: { focusKey: `${field.name}-km`, testid: "filter-km" },
  });
  const point = make("input", {
    type: "text",
    dir: "ltr",
    value: choice.near?.join(", ") ?? "",
    placeholder: "48.86, 2.35",
    "aria-label": "Latitude and longitude of a point",
    data: { focusKey: `${field.name}-near`, testid: "filter-near" },
  });
  const change = () => {
    const near = pointOf(point.value);
    const wrong = point.value.trim() !== "" && !near;
    point.setCustomValidity(wrong ? "Write a latitude and a longitude, such as 48.86, 2.35" : "");
    if (wrong) point.reportValidity();
    else if (near && km.value !== "" && km.reportValidity()) choose(field.name, { near, km: Number(km.value) });
    else if (!near && choice.near) choose(field.name, { near: null, km: null });
  };
  for (const input of [point, km]) input.addEventListener("change", change);
  return make("div", { class: "range" }, point, make("span", { text: "within" }), km, make("span", { text: "km" }));
}

function existence(field, choice) {
  const choices = [
    ["", "has it or not"],
    ["true", "only where it is set"],
    ["false", "only where it is not set"],
  ];
  return make(
    "select",
    {
      "aria-label": `Tag ${field.name}`,
      data: { focusKey: `${field.name}-exists`, testid: "filter-exists", field: field.name },
      on: { change: (event) => choose(field.name, { exists: event.target.value === "" ? null : event.target.value === "true" }) },
    },
    ...choices.map(([value, text]) => make("option", { value, text, selected: String(choice.exists ?? "") === value })),
  );
}

const isRange = (field) => field.type === "number" || field.type === "date";

function fieldPanel(field, choice) {
  const chosen = describeChoice(field.name, choice).length > 0;
  const panel = make(
    "details",
    { class: "field", open: chosen || opened.has(field.name), data: { testid: "filter-field", field: field.name } },
    make(
      "summary",
      { data: { focusKey: `field-${field.name}` } },
      make("span", { class: "field-name", text: field.name }),
      make("span", { class: "value-count", text: String(field.count) }),
    ),
    ...(field.type === "place"
      ? [distance(field, choice)]
      : [isRange(field) ? range(field, choice) : valueBoxes(field, choice), existence(field, choice)]),
  );
  panel.addEventListener("toggle", () => (panel.open ? opened.add(field.name) : opened.delete(field.name)));
  return panel;
}

function tagPanels(state) {
  const choices = readChoices(state.filter);
  if (!choices) return make("p", { class: "muted", text: "This link's filter says more than this panel can show. Remove it to choose here." });
  if (!fields) return make("p", { class: "muted", text: "Reading the tags…" });
  if (!fields.length) return make("p", { class: "muted", text: "Nothing that is indexed has tags yet." });
  return make("div", { class: "fields" }, ...fields.map((field) => fieldPanel(field, choices.get(field.name) ?? noChoice())));
}

function drawPanel(state) {
  const tags = make("fieldset", { class: "tags" }, make("legend", { text: "Tags" }), tagPanels(state));
  // Without a search there is nothing to rank: the newest come first.
  redraw(byId("filters"), state.terms.length > 0 && options(state), tags);
}

// One value for everything, or as many values as documents, chooses nothing: such fields start closed.
const choosesWell = (field) => isRange(field) || field.type === "place" || (field.values.length > 1 && field.values[0].count > 1);

// What every file says of itself stands behind what people say and look for, and dates and places before it.
const SELDOM_CHOSEN = new Set([
  ...["bytes", "width", "height", "frames", "format", "orientation", "file", "taken_from", "month"],
  ...["iso", "aperture", "exposure_seconds", "focal_length_mm", "latitude", "longitude"],
]);
const rankOf = (field) => (["date", "place"].includes(field.type) ? -1 : 2 * Number(SELDOM_CHOSEN.has(field.name)) + Number(!choosesWell(field)));

/** The tags that the API lists, and the place that two of them are together. */
function withPlace(listed) {
  const named = (name) => listed.find((field) => field.name === name);
  const latitude = named("latitude");
  if (!latitude || !named("longitude") || named(PLACE)) return listed;
  return [{ name: PLACE, type: "place", count: latitude.count, values: [] }, ...listed];
}

async function loadTags() {
  const panel = byId("filters");
  try {
    fields = withPlace(await readTags()).sort((one, other) => rankOf(one) - rankOf(other));
    for (const field of fields.filter((each) => rankOf(each) <= 0).slice(0, 6)) opened.add(field.name);
    if (!panel.hidden) drawPanel(currentState());
  } catch (error) {
    if (!panel.hidden) panel.querySelector(".tags").replaceChildren(make("legend", { text: "Tags" }), errorCard(error, loadTags));
  }
}

/** Opens or closes the panel. */
export function toggleFilters() {
  const panel = byId("filters");
  panel.hidden = !panel.hidden;
  if (panel.hidden) return;
  drawPanel(currentState());
  if (!fields) loadTags();
}

/** How many conditions and options narrow the results. */
export function narrowing(state) {
  const choices = readChoices(state.filter);
  const conditions = choices ? [...choices].flatMap(([tag, choice]) => describeChoice(tag, choice)).length : 1;
  if (!state.terms.length) return conditions;
  return conditions + Number(state.literal) + Number(state.hybrid !== null && hasWords(state.terms)) + Number(!state.group) + Number(state.minScore > 0);
}

function activeFilter(label, remove) {
  return make(
    "button",
    { type: "button", class: "active-filter", "aria-label": `Remove the filter ${label}`, data: { testid: "active-filter" }, on: { click: remove } },
    make("span", { text: label }),
    icon("close"),
  );
}

/** Redraws the panel if it is open, and the list of what is in force. */
export function showFilters(state) {
  const choices = readChoices(state.filter);
  const active = choices
    ? [...choices].flatMap(([tag, choice]) =>
        describeChoice(tag, choice).map(({ label, without }) =>
          activeFilter(label, () => navigate({ filter: writeFilter(new Map(choices).set(tag, without)) })),
        ),
      )
    : [activeFilter(JSON.stringify(state.filter), () => navigate({ filter: null }))];
  if (state.literal && state.terms.length) active.push(activeFilter("dates and places as words", () => navigate({ literal: false })));
  if (state.moment && !state.terms.length) active.push(activeFilter("the same moment", () => navigate({ moment: null })));
  if (state.minScore && state.terms.length) active.push(activeFilter(`score at least ${Math.round(state.minScore * 100)}%`, () => navigate({ minScore: 0 })));
  if (state.hybrid !== null && hasWords(state.terms)) {
    active.push(activeFilter(state.hybrid ? "words too" : "meaning alone", () => navigate({ hybrid: null })));
  }
  if (!state.group && state.terms.length) active.push(activeFilter("near-duplicates apart", () => navigate({ group: true })));
  const place = byId("active-filters");
  place.hidden = active.length === 0;
  place.replaceChildren(...active);
  const panel = byId("filters");
  if (panel.hidden) return;
  drawPanel(state);
  if (!fields) loadTags();
}
