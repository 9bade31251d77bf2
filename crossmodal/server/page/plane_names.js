import { api } from "./api.js";

/** Names of groups of photos on the plane of what is alike: one a group, the more the nearer one comes. */

/** Zooming in so much shows the names of groups that are a quarter as large. */
const NEXT_LEVEL = 2;
const FONT = "600 13px system-ui, sans-serif";
const HEIGHT = 24;

/** The names, each at the point of a photo in the middle of its group: {text, x, y, level}; none where the server has none. */
export async function namesOn(points) {
  const { names } = await api.layoutNames().catch(() => ({ names: [] }));
  const byId = new Map(points.map((point) => [point.id, point]));
  return names.flatMap(({ text, ids, level }) => {
    const middle = ids.map((id) => byId.get(id)).find(Boolean);
    return middle ? [{ text: text.replace(/^./u, (letter) => letter.toUpperCase()), x: middle.x, y: middle.y, level }] : [];
  });
}

/**
 * Draws names where there is room for them, those of large groups first, and answers what it has drawn.
 * @param {CanvasRenderingContext2D} context
 * @param {{text: string, x: number, y: number, level: number}[]} names
 * @param {{left: number, top: number, scale: number}} view
 * @param {{zoomed: number, ink: string, paper: string}} how `zoomed` is how many times larger than the whole plane is seen
 */
export function drawNames(context, names, view, { zoomed, ink, paper }) {
  const finest = Math.max(0, ...names.map(({ level }) => level));
  const wanted = Math.min(finest, Math.max(0, Math.floor(Math.log2(zoomed) / Math.log2(NEXT_LEVEL))));
  const drawn = [];
  context.font = FONT;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const { text, x, y } of names.filter(({ level }) => level === wanted)) {
    const width = context.measureText(text).width + 20;
    const box = { left: view.left + x * view.scale - width / 2, top: view.top + y * view.scale - HEIGHT / 2, width };
    if (drawn.some((other) => Math.abs(other.top - box.top) < HEIGHT + 4 && other.left < box.left + width + 6 && box.left < other.left + other.width + 6)) continue;
    context.beginPath();
    context.roundRect(box.left, box.top, width, HEIGHT, HEIGHT / 2);
    context.globalAlpha = 0.9;
    context.fillStyle = paper;
    context.fill();
    context.globalAlpha = 1;
    context.fillStyle = ink;
    context.fillText(text, box.left + width / 2, box.top + HEIGHT / 2 + 0.5);
    drawn.push({ ...box, text });
  }
  return drawn.map(({ text }) => text);
}
