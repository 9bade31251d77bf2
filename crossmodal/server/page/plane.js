import { api, isHidden, thumbnailUrl } from "./api.js";
import { byId, count, make } from "./dom.js";
import { announce, iconButton, messageCard } from "./messages.js";
import { navigate } from "./navigation.js";
import { drawNames, namesOn } from "./plane_names.js";
import { fillResults, fillWithSkeletons, refreshBy, showError } from "./results.js";
import { hasSelection, isSelected, selectAll } from "./selection.js";
import { degrees, drawWorld, project } from "./world.js";
import { gestures } from "./zoom.js";

/**
 * Photos at places of a plane, drawn on a canvas: where they were taken, on a map of the world, or like by like.
 *
 * Places are from 0 to 1, and of what is alike as wide as the screen is. Those in one cell of a grid are one group, shown by its first photo; the grid has
 * half the cells whenever the plane is twice as large, so that groups come apart as one comes nearer.
 */

const MOST_PHOTOS = 20_000;
const ASKED_AGAIN_MS = 1500;
/** Pixels between the plane's points and the edge of the screen at first. */
const MARGIN = 70;
/** Pixels that the pointer may move in a click. */
const STILL_PX = 5;
const STEP_PX = 90;
const CLOSER = 1.6;
const MOST_LOADING = 8;
const MOST_IMAGES = 1500;
const MOST_NEAR = 500;

/** By view: what the API calls it, pixels of a cell, the least part of the plane and the largest plane shown. */
const KINDS = {
  map: { by: "place", cell: 64, least: 0.02, most: 4e6 },
  similar: { by: "likeness", cell: 28, least: 0.05, most: 2e5 },
};

// What is shown: {key, kind, wide, points, placed, total, view, fitted, names}; it stays as it was left.
let shown = null;
let near = [];
let redraw = () => undefined;
addEventListener("selection-changed", () => redraw());

/** Forgets the places, since the index has changed. */
export function forgetPlane() {
  shown = null;
}

/** The ids of all photos on it. */
export const planeIds = () => (shown?.points ?? []).map(({ id }) => id).filter((id) => !isHidden(id));

/** The ids of the photos around the one that was opened, the nearest first. */
export const nearIds = () => near.filter((id) => !isHidden(id));

const pause = (ms) => new Promise((over) => setTimeout(over, ms));

/** The places as soon as there are some; null where they are not wanted any more. */
async function placesOf({ as, filter }, stillWanted) {
  const asked = { by: KINDS[as].by, limit: MOST_PHOTOS, ...(filter ? { filter: JSON.stringify(filter) } : {}) };
  for (;;) {
    const answer = await api.layout(asked);
    if (!stillWanted()) return null;
    if (answer.ids.length || !answer.computing) return answer;
    fillResults("plane", messageCard({ title: "Photos that are alike are being put together", detail: "That takes a moment the first time.", symbol: "clock", testid: "plane-waits" }));
    await pause(ASKED_AGAIN_MS);
    if (!stillWanted()) return null;
  }
}

async function nameGroups(plane) {
  plane.names = await namesOn(plane.points);
  redraw();
}

/** Numbers from 0 to 1 with smaller gaps: each most of the way to its share of those before it. */
function closer(numbers) {
  const order = [...numbers.keys()].sort((one, other) => numbers[one] - numbers[other]);
  const near = [...numbers];
  order.forEach((at, before) => (near[at] = numbers[at] + 0.75 * (before / Math.max(1, order.length - 1) - numbers[at])));
  return near;
}

/** Shows the photos that a state's filter lets through on the plane that it names; `stillWanted` is asked when the answer has come. */
export async function showPlane(state, actions, stillWanted) {
  const key = JSON.stringify([state.as, state.filter]);
  if (shown?.key !== key) {
    fillWithSkeletons(24);
    try {
      const answer = await placesOf(state, stillWanted);
      if (!answer) return;
      const wide = state.as === "map" ? 1 : Math.min(2.2, Math.max(0.6, innerWidth / (0.85 * innerHeight)));
      const [xs, ys] = [closer(answer.x), closer(answer.y)];
      const placeOf = state.as === "map" ? (at) => project(answer.x[at], answer.y[at]) : (at) => ({ x: xs[at] * wide, y: ys[at] });
      const points = answer.ids.map((id, at) => ({ id, colour: answer.colours[at] ?? "#888", ...placeOf(at) }));
      shown = { key, kind: state.as, wide, points, placed: answer.placed, total: answer.total, view: null, fitted: 1, names: [] };
      if (state.as === "similar") nameGroups(shown);
    } catch (error) {
      if (stillWanted()) showError(error, () => showPlane(state, actions, stillWanted));
      return;
    }
  }
  if (!stillWanted()) return;
  if (shown.points.length) drawPlane(state, actions);
  else fillResults("plane", messageCard({ title: "No photo to show here", detail: state.as === "map" ? "None of these says where it was taken." : "Take a filter away.", symbol: "pin", testid: "plane-empty" }));
}

