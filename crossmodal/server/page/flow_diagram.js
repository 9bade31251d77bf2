import { makeSvg } from "./dom.js";

const ROW = 78;
const HEIGHT = 44;
const MARGIN = 22;
const GAP = 46;
const LETTER = 8;
const SMALL_LETTER = 7;
const STACK = 4;

/**
 * Places steps from left to right: each in the column after the last one that it needs, in the row of its branch.
 * Branches that join meet at the mean of their rows.
 */
function placed(steps) {
  const places = new Map([["gateway", { name: "gateway", needs: [], filter: "", copies: "", purpose: "Where requests come in.", column: 0, branch: 0 }]]);
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
    for (const place of column) Object.assign(place, { left, width, middle: MARGIN + HEIGHT / 2 + 2 * STACK + place.row * ROW });
    left += width + GAP;
  }
  return { places, width: left - GAP + 2 * STACK + MARGIN, height: rows * ROW - (ROW - HEIGHT) + 2 * STACK + 2 * MARGIN };
}

/** A connection: it changes its row behind the step it leaves, or, where branches join, before the step it reaches. */
function connection(from, to) {
  const start = from.left + from.width;
  const turn = to.needs.length > 1 ? to.left - GAP : start;
  const bend = turn + (GAP - 10) / 2;
  return makeSvg(
    "g",
    { class: `flow-branch-${to.needs.length > 1 ? from.branch : to.branch}`, "data-from": from.name, "data-to": to.name },
    makeSvg("path", { class: "flow-line", d: `M${start} ${from.middle}H${turn}C${bend} ${from.middle} ${bend} ${to.middle} ${turn + GAP - 10} ${to.middle}H${to.left - 8}` }),
    makeSvg("path", { class: "flow-head", d: `M${to.left} ${to.middle}l-9 -4.5v9z` }),
    to.filter && from.name === to.needs[0] ? makeSvg("text", { class: "flow-small", x: to.left - 12, y: to.middle - 7, "text-anchor": "end" }, to.filter) : "",
  );
}

/** A step: a box with its name, a stack of boxes where it has shards or replicas, and a tooltip that says what it does. */
function box(place) {
  const x = place.left + place.width / 2;
  const back = place.copies ? [2, 1, 0] : [0];
  return makeSvg(
    "g",
    { class: `flow-branch-${place.branch}`, "data-step": place.name },
    makeSvg("title", {}, place.purpose),
    ...back.map((copy) => makeSvg("rect", { x: place.left + copy * STACK, y: place.middle - HEIGHT / 2 - copy * STACK, width: place.width, height: HEIGHT, rx: 9 })),
    makeSvg("text", { x, y: place.middle + (place.copies ? -2 : 5), "text-anchor": "middle" }, place.name),
    place.copies ? makeSvg("text", { class: "flow-small", x, y: place.middle + 14, "text-anchor": "middle" }, place.copies) : "",
  );
}

/** Draws the steps of a Flow, as GET /v1/flows/NAME describes them, with an arrow for each step that another one needs. */
export function flowDiagram(steps, label) {
  const { places, width, height } = placed(steps);
  const connections = steps.flatMap((step) => step.needs.map((name) => connection(places.get(name), places.get(step.name))));
  return makeSvg(
    "svg",
    { class: "flow-diagram", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    ...connections,
    ...Array.from(places.values(), box),
  );
}
