import { byId, make } from "./dom.js";

/**
 * Photos in rows from edge to edge, each in its own shape.
 *
 * A row is as high as makes its photos fill the width. With many photos only the rows near the screen hold
 * their tiles; the others keep their height, so that what is drawn stays bounded however long the list is.
 */

const GAP = 3;
/** With up to so many photos all tiles stay, so that the browser's own search finds their words. */
const ALL_SHOWN = 144;
/** Width / height beyond which a photo stands in a frame of this shape. */
const NARROWEST = 0.45;
const WIDEST = 4;
const UNKNOWN_RATIO = 4 / 3;
/** How much higher than wanted a last row may become to fill the width. */
const NEARLY_FULL = 1.3;

const DENSITY_KEY = "crossmodal.density";
/** How high a row is wanted, as a share of the usual height. */
const DENSITIES = { small: 0.66, medium: 1, large: 1.6 };

let density = storedDensity();
// The rows on the page: there is one place for them.
let shown = null;

function storedDensity() {
  try {
    const stored = localStorage.getItem(DENSITY_KEY);
    return stored in DENSITIES ? stored : "medium";
  } catch {
    return "medium"; // storage may be forbidden
  }
}

export const currentDensity = () => density;

/** Shows photos larger or smaller from now on, also at the next visit. */
export function setDensity(chosen) {
  density = chosen;
  try {
    localStorage.setItem(DENSITY_KEY, chosen);
  } catch {
    // the choice holds for this visit only
  }
  shown?.anew();
}

/** The height wanted for rows of this width, both in CSS pixels. */
const wantedHeight = (width) => DENSITIES[density] * Math.min(260, Math.max(150, width / 6.5));

// Shapes that only the loaded thumbnail told.
const learned = new Map();

function ratioOf({ id, photo, tags }) {
  const { width, height } = photo?.width ? photo : (tags ?? {});
  const ratio = width > 0 && height > 0 ? width / height : (learned.get(id) ?? UNKNOWN_RATIO);
  return Math.min(WIDEST, Math.max(NARROWEST, ratio));
}

/** The rows of the photos `begin` to `end`, exclusive: {from, to, height}, `to` exclusive; the last one fills the width if it nearly does. */
function layoutRows(ratios, begin, end, width, wanted, gap = GAP) {
  const rows = [];
  let from = begin;
  let sum = 0;
  const heightOf = (total, photos) => (width - gap * (photos - 1)) / total;
  const close = (to, total) => {
    rows.push({ from, to, height: heightOf(total, to - from) });
    from = to;
  };
  for (let at = begin; at < end; at += 1) {
    const before = sum;
    sum += ratios[at];
    const height = heightOf(sum, at + 1 - from);
    if (height > wanted) continue;
    // One photo fewer, if that comes nearer to what is wanted.
    if (at > from && heightOf(before, at - from) / wanted < wanted / height) {
      close(at, before);
      sum = ratios[at];
    } else {
      close(at + 1, sum);
      sum = 0;
    }
  }
  if (from < end) {
    const height = heightOf(sum, end - from);
    rows.push({ from, to: end, height: height < NEARLY_FULL * wanted ? height : wanted });
  }
  return rows;
}

const SAME_ROW = ["from", "to", "height", "heading"];

/** The rows of a list in which a photo with a heading begins a new row, below it. */
function layoutGroups(list, headingOf, width, wanted) {
  const ratios = list.map(ratioOf);
  const headings = list.map((item, at) => headingOf(item, list[at - 1]));
  const rows = [];
  for (let from = 0, to; from < list.length; from = to) {
    to = from + 1;
    while (to < list.length && !headings[to]) to += 1;
    const [first, ...others] = layoutRows(ratios, from, to, width, wanted);
    rows.push({ ...first, heading: headings[from] }, ...others);
  }
  return rows;
}

/**
 * Makes the rows of `items`; `makeTile(item)` answers a tile with data-id, and `headingOf(item, previous)` the
 * words above it, or null where it goes on with the row.
 * @returns {{element: HTMLElement, set: (items: object[]) => void, tile: (id: string) => HTMLElement|undefined}} `set`
 *   shows other items, or more of them
 */
