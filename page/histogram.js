import { makeSvg } from "./dom.js";

const WIDTH = 640;
const HEIGHT = 190;
const TOP = 22;
const BOTTOM = 26;
const GAP = 6;

const label = (bucket, before) => {
  if (bucket.le_ms === null) return `over ${before}`;
  return `≤ ${bucket.le_ms.toLocaleString("en")}`;
};

/**
 * Draws how long queries took.
 * @param {{le_ms: number|null, count: number}[]} buckets counts of each bucket alone, not added up; the last is
 *   open-ended
 * @returns {SVGElement} with a name that says the counts
 */
export function latencyHistogram(buckets) {
  const most = Math.max(1, ...buckets.map((bucket) => bucket.count));
  const step = WIDTH / Math.max(1, buckets.length);
  const said = [];
  const bars = buckets.flatMap((bucket, position) => {
    const before = position ? buckets[position - 1].le_ms : 0;
    const name = label(bucket, before);
    said.push(`${name} ms: ${bucket.count}`);
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
