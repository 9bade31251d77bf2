import { byId } from "./dom.js";

const HOLD_MS = 450;
const STILL_PX = 10;

let held = null;
let timer = 0;
let began = null;
// The click that ends a long press opens nothing.
let swallow = false;

function release() {
  held?.classList.remove("held");
  held = null;
}

function hold(tile) {
  release();
  clearTimeout(timer);
  held = tile;
  swallow = true;
  tile.classList.add("held");
}

/** On screens that are touched, a long press on a photo shows what is said of it, and its buttons. */
export function startHolding() {
  const results = byId("results");
  results.addEventListener("pointerdown", (event) => {
    swallow = false;
    began = null;
    const tile = event.target.closest(".row .tile");
    if (event.pointerType !== "touch" || !tile || tile === held) return;
    began = event;
    timer = setTimeout(() => hold(tile), HOLD_MS);
  });
  results.addEventListener("pointermove", (event) => {
    if (began && Math.hypot(event.clientX - began.clientX, event.clientY - began.clientY) > STILL_PX) clearTimeout(timer);
  });
  for (const end of ["pointerup", "pointercancel"]) results.addEventListener(end, () => clearTimeout(timer));
  results.addEventListener("contextmenu", (event) => {
    const tile = event.target.closest(".row .tile");
    if (!began || !tile) return;
    event.preventDefault();
    hold(tile);
  });
  results.addEventListener(
    "click",
    (event) => {
      if (!swallow || event.target.closest(".tile-button")) return;
      swallow = false;
      event.preventDefault();
      event.stopPropagation();
    },
    true,
  );
  document.addEventListener("pointerdown", (event) => held && !held.contains(event.target) && release());
}
