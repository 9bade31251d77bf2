const MOST = 8;
/** What a double click zooms to. */
const CLOSER = 2.5;
/** One notch of a wheel. */
const NOTCH = 1.2;

/**
 * Lets a photo be zoomed by wheel, pinch, double click and keys, and moved while it is.
 * @param {HTMLElement} stage what clips it
 * @param {HTMLElement} photo stands in the middle of the stage
 * @returns {{zoomed: () => boolean, by: (factor: number) => void, reset: () => void}}
 */
export function zoomable(stage, photo) {
  let scale = 1;
  let [x, y] = [0, 0];
  const fingers = new Map();

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

  const middle = () => {
    const [one, other] = fingers.values();
    return { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2, apart: Math.hypot(one.x - other.x, one.y - other.y) };
  };

  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      zoom(scale * (event.deltaY < 0 ? NOTCH : 1 / NOTCH), event);
    },
    { passive: false },
  );
  stage.addEventListener("dblclick", (event) => zoom(scale > 1 ? 1 : CLOSER, event));
  photo.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, event);
    if (scale > 1 || fingers.size > 1) photo.setPointerCapture(event.pointerId);
  });
  photo.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const pinched = fingers.size === 2 ? middle() : null;
    fingers.set(event.pointerId, event);
    if (pinched) {
      const now = middle();
      x += now.x - pinched.x;
      y += now.y - pinched.y;
      zoom((scale * now.apart) / pinched.apart, now);
    } else if (scale > 1) {
      x += event.x - before.x;
      y += event.y - before.y;
      draw();
    }
  });
  for (const end of ["pointerup", "pointercancel"]) photo.addEventListener(end, (/** @type {PointerEvent} */ event) => fingers.delete(event.pointerId));
  photo.draggable = false;
  return { zoomed: () => scale > 1, by: (factor) => zoom(scale * factor), reset: () => zoom(1) };
}