export function photoRows(items, makeTile, testid, headingOf = () => null) {
  const element = make("div", { class: "rows", data: { testid } });
  let list = [...items];
  let rows = [];
  let width = byId("results").clientWidth || innerWidth;
  let awaited = 0;

  const watcher = new IntersectionObserver(
    (entries) => {
      if (list.length <= ALL_SHOWN) return;
      for (const { target, isIntersecting } of entries) {
        const row = rows.find((each) => each.element === target);
        if (!row) continue;
        if (isIntersecting) fill(row);
        else if (!target.contains(document.activeElement)) target.replaceChildren();
      }
    },
    { rootMargin: "150% 0px" },
  );

  function fill(row, loose) {
    if (row.element.childElementCount) return;
    const wanted = list.slice(row.from, row.to);
    row.element.append(...wanted.map((item) => shape(loose?.get(item.id) ?? makeTile(item), item, row.height)));
  }

  function shape(tile, item, height) {
    const ratio = ratioOf(item);
    tile.style.flex = `${ratio} 1 0`;
    tile.style.maxInlineSize = `${Math.ceil(ratio * height)}px`;
    const image = tile.querySelector("img[srcset]");
    if (image) image.sizes = `${Math.ceil(ratio * height)}px`;
    return tile;
  }

  /** Lays all out for the width there is; tiles of rows that change are used again. */
  function arrange() {
    const focused = element.contains(document.activeElement) ? document.activeElement : null;
    const next = layoutGroups(list, headingOf, width, wantedHeight(width));
    let same = 0;
    while (same < rows.length && same < next.length && SAME_ROW.every((key) => rows[same][key] === next[same][key])) same += 1;
    const loose = new Map();
    for (const { element: old, head } of rows.slice(same)) {
      head?.remove();
      for (const tile of old.children) loose.set(tile.dataset.id, tile);
      watcher.unobserve(old);
      old.remove();
    }
    rows = [...rows.slice(0, same), ...next.slice(same).map((row) => ({ ...row, element: make("div", { class: "row" }) }))];
    for (const row of rows.slice(same)) {
      row.element.style.blockSize = `${row.height}px`;
      if (row.from < ALL_SHOWN || list.length <= ALL_SHOWN || (focused && list.slice(row.from, row.to).some(({ id }) => loose.get(id)?.contains(focused)))) {
        fill(row, loose);
      }
      if (row.heading) element.append((row.head = make("h3", { class: "row-heading", text: row.heading })));
      element.append(row.element);
      watcher.observe(row.element);
    }
    if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }

  /** Arranges all anew, and keeps the photo at the top of the screen there. */
  function anew() {
    const top = rows.find((row) => row.element.getBoundingClientRect().bottom > 0);
    arrange();
    const row = top && rows.find(({ to }) => to > top.from);
    if (scrollY > 0) row?.element.scrollIntoView({ block: "start" });
  }

  // Images say their shape by an event that doesn't bubble.
  element.addEventListener(
    "load",
    ({ target }) => {
      const id = target.closest("[data-id]")?.dataset.id;
      const item = list.find((each) => each.id === id);
      if (!item || item.photo?.width > 0 || item.tags?.width > 0 || learned.has(id) || !target.naturalHeight) return;
      learned.set(id, target.naturalWidth / target.naturalHeight);
      cancelAnimationFrame(awaited);
      awaited = requestAnimationFrame(arrange);
    },
    true,
  );

  new ResizeObserver(() => {
    const now = element.clientWidth;
    if (!now || Math.abs(now - width) < 1) return;
    width = now;
    anew();
  }).observe(element);

  arrange();
  shown = { anew };
  return {
    element,
    set(others) {
      list = [...others];
      arrange();
    },
    tile: (id) => element.querySelector(`[data-id="${CSS.escape(id)}"]`) ?? undefined,
  };
}
