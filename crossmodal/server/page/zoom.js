const MOST = 8;
/** What a double click zooms to. */
const CLOSER = 2.5;
/** One notch of a wheel. */
const NOTCH = 1.2;

/**
 * Follows wheel, pinch and drag.
 * @param {HTMLElement} stage where the wheel turns
 * @param {HTMLElement} grip what is held
 * @param {{zoom: (factor: number, point: {x: number, y: number}) => void, move: (x: number, y: number) => void, holds?: () => boolean}} acts
 *   in pixels of the screen; `holds` says whether one finger moves it
 */
export function gestures(stage, grip, { zoom, move, holds = () => true }) {
  const fingers = new Map();
  const middle = () => {
    const [one, other] = fingers.values();
    return { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2, apart: Math.hypot(one.x - other.x, one.y - other.y) };
  };
  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      zoom(event.deltaY < 0 ? NOTCH : 1 / NOTCH, event);
    },
    { passive: false },
  );
  grip.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, event);
    if (holds() || fingers.size > 1) grip.setPointerCapture(event.pointerId);
  });
  grip.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const pinched = fingers.size === 2 ? middle() : null;
    fingers.set(event.pointerId, event);
    if (pinched) {
      const now = middle();
      move(now.x - pinched.x, now.y - pinched.y);
      zoom(now.apart / pinched.apart, now);
    } else if (holds()) move(event.x - before.x, event.y - before.y);
  });
  for (const end of ["pointerup", "pointercancel"]) grip.addEventListener(end, (/** @type {PointerEvent} */ event) => fingers.delete(event.pointerId));
}

/**
 * Lets a photo be zoomed by wheel, pinch, double click and keys, and moved while it is.
 * @param {HTMLElement} stage what clips it
 * @param {HTMLElement} photo stands in the middle of the stage
 * @returns {{zoomed: () => boolean, by: (factor: number) => void, reset: () => void}}
 */
export function zoomable(stage, photo) {
  let scale = 1;
  let [x, y] = [0, 0];

  function draw() {
    // The photo covers the stage as far as it can, so that it is never lost out of sight.
    const [width, height] = [photo.offsetWidth, photo.offsetHeight];
    const room = (size, place) => Math.max(0, (size * scale - place) / 2);
    x = Math.min(room(width, stage.clientWidth), Math.max(-room(width, stage.clientWidth), x));
    y = Math.min(room(height, stage.clientHeight), Math.max(-room(height, stage.clientHeight), y));
    photo.style.transform = scale > 1 ? `translate(${x}px, ${y}px) scale(${scale})` : "";
    stage.classList.toggle("zoomed", scale > 1);
  }

  /** Zooms so that the point of the screen keeps what it shows; without one, the middle does. */
  function zoom(next, point) {
    const box = stage.getBoundingClientRect();
    const [atX, atY] = point ? [point.x - box.x - box.width / 2, point.y - box.y - box.height / 2] : [0, 0];
    const wanted = Math.min(MOST, Math.max(1, next));
    x = atX - ((atX - x) * wanted) / scale;
    y = atY - ((atY - y) * wanted) / scale;
    scale = wanted;
    draw();
  }

  function move(byX, byY) {
    x += byX;
    y += byY;
    draw();
  }

  gestures(stage, photo, { zoom: (factor, point) => zoom(scale * factor, point), move, holds: () => scale > 1 });
  stage.addEventListener("dblclick", (event) => zoom(scale > 1 ? 1 : CLOSER, event));
  photo.draggable = false;
  return { zoomed: () => scale > 1, by: (factor) => zoom(scale * factor), reset: () => zoom(1) };
}