/**
 * Kilometres between two points in degrees.
 * @param {number[]} one latitude and longitude
 * @param {number[]} other
 */
function kilometres(one, other) {
  const [latitude, longitude, otherLatitude, otherLongitude] = [...one, ...other];
  const radians = Math.PI / 180;
  const across = Math.sin(((otherLatitude - latitude) * radians) / 2) ** 2;
  const along = Math.sin(((otherLongitude - longitude) * radians) / 2) ** 2;
  return 12742 * Math.asin(Math.sqrt(across + Math.cos(latitude * radians) * Math.cos(otherLatitude * radians) * along));
}

/** The filter for the photos of a group: a point, and as far from it as they reach. */
function around({ points }) {
  const mean = (axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length;
  const middle = degrees({ x: mean("x"), y: mean("y") }).map((each) => Number(each.toFixed(3)));
  const farthest = Math.max(...points.map((point) => kilometres(middle, degrees(point))));
  return { $near: middle, $within_km: Number((farthest * 1.01 + 0.01).toPrecision(3)) };
}

/** The groups of points in cells of this side; on a map those that would cover each other are one. */
function grouped({ kind, points }, side) {
  const cells = new Map();
  for (const point of points) {
    if (isHidden(point.id)) continue;
    const [column, row] = [Math.floor(point.x / side), Math.floor(point.y / side)];
    const key = column * 1e7 + row;
    const cell = cells.get(key);
    if (cell) cell.points.push(point);
    else cells.set(key, { key, points: [point], x: (column + 0.5) * side, y: (row + 0.5) * side });
  }
  if (kind !== "map") return [...cells.values()];
  const kept = new Map();
  for (const cell of [...cells.values()].sort((one, other) => other.points.length - one.points.length)) {
    for (const axis of ["x", "y"]) cell[axis] = cell.points.reduce((sum, point) => sum + point[axis], 0) / cell.points.length;
    const beside = [-1, 0, 1].flatMap((columns) => [-1, 0, 1].map((rows) => kept.get(cell.key + columns * 1e7 + rows)));
    const under = beside.find((other) => other && Math.hypot(other.x - cell.x, other.y - cell.y) < 0.9 * side);
    if (under) under.points.push(...cell.points);
    else kept.set(cell.key, cell);
  }
  return [...kept.values()];
}

/** Thumbnails by id, a few loaded at a time; `loaded` is called after each, `drawn` says of how many groups they are. */
function thumbnails(loaded, drawn) {
  const images = new Map();
  let loading = 0;
  return (id) => {
    const known = images.get(id);
    if (known) return known.complete && known.naturalWidth ? known : null;
    if (loading >= MOST_LOADING) return null;
    // Not those that are on the screen, which would be loaded again and again.
    if (images.size >= Math.max(MOST_IMAGES, 2 * drawn())) images.delete(images.keys().next().value);
    loading += 1;
    const image = Object.assign(new Image(), { src: thumbnailUrl(id) });
    images.set(id, image);
    const over = () => {
      loading -= 1;
      loaded();
    };
    image.addEventListener("load", over);
    image.addEventListener("error", over);
    return null;
  };
}

function drawPlane(state, actions) {
  // It stays on the screen when the index changes and it is forgotten.
  const plane = shown;
  const { kind, wide, points, placed, total } = plane;
  const { cell, least, most } = KINDS[kind];
  const isMap = kind === "map";
  const what = isMap ? "Map of where photos were taken" : "Photos, those that are alike together";
  const canvas = make("canvas", {
    class: "plane",
    tabindex: 0,
    role: "application",
    "aria-label": `${what}. Arrows move it, plus and minus zoom, Enter ${isMap ? "shows the photos in the middle" : "opens the photo in the middle"}, x selects what is in the middle.`,
    data: { testid: "plane", kind },
  });
  const context = canvas.getContext("2d");
  const view = (plane.view ??= { left: 0, top: 0, scale: 0 });
  let groups = [];
  let level = 0;
  let awaited = 0;
  let accent = "";
  let pressed = null;
  // Whether a drag selects, and the rectangle that is being drawn: {x, y, right, bottom}.
  let selecting = false;
  let drawn = null;

  const later = () => {
    cancelAnimationFrame(awaited);
    awaited = requestAnimationFrame(draw);
  };
  const imageOf = thumbnails(later, () => groups.length);

  /** Shows all points, as large as they fit. */
  function fit() {
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const [xs, ys] = [points.map(({ x }) => x), points.map(({ y }) => y)];
    const [west, east, north, south] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const margin = Math.min(MARGIN, width / 8, height / 8);
    view.scale = Math.min((width - 2 * margin) / Math.max(east - west, least), (height - 2 * margin) / Math.max(south - north, least));
    plane.fitted = view.scale;
    view.left = width / 2 - ((west + east) / 2) * view.scale;
    view.top = height / 2 - ((north + south) / 2) * view.scale;
  }

  function move(x, y) {
    const { clientWidth: width, clientHeight: height } = canvas;
    // Half of it stays on the screen.
    view.left = Math.min(width / 2, Math.max(width / 2 - wide * view.scale, view.left + x));
    view.top = Math.min(height / 2, Math.max(height / 2 - view.scale, view.top + y));
    later();
  }

  /** Zooms so that the point of the screen keeps what it shows; without one, the middle does. */
  function zoom(factor, point) {
    const box = canvas.getBoundingClientRect();
    const [x, y] = point ? [point.x - box.x, point.y - box.y] : [box.width / 2, box.height / 2];
    const scale = Math.min(most, Math.max(Math.min(box.width, box.height) / 2, view.scale * factor));
    view.left = x - ((x - view.left) * scale) / view.scale;
    view.top = y - ((y - view.top) * scale) / view.scale;
    view.scale = scale;
    move(0, 0);
  }

  /** Where a group stands on the screen, and how large. */
  function boxOf({ x, y }) {
    const side = isMap ? 0.8 * cell : (0.96 * cell * view.scale) / level;
    return { x: view.left + x * view.scale - side / 2, y: view.top + y * view.scale - side / 2, side };
  }

  const inside = ({ x, y, side }, left, top) => left >= x && top >= y && left <= x + side && top <= y + side;
  const groupAt = (left, top) => groups.findLast((group) => inside(boxOf(group), left, top));

  /** The group nearest to the middle of the screen. */
  function middleGroup() {
    const apart = (group) => Math.hypot(view.left + group.x * view.scale - canvas.clientWidth / 2, view.top + group.y * view.scale - canvas.clientHeight / 2);
    return groups.reduce((best, group) => (best && apart(best) <= apart(group) ? best : group), null);
  }

  function drawGroup(group, marked) {
    const { x, y, side } = boxOf(group);
    if (x > canvas.clientWidth || y > canvas.clientHeight || x + side < 0 || y + side < 0) return;
    const [{ id, colour }] = group.points;
    const image = imageOf(id);
    context.save();
    context.beginPath();
    context.roundRect(x, y, side, side, isMap ? 10 : 2);
    context.clip();
    context.fillStyle = colour;
    context.fill();
    if (image) {
      const part = Math.min(image.naturalWidth, image.naturalHeight);
      context.drawImage(image, (image.naturalWidth - part) / 2, (image.naturalHeight - part) / 2, part, part, x, y, side, side);
    }
    context.restore();
    const chosen = group.points.filter((point) => isSelected(point.id)).length;
    if (isMap || marked || chosen) {
      context.lineWidth = marked || chosen ? 5 : 2.5;
      context.strokeStyle = marked || chosen ? accent : "#fff";
      // Where only some of them are selected.
      context.setLineDash(chosen && chosen < group.points.length ? [6, 4] : []);
      context.stroke();
      context.setLineDash([]);
    }
    if (group.points.length < 2 || !(isMap || side > 70)) return;
    const words = group.points.length.toLocaleString("en");
    context.font = "600 12px system-ui, sans-serif";
    const width = Math.max(20, context.measureText(words).width + 12);
    context.beginPath();
    context.roundRect(x + side - width - (isMap ? -6 : 4), isMap ? y - 8 : y + side - 24, width, 20, 10);
    context.fillStyle = "rgb(0 0 0 / 78%)";
    context.fill();
    context.fillStyle = "#fff";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(words, x + side - width / 2 - (isMap ? -6 : 4), isMap ? y + 2.5 : y + side - 13.5);
  }

  function draw() {
    const wanted = 2 ** Math.floor(Math.log2(view.scale));
    if (level !== wanted) {
      level = wanted;
      groups = grouped(plane, cell / level);
    }
    const ratio = devicePixelRatio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    const { color, backgroundColor, accentColor } = getComputedStyle(canvas);
    accent = accentColor;
    if (isMap) drawWorld(context, view, color, backgroundColor);
    const marked = canvas.matches(":focus-visible") ? middleGroup() : null;
    for (const group of groups) drawGroup(group, group === marked);
    const said = drawNames(context, plane.names, view, { zoomed: view.scale / plane.fitted, ink: color, paper: backgroundColor });
    if (drawn) {
      const { x, y, right, bottom } = drawn;
      context.strokeStyle = context.fillStyle = accent;
      context.lineWidth = 1.5;
      context.strokeRect(x, y, right - x, bottom - y);
      context.globalAlpha = 0.2;
      context.fillRect(x, y, right - x, bottom - y);
      context.globalAlpha = 1;
    }
    // For tests, and for whoever asks what is drawn.
    Object.assign(canvas.dataset, { groups: String(groups.length), names: said.join(", ") });
  }

  function choose(group) {
    if (!group) return;
    const [{ id, x, y }] = group.points;
    if (isMap && group.points.length > 1) {
      navigate({ as: "rows", filter: { ...state.filter, location: around(group) } });
      return;
    }
    const apart = (point) => Math.hypot(point.x - x, point.y - y);
    near = points.toSorted((one, other) => apart(one) - apart(other)).slice(0, MOST_NEAR).map((point) => point.id);
    actions.open(id);
  }

  const idsOf = (some) => some.flatMap(({ points: own }) => own.map(({ id }) => id));

  /** Selects the groups whose middle is in the rectangle that was drawn. */
  function selectDrawn() {
    const [left, right] = [drawn.x, drawn.right].sort((one, other) => one - other);
    const [top, bottom] = [drawn.y, drawn.bottom].sort((one, other) => one - other);
    const within = groups.filter((group) => {
      const { x, y, side } = boxOf(group);
      return x + side / 2 >= left && x + side / 2 <= right && y + side / 2 >= top && y + side / 2 <= bottom;
    });
    drawn = null;
    if (within.length) selectAll(idsOf(within));
    later();
  }

  // Before those of gestures(), which ask whether it is moved.
  canvas.addEventListener("pointerdown", (event) => {
    pressed = event;
    drawn = null;
    if (!event.isPrimary || event.button || !(selecting || event.shiftKey)) return;
    const [x, y] = [event.offsetX, event.offsetY];
    drawn = { x, y, right: x, bottom: y };
    canvas.setPointerCapture(event.pointerId);
  });
  gestures(canvas, canvas, { zoom, move, holds: () => !drawn });
  canvas.addEventListener("pointermove", (event) => {
    const over = selecting || event.shiftKey ? "crosshair" : "grab";
    canvas.style.cursor = groupAt(event.offsetX, event.offsetY) ? "pointer" : over;
    if (!drawn) return;
    Object.assign(drawn, { right: event.offsetX, bottom: event.offsetY });
    later();
  });
  canvas.addEventListener("pointerup", () => drawn && selectDrawn());
  canvas.addEventListener("pointercancel", () => (drawn = null));
  canvas.addEventListener("click", (event) => {
    const still = pressed && Math.hypot(event.x - pressed.x, event.y - pressed.y) < STILL_PX;
    const group = still && groupAt(event.offsetX, event.offsetY);
    if (!group) return;
    if (selecting || hasSelection() || event.shiftKey || event.ctrlKey || event.metaKey) selectAll(idsOf([group]), { toggle: true });
    else choose(group);
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const [x, y] = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
    if (x || y) move(x * STEP_PX, y * STEP_PX);
    else if (event.key === "+" || event.key === "=") zoom(CLOSER);
    else if (event.key === "-") zoom(1 / CLOSER);
    else if (event.key === "Enter") choose(middleGroup());
    else if (event.key === "x" && groups.length) selectAll(idsOf([middleGroup()]), { toggle: true });
    else return;
    event.preventDefault();
    if (event.key !== "Enter" && event.key !== "x") announce(`${count(middleGroup()?.points.length ?? 0, "photo")} in the middle.`);
  });
  for (const type of ["focus", "blur"]) canvas.addEventListener(type, later);
  const without = total - placed;
  const said = isMap && without > 0 ? `${count(placed, "photo")}; ${without.toLocaleString("en")} without a place` : "";
  const tools = make(
    "div",
    { class: "plane-tools" },
    said && make("p", { class: "count", text: said }),
    iconButton(
      "check",
      "Select: draw over photos",
      (event) => {
        selecting = !selecting;
        event.currentTarget.setAttribute("aria-pressed", String(selecting));
      },
      { class: "button", "aria-pressed": "false", data: { testid: "plane-select" } },
    ),
    iconButton("minus", "Zoom out", () => zoom(1 / CLOSER), { class: "button", data: { testid: "plane-out" } }),
    iconButton("plus", "Zoom in", () => zoom(CLOSER), { class: "button", data: { testid: "plane-in" } }),
  );
  const frame = make("div", { class: "plane-frame" }, canvas, tools);
  fillResults("plane", frame);
  canvas.style.setProperty("--top", `${Math.ceil(frame.getBoundingClientRect().top + scrollY)}px`);
  new ResizeObserver(() => {
    canvas.width = canvas.clientWidth * devicePixelRatio;
    canvas.height = canvas.clientHeight * devicePixelRatio;
    if (!view.scale) fit();
    draw();
  }).observe(canvas);
  redraw = () => canvas.isConnected && later();
  byId("theme-toggle").onclick = later;
  refreshBy(() => {
    level = 0;
    later();
  });
}
