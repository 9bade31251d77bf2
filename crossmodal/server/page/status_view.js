import { api } from "./api.js";
import { byId, count, make, makeSvg, redraw } from "./dom.js";
import { errorCard } from "./messages.js";

const WIDTH = 640;
const HEIGHT = 260;
const TOP = 24;
const BOTTOM = 30;
const GAP = 6;

const short = (ms) => (ms < 1000 ? String(ms) : `${ms / 1000}s`);
const label = (bucket) => (bucket.le_ms === null ? "more" : short(bucket.le_ms));

/** Draws how long queries took; each bucket counts what took longer than the one before, the last is open-ended. */
function latencyHistogram(buckets) {
  const most = Math.max(1, ...buckets.map((bucket) => bucket.count));
  const step = WIDTH / Math.max(1, buckets.length);
  const said = [];
  const bars = buckets.flatMap((bucket, position) => {
    const name = label(bucket);
    said.push(`${bucket.le_ms === null ? "longer" : `up to ${bucket.le_ms} ms`}: ${bucket.count}`);
    const height = bucket.count ? Math.max(2, (bucket.count / most) * (HEIGHT - TOP - BOTTOM)) : 0;
    const x = position * step + GAP / 2;
    const middle = x + (step - GAP) / 2;
    const floor = HEIGHT - BOTTOM;
    return [
      makeSvg("rect", { class: "bar", x, y: floor - height, width: Math.max(1, step - GAP), height, rx: 3 }),
      bucket.count ? makeSvg("text", { class: "bar-count", x: middle, y: floor - height - 6, "text-anchor": "middle" }, bucket.count.toLocaleString("en")) : "",
      makeSvg("text", { class: "bar-name", x: middle, y: HEIGHT - 8, "text-anchor": "middle" }, name),
    ].filter(Boolean);
  });
  return makeSvg(
    "svg",
    { class: "histogram", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Queries by time. ${said.join(", ")}`, "data-testid": "latency-histogram" },
    makeSvg("line", { class: "axis", x1: 0, y1: HEIGHT - BOTTOM, x2: WIDTH, y2: HEIGHT - BOTTOM }),
    ...bars,
  );
}

const REFRESH_MS = 4000;
let timer = 0;
let models = null;
let visible = false;

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

/** "48.2 MB", in powers of 1000. */
export function bytes(number) {
  const power = number < 1000 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(number) / 3));
  const value = number / 1000 ** power;
  return `${power && value < 100 ? value.toFixed(1) : Math.round(value).toLocaleString("en")} ${UNITS[power]}`;
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return count(Math.floor(seconds), "second");
  if (minutes < 60) return count(minutes, "minute");
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${count(hours, "hour")} ${minutes % 60} min` : count(Math.floor(hours / 24), "day");
}

const when = (iso) => (iso ? new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }) : "never");
const ms = (value) => (value === null || value === undefined ? "–" : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`);

function figure(value, name, hint, testid) {
  return make(
    "div",
    { class: "figure", data: { testid } },
    make("p", { class: "figure-value", text: value }),
    make("p", { class: "figure-name", text: name }),
    hint && make("p", { class: "hint", text: hint }),
  );
}

function facts(rows) {
  return make("dl", { class: "facts" }, ...rows.map(([name, value]) => make("div", {}, make("dt", { text: name }), make("dd", { text: value }))));
}

function panel(title, className, ...children) {
  return make("section", { class: `panel ${className}` }, make("h2", { text: title }), ...children);
}

const percent = (share) => `${(share * 100).toFixed(share === 1 ? 0 : 1)}%`;

function searched({ tier, recall, recall_measured, building }) {
  const found = tier === "exact" || recall === null ? recall_measured : `${percent(recall)} of the best are found (${recall_measured})`;
  return `${tier}: ${found}${building ? `; ${building.what}, ${percent(building.done)} done` : ""}`;
}

function figures(status) {
  const { image, text } = status.modalities;
  const { traffic } = status;
  return make(
    "div",
    { class: "figures", data: { testid: "status-figures" } },
    figure(image.documents.toLocaleString("en"), "photos", `${count(image.vectors, "vector")}, ${bytes(image.bytes_on_disk)}`, "status-photos"),
    figure(text.documents.toLocaleString("en"), "captions", `${count(text.vectors, "vector")}, ${bytes(text.bytes_on_disk)}`, "status-captions"),
    figure(traffic.queries_per_second.toFixed(2), "queries a second", "over the last minute", "status-qps"),
    figure(ms(traffic.p50_ms), "median time to answer", `99% within ${ms(traffic.p99_ms)}`, "status-latency"),
  );
}

function texts({ read, with_text: found, waiting }) {
  return `looked for in ${count(read, "photo")}, ${found.toLocaleString("en")} have some${waiting ? `; ${waiting.toLocaleString("en")} wait` : ""}`;
}

function writing(status) {
  const { allowed, reason, state } = status.writing;
  if (!allowed) return `off. ${reason}`;
  return { idle: "allowed", starting: "allowed, the index Flow is starting", running: "allowed, the index Flow is running" }[state] ?? "allowed";
}

function modelTable(list) {
  const rows = list.map((model) =>
    make(
      "tr",
      { class: model.serving ? "serving" : "" },
      make("th", { scope: "row" }, model.name, model.serving && make("span", { class: "tag", text: "serving" })),
      make("td", { text: model.dimension ?? "–" }),
      make("td", { text: model.licence ?? "–" }),
    ),
  );
  const head = make("tr", {}, ...["Model", "Dimension", "Licence"].map((name) => make("th", { scope: "col", text: name })));
  return make(
    "div",
    { class: "table-frame", tabindex: 0, role: "region", "aria-label": "Models", data: { focusKey: "models" } },
    make("table", { data: { testid: "models-table" } }, make("thead", {}, head), make("tbody", {}, ...rows)),
  );
}

const ROW = 78;
const BOX = 44;
const MARGIN = 22;
const SPACE = 46;
const LETTER = 8;
const SMALL_LETTER = 7;
const STACK = 4;

/** Places each step in the column after the last one that it needs, and in the row of its branch. */
function placed(steps) {
  const places = new Map([["gateway", { name: "gateway", needs: [], filter: "", copies: "", purpose: "Where requests come in.", column: 0, row: 0, branch: 0 }]]);
  const continued = new Set(["gateway"]);
  let rows = 0;
  let branches = 0;
  for (const step of steps) {
    const needed = step.needs.map((name) => places.get(name));
    const column = 1 + Math.max(...needed.map((place) => place.column));
    const [first] = needed;
    let row = needed.reduce((sum, place) => sum + (place.row ?? 0), 0) / needed.length;
    if (needed.length === 1 && continued.has(first.name)) row = rows++;
    for (const name of step.needs) continued.add(name);
    const branch = needed.length > 1 ? 0 : first.branch || ++branches;
    places.set(step.name, { ...step, column, row, branch });
  }
  places.get("gateway").row = (rows - 1) / 2;
  const columns = Map.groupBy(places.values(), (place) => place.column);
  let left = MARGIN;
  for (const column of columns.values()) {
    left += Math.max(...column.map((place) => place.filter.length)) * SMALL_LETTER;
    const width = Math.max(...column.map((place) => place.name.length)) * LETTER + 26;
    for (const place of column) Object.assign(place, { left, width, middle: MARGIN + BOX / 2 + 2 * STACK + place.row * ROW });
    left += width + SPACE;
  }
  return { places, width: left - SPACE + 2 * STACK + MARGIN, height: rows * ROW - (ROW - BOX) + 2 * STACK + 2 * MARGIN };
}

/** An arrow, which changes its row behind its step, or before the one where branches join. */
function connection(from, to) {
  const start = from.left + from.width;
  const turn = to.needs.length > 1 ? to.left - SPACE : start;
  const bend = turn + (SPACE - 10) / 2;
  return makeSvg(
    "g",
    { class: `flow-branch-${to.needs.length > 1 ? from.branch : to.branch}`, "data-from": from.name, "data-to": to.name },
    makeSvg("path", { class: "flow-line", d: `M${start} ${from.middle}H${turn}C${bend} ${from.middle} ${bend} ${to.middle} ${turn + SPACE - 10} ${to.middle}H${to.left - 8}` }),
    makeSvg("path", { class: "flow-head", d: `M${to.left} ${to.middle}l-9 -4.5v9z` }),
    to.filter && from.name === to.needs[0] ? makeSvg("text", { class: "flow-small", x: to.left - 12, y: to.middle - 7, "text-anchor": "end" }, to.filter) : "",
  );
}

/** A step, stacked where it has shards or replicas, with a tooltip that says what it does. */
function box(place) {
  const x = place.left + place.width / 2;
  const back = place.copies ? [2, 1, 0] : [0];
  return makeSvg(
    "g",
    { class: `flow-branch-${place.branch}`, "data-step": place.name },
    makeSvg("title", {}, place.purpose),
    ...back.map((copy) => makeSvg("rect", { x: place.left + copy * STACK, y: place.middle - BOX / 2 - copy * STACK, width: place.width, height: BOX, rx: 9 })),
    makeSvg("text", { x, y: place.middle + (place.copies ? -2 : 5), "text-anchor": "middle" }, place.name),
    place.copies ? makeSvg("text", { class: "flow-small", x, y: place.middle + 14, "text-anchor": "middle" }, place.copies) : "",
  );
}

/** Draws the steps that GET /v1/flows/NAME describes. */
function flowDiagram(steps, label) {
  const { places, width, height } = placed(steps);
  const connections = steps.flatMap((step) => step.needs.map((name) => connection(places.get(name), places.get(step.name))));
  return makeSvg(
    "svg",
    { class: "flow-diagram", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    ...connections,
    ...Array.from(places.values(), box),
  );
}

function flow(kind, words) {
  const frame = make("div", { class: "flow-frame", tabindex: 0, role: "region", "aria-label": `The ${kind} Flow`, data: { testid: `flow-${kind}` } });
  api.flow(kind).then(
    ({ steps }) => frame.replaceChildren(flowDiagram(steps, `Diagram of the steps of the ${kind} Flow`)),
    () => frame.replaceChildren(make("p", { class: "muted", text: "The diagram cannot be shown." })),
  );
  return make("figure", { class: "flow" }, make("figcaption", {}, make("strong", { text: `${kind} Flow` }), ` ${words}`), frame);
}

function build(place) {
  place.replaceChildren(
    make("header", { class: "view-header" }, make("h1", { id: "status-title", text: "Status" }), make("p", { class: "muted", id: "status-line" })),
    make("div", { id: "status-live" }),
    panel(
      "How a request passes the Flows",
      "wide",
      flow("query", "a sentence to photos, a photo to captions"),
      flow("index", "photos and captions into the index"),
    ),
    make("div", { id: "status-models" }),
  );
}

function draw(status) {
  byId("status-line").textContent = `Version ${status.version}, up for ${duration(status.uptime_s)}`;
  const { traffic, index } = status;
  redraw(
    byId("status-live"),
    figures(status),
    make(
      "div",
      { class: "panels" },
      panel(
        "Index",
        "",
        facts([
          ["Model", `${status.model.name}, ${status.model.dimension} dimensions`],
          ["Weights", status.model.weights],
          ["Scores", status.calibrated ? "calibrated" : "not calibrated: bare cosines"],
          ["Photo search", searched(index.modalities.image)],
          ["Caption search", searched(index.modalities.text)],
          ["Text in photos", texts(status.texts)],
          ["Shards", `${status.shards}, layout ${status.layout}`],
          ["Last change", when(status.last_change)],
          ["Writing", writing(status)],
        ]),
      ),
      panel(
        "Time to answer",
        "",
        make("p", { class: "muted", text: `${count(traffic.queries, "query", "queries")} since the start; each bar ends at this many milliseconds` }),
        traffic.latency.some((bucket) => bucket.count)
          ? latencyHistogram(traffic.latency)
          : make("p", { class: "muted", text: "No queries yet." }),
      ),
    ),
  );
}

async function refresh() {
  clearTimeout(timer);
  if (!visible) return;
  try {
    if (!document.hidden || !byId("status-live").childElementCount) draw(await api.status());
    if (!models) {
      ({ models } = await api.models());
      byId("status-models").replaceChildren(panel("Models", "wide", modelTable(models)));
    }
  } catch (error) {
    if (!visible) return;
    byId("status-live").replaceChildren(errorCard(error, refresh));
  }
  if (visible) timer = setTimeout(refresh, REFRESH_MS);
}

/** Shows the status view and keeps it fresh while it is open; hides it otherwise. */
export function showStatus(open) {
  if (open === visible) return;
  visible = open;
  clearTimeout(timer);
  if (!open) return;
  models = null;
  build(byId("status-view"));
  refresh();
}
