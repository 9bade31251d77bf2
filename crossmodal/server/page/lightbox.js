import { api, contentUrl, fileOf, known, nameOf, Problem, remember, thumbnailUrl } from "./api.js";
import { removeWithUndo } from "./deleting.js";
import { along, byId, icon, make } from "./dom.js";
import { announce, button, complain, errorCard, iconButton } from "./messages.js";
import { closeOpened, currentState, navigate } from "./navigation.js";
import { panelOf } from "./panel.js";
import { openAddress } from "./results.js";
import { copyLink } from "./toolbar.js";
import { clock, momentsStrip, player } from "./videos.js";
import { zoomable } from "./zoom.js";

let hooks = null;
let shown = null;
// Whether documents may be changed, as far as the server has said.
let mayWrite = false;
// How the photo on the stage is zoomed, or null.
let zoom = null;

function step(by) {
  const ids = hooks.sequence();
  const position = ids.indexOf(shown);
  const next = ids[position + by];
  if (position >= 0 && next !== undefined) navigate({ open: next }, { replace: true });
}

function captionsOf(item, photo) {
  if (item.modality === "text") {
    const others = (photo?.captions ?? []).filter((caption) => caption.id !== item.id);
    return [{ id: item.id, text: item.text, chosen: true }, ...others];
  }
  return item.captions ?? [];
}

function duplicatesStrip(item) {
  if (!item.duplicates?.length || item.modality !== "image") return null;
  const links = item.duplicates.map((id) =>
    make(
      "a",
      {
        href: openAddress(id),
        "aria-label": "Open a near-duplicate",
        on: { click: (event) => (event.preventDefault(), navigate({ open: id }, { replace: true })) },
      },
      make("img", { src: thumbnailUrl(id), alt: "Near-duplicate", loading: "lazy", decoding: "async", width: 72, height: 54 }),
    ),
  );
  return make("div", {}, make("h3", { text: "Near-duplicates" }), make("div", { class: "strip" }, ...links));
}

/** Deletes what is open, and shows the next photo in its place. */
function remove(item) {
  const ids = hooks.sequence();
  const position = ids.indexOf(item.id);
  const next = position < 0 ? undefined : (ids[position + 1] ?? ids[position - 1]);
  removeWithUndo([item.id], hooks.deleted, item.modality === "image" ? "photo" : "caption");
  if (next) navigate({ open: next }, { replace: true });
  else closeOpened();
}

const PANEL_KEY = "crossmodal.panel";
const ROOMY = "(min-width: 60.01rem)";

/** Whether the panel is open: as it was left last, and at first where there is room for it. */
function panelOpen() {
  try {
    const stored = localStorage.getItem(PANEL_KEY);
    if (stored) return stored === "open";
  } catch {
    // storage may be forbidden
  }
  return matchMedia(ROOMY).matches;
}

function togglePanel() {
  const dialog = byId("lightbox");
  const open = dialog.classList.toggle("with-panel");
  dialog.querySelector("[data-testid=lightbox-info]")?.setAttribute("aria-expanded", String(open));
  try {
    localStorage.setItem(PANEL_KEY, open ? "open" : "closed");
  } catch {
    // the choice holds for this photo only
  }
}

function bar(item, photo) {
  const act = (symbol, label, testid, click, attributes = {}) => iconButton(symbol, label, click, { data: { testid, focusKey: testid }, ...attributes });
  return make(
    "div",
    { class: "lightbox-bar" },
    act("close", "Close", "lightbox-close", closeOpened, { title: "Close (Esc)" }),
    make("span", { class: "lightbox-gap" }),
    button("More like this", { symbol: "plus", testid: "lightbox-more", on: { click: () => hooks.actions.more(item) } }),
    act("minus", "Less like this", "lightbox-less", () => hooks.actions.less(item)),
    photo &&
      make(
        "a",
        {
          class: "icon-button",
          href: `${photo.content}?original=true`,
          download: fileOf(item),
          "aria-label": "Download",
          title: "Download",
          data: { testid: "lightbox-download", focusKey: "download" },
        },
        icon("download"),
      ),
    act("link", "Copy link", "lightbox-link", () => copyLink({ open: item.id })),
    mayWrite && act("trash", "Delete", "lightbox-delete", () => remove(item)),
    act("info", "Information", "lightbox-info", togglePanel, { title: "Information (i)", "aria-expanded": String(panelOpen()), "aria-controls": "lightbox-panel" }),
  );
}

