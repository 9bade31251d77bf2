import { api } from "./api.js";
import { byId, count, make, makeSvg, redraw } from "./dom.js";
import { flowDiagram } from "./flow_diagram.js";
import { errorCard } from "./messages.js";

const WIDTH = 640;
const HEIGHT = 260;
const TOP = 24;
const BOTTOM = 30;
const GAP = 6;

const short = (ms) => (ms < 1000 ? String(ms) : `${ms / 1000}s`);
const label = (bucket) => (bucket.le_ms === null ? "more" : short(bucket.le_ms));

/** Draws how long queries took; each bucket counts what took longer than the one before, the last is open-ended. */
export function latencyHistogram(buckets) {
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
