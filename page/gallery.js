import { announce } from "./announce.js";
import { api } from "./api.js";
import { remember } from "./documents_seen.js";
import { byId, count, make } from "./dom.js";
import { button, errorCard, messageCard } from "./messages.js";
import { resultTile, skeletons } from "./tiles.js";

const PAGE = 24;
let shown = null;

/** Forgets the photos of the start page, since the index has changed. */
export function forgetGallery() {
  shown = null;
}

const nothingIndexed = () =>
  messageCard({
    title: "Nothing is indexed yet",
    detail: "Add photos on this page, or index a folder where the server runs: python app.py -t index -d ~/Pictures",
    symbol: "image",
    testid: "nothing-indexed",
    actions: [make("a", { class: "button primary", href: "/?view=add", data: { view: "add" }, text: "Add photos" })],
  });

function draw(actions) {
  const place = byId("results");
  place.removeAttribute("aria-busy");
  place.dataset.kind = "gallery";
  place.className = "results";
  if (!shown.documents.length) {
    place.replaceChildren(nothingIndexed());
    return;
  }
  const grid = make(
    "div",
    { class: "grid grid-image", data: { testid: "gallery" } },
    ...shown.documents.map((item) => resultTile(item, actions)),
  );
  const foot = make("div", { class: "section-foot" });
  if (shown.next) foot.append(button("Show more photos", { symbol: "down", on: { click: () => more(actions) }, testid: "gallery-more" }));
  place.replaceChildren(make("h2", { class: "section-title", text: "Some of the photos" }), grid, foot);
}

async function more(actions) {
  const place = byId("results");
  place.querySelector("[data-testid=gallery-more]").disabled = true;
  const before = shown.documents.length;
  try {
    const page = await api.documents({ modality: "image", limit: PAGE, after: shown.next });
    remember(page.documents);
    shown = { documents: [...shown.documents, ...page.documents], next: page.next };
    if (place.dataset.kind !== "gallery") return;
    draw(actions);
    place.querySelectorAll("[data-testid=open-result]")[before]?.focus({ preventScroll: true });
    announce(`${count(page.documents.length, "more photo")} shown.`);
  } catch (error) {
    place.lastElementChild.replaceChildren(errorCard(error, () => more(actions)));
  }
}

/**
 * Shows some of the indexed photos on the start page.
 * @param {object} actions as for resultTile()
 * @param {() => boolean} stillWanted asked when the answer has come
 */
export async function showGallery(actions, stillWanted) {
  if (shown) {
    draw(actions);
    return;
  }
  const place = byId("results");
  place.dataset.kind = "loading";
  place.className = "results";
  place.setAttribute("aria-busy", "true");
  place.replaceChildren(make("div", { class: "grid", data: { testid: "loading" } }, ...skeletons(8)));
  try {
    const page = await api.documents({ modality: "image", limit: PAGE });
    remember(page.documents);
    shown = { documents: page.documents, next: page.next };
    if (stillWanted()) draw(actions);
  } catch (error) {
    if (!stillWanted()) return;
    place.removeAttribute("aria-busy");
    place.dataset.kind = "error";
    place.replaceChildren(errorCard(error, () => showGallery(actions, stillWanted)));
  }
}

/** The ids of the start page's photos, in their order. */
export const galleryIds = () => (shown ? shown.documents.map((item) => item.id) : []);