/** What the server says of a photo or video that it doesn't hand out, in the place of that. */
async function explainMissing(element) {
  const text = element.controls ? "This browser cannot play the video; it can be downloaded." : "The photo cannot be shown.";
  const place = make("p", { class: "broken", text });
  element.replaceWith(place);
  const answer = await fetch(element.src, { headers: { Range: "bytes=0-0" } }).catch(() => null);
  const problem = answer && !answer.ok ? await answer.json().catch(() => null) : null;
  if (problem?.detail) place.textContent = problem.detail;
}

function stage(item, photo) {
  zoom = null;
  if (!photo) return make("div", { class: "lightbox-stage" }, make("blockquote", { text: item.text }));
  if (item.video) {
    const video = player(item, nameOf(item));
    video.addEventListener("error", () => explainMissing(video), { once: true });
    return make("div", { class: "lightbox-stage" }, video);
  }
  const source = photo.content ?? contentUrl(photo.id);
  const image = make("img", { src: source, alt: nameOf(item), decoding: "async", data: { testid: "lightbox-image" } });
  const { width, height } = photo;
  if (width && height) image.style.setProperty("--ratio", String(width / height));
  if (photo.thumbnail) image.style.backgroundImage = `url("${photo.thumbnail}")`;
  image.addEventListener(
    "load",
    () => {
      image.style.setProperty("--ratio", String(image.naturalWidth / image.naturalHeight));
      // What can be seen through is shown on white.
      image.style.backgroundImage = "none";
      preload();
    },
    { once: true },
  );
  image.addEventListener("error", () => explainMissing(image), { once: true });
  const place = make("div", { class: "lightbox-stage" }, image);
  zoom = zoomable(place, image);
  return place;
}

/** Fetches the photos that the arrows lead to, so that they are there at once. */
function preload() {
  const ids = hooks.sequence();
  const position = ids.indexOf(shown);
  for (const id of [ids[position + 1], ids[position - 1]]) {
    if (position >= 0 && id && !known(id)?.video) new Image().src = known(id)?.photo?.content ?? contentUrl(id);
  }
}

function arrow(direction, by, ids) {
  const position = ids.indexOf(shown);
  const possible = position >= 0 && ids[position + by] !== undefined;
  return iconButton(direction, by > 0 ? "Next" : "Previous", () => step(by), {
    class: `lightbox-arrow ${direction}`,
    title: by > 0 ? "Next (→)" : "Previous (←)",
    disabled: !possible,
    data: { testid: by > 0 ? "lightbox-next" : "lightbox-previous", focusKey: direction },
  });
}

function frame(label, ...children) {
  const dialog = byId("lightbox");
  const focused = dialog.contains(document.activeElement) ? document.activeElement.dataset.focusKey : null;
  const messages = dialog.querySelector("#toasts");
  dialog.setAttribute("aria-label", label);
  dialog.replaceChildren(...[...children, messages].filter(Boolean));
  const again = focused ? dialog.querySelector(`[data-focus-key="${CSS.escape(focused)}"]:not(:disabled)`) : null;
  (again ?? dialog.querySelector("[data-testid=lightbox-close]")).focus({ preventScroll: true });
}

const closing = () =>
  make("div", { class: "lightbox-bar" }, iconButton("close", "Close", closeOpened, { data: { testid: "lightbox-close", focusKey: "lightbox-close" } }));

let drawn = null;

/** Draws a document; the stage stays as it is where it shows this document already. */
function draw(item, photoDocument) {
  const ids = hooks.sequence();
  const photo = item.photo ?? (item.modality === "image" ? { id: item.id, content: contentUrl(item.id) } : null);
  const match = hooks.matchOf(item.id);
  const dialog = byId("lightbox");
  const old = dialog.dataset.id === item.id ? dialog.querySelector(".lightbox-stage:not(.loading)") : null;
  drawn = { item, photoDocument };
  dialog.dataset.id = item.id;
  dialog.classList.toggle("with-panel", panelOpen());
  const panel = panelOf(item, {
    match,
    listed: captionsOf(item, photoDocument),
    mayWrite,
    more: [item.video ? momentsStrip(item) : match && duplicatesStrip(match)],
    changed: (now) => {
      remember([now]);
      hooks.changed(now);
      if (shown === now.id) draw(now, null);
    },
  });
  frame(
    nameOf(item),
    make("div", { class: "lightbox-main" }, old ?? stage(item, photo), bar(item, photo), arrow("left", -1, ids), arrow("right", 1, ids)),
    make(
      "section",
      { id: "lightbox-panel", class: "lightbox-side", "aria-label": "Information" },
      make("h2", { text: item.video ? `Video at ${clock(item.video.time_seconds)}` : item.modality === "image" ? "Photo" : "Caption" }),
      ...panel,
    ),
  );
}

async function load(id) {
  try {
    const item = await api.document(id);
    remember([item]);
    let photo = null;
    if (item.modality === "text" && item.photo) {
      photo = await api.document(item.photo.id).catch((error) => {
        if (error instanceof Problem && error.status === 404) return null; // a caption may outlive its photo
        throw error;
      });
    }
    if (shown === id) draw(item, photo);
  } catch (error) {
    if (shown !== id) return;
    if (known(id)) complain(error);
    else frame("Error", make("div", { class: "lightbox-main" }, errorCard(error, () => load(id)), closing()));
  }
}

/** Opens, changes or closes the lightbox as the state says. */
export function showLightbox(state) {
  const dialog = byId("lightbox");
  if (!state.open) {
    if (dialog.open) {
      const last = shown;
      shown = null;
      drawn = null;
      dialog.querySelector("video")?.pause();
      dialog.close();
      delete dialog.dataset.id;
      document.querySelector(`[data-testid=result][data-id="${CSS.escape(last ?? "")}"] a`)?.focus({ preventScroll: true });
    }
    return;
  }
  if (shown === state.open) return;
  shown = state.open;
  if (!dialog.open) dialog.showModal();
  const item = known(shown);
  if (item) draw(item, null);
  else frame("Photo", make("div", { class: "lightbox-main" }, make("div", { class: "lightbox-stage loading", "aria-busy": "true" }), closing()));
  announce(item ? nameOf(item) : "Loading");
  load(shown);
  hooks.writable().then((allowed) => {
    if (allowed === mayWrite) return;
    mayWrite = allowed;
    if (drawn && shown === drawn.item.id) draw(drawn.item, drawn.photoDocument);
  });
}

/**
 * @param {{actions: object, sequence: () => string[], matchOf: Function, writable: () => Promise<boolean>,
 *   deleted: () => void, changed: (item: object) => void}} given `sequence` lists the ids that the arrows step through
 */
export function startLightbox(given) {
  hooks = given;
  const dialog = byId("lightbox");
  addEventListener("documents-hidden", () => drawn && draw(drawn.item, drawn.photoDocument));
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    closeOpened();
  });
  dialog.addEventListener("close", () => {
    if (currentState().open) closeOpened(); // a second Esc closes a dialog whatever its page says
  });
  dialog.addEventListener("click", (event) => {
    if (event.target.classList.contains("lightbox-stage") && !zoom?.zoomed()) closeOpened();
  });
  // Not in the dialog alone: a click on the photo leaves the focus nowhere.
  document.addEventListener("keydown", (event) => {
    if (!dialog.open || event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input")) return;
    if (along(event.key)) step(along(event.key));
    else if (event.key === "i") togglePanel();
    else if (event.key === "+" || event.key === "=") zoom?.by(1.5);
    else if (event.key === "-") zoom?.by(1 / 1.5);
    else if (event.key === "0") zoom?.reset();
  });
  let touch = null;
  dialog.addEventListener("touchstart", (event) => (touch = event.touches.length === 1 ? event.touches[0] : null), { passive: true });
  dialog.addEventListener(
    "touchend",
    (event) => {
      if (!touch || zoom?.zoomed() || !event.target.closest(".lightbox-main")) return;
      const moved = event.changedTouches[0].clientX - touch.clientX;
      const sideways = Math.abs(moved) > 60 && Math.abs(moved) > 2 * Math.abs(event.changedTouches[0].clientY - touch.clientY);
      if (sideways) step(along(moved < 0 ? "ArrowRight" : "ArrowLeft"));
      touch = null;
    },
    { passive: true },
  );
}
