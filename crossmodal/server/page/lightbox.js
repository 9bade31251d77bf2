import { api, contentUrl, fileOf, forget, known, nameOf, Problem, remember, thumbnailUrl } from "./api.js";
import { byId, icon, make } from "./dom.js";
import { announce, button, confirmed, errorCard, explainInLine, iconButton, toast } from "./messages.js";
import { closeOpened, currentState, navigate } from "./navigation.js";
import { openAddress, percent } from "./results.js";
import { copyLink } from "./toolbar.js";
import { clock, momentsStrip, player } from "./videos.js";

let hooks = null;
let shown = null;

function step(by) {
  const ids = hooks.sequence();
  const position = ids.indexOf(shown);
  const next = ids[position + by];
  if (position >= 0 && next !== undefined) navigate({ open: next }, { replace: true });
}

function tagRows(tags, prefix = "") {
  return Object.entries(tags).flatMap(([name, value]) => {
    const full = prefix + name;
    if (value && typeof value === "object" && !Array.isArray(value)) return tagRows(value, `${full}.`);
    return [make("div", {}, make("dt", { text: full }), make("dd", { text: Array.isArray(value) ? value.join(", ") : String(value) }))];
  });
}

function captionsOf(item, photo) {
  if (item.modality === "text") {
    const others = (photo?.captions ?? []).filter((caption) => caption.id !== item.id);
    return [{ id: item.id, text: item.text, chosen: true }, ...others];
  }
  return item.captions ?? [];
}

function captionList(captions) {
  if (!captions.length) return make("p", { class: "muted", text: "This photo has no captions." });
  return make(
    "ul",
    { class: "lightbox-captions", data: { testid: "lightbox-captions" } },
    ...captions.map(({ text, chosen }) => make("li", { class: chosen ? "chosen" : "", text })),
  );
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

async function remove(item) {
  const captions = item.captions?.length ?? 0;
  const photo = item.modality === "image";
  const sure = await confirmed({
    title: photo ? "Take this photo out of the index?" : "Take this caption out of the index?",
    detail: photo && captions
      ? `Its ${captions === 1 ? "caption goes" : `${captions} captions go`} with it, for good; so does a photo that was uploaded. A file in a folder stays.`
      : photo
        ? "For good, if it was uploaded. A file in a folder stays."
        : "It will no longer be found.",
    action: "Delete",
  });
  if (!sure) return;
  try {
    const { deleted } = await api.remove(item.id);
    forget(deleted);
    toast(photo ? "Photo deleted from the index." : "Caption deleted from the index.");
    hooks.onDeleted(deleted);
  } catch (error) {
    toast(explainInLine(error), { kind: "error" });
  }
}

function buttons(item, photo) {
  const actions = make(
    "div",
    { class: "lightbox-actions" },
    button("More like this", { symbol: "plus", kind: "primary", on: { click: () => hooks.actions.more(item) }, testid: "lightbox-more" }),
    button("Less like this", { symbol: "minus", on: { click: () => hooks.actions.less(item) }, testid: "lightbox-less" }),
    photo &&
      make(
        "a",
        { class: "button", href: `${photo.content}?original=true`, download: fileOf(item), data: { testid: "lightbox-download" } },
        icon("download"),
        "Download",
      ),
    button("Copy link", { symbol: "link", on: { click: () => copyLink({ open: item.id }) }, testid: "lightbox-link" }),
  );
  hooks.writable().then((allowed) => {
    if (allowed) actions.append(button("Delete", { symbol: "trash", kind: "danger-quiet", on: { click: () => remove(item) }, testid: "lightbox-delete" }));
  });
  return actions;
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
  if (!photo) return make("div", { class: "lightbox-stage" }, make("blockquote", { text: item.text }));
  if (item.video) {
    const video = player(item, nameOf(item));
    video.addEventListener("error", () => explainMissing(video), { once: true });
    return make("div", { class: "lightbox-stage" }, video);
  }
  const image = make("img", { src: photo.content ?? contentUrl(photo.id), alt: nameOf(item), decoding: "async", data: { testid: "lightbox-image" } });
  // So that the white behind what can be seen through is no larger than the photo.
  image.addEventListener("load", () => image.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight), { once: true });
  image.addEventListener("error", () => explainMissing(image), { once: true });
  return make("div", { class: "lightbox-stage" }, image);
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

function facts(item) {
  if (typeof item.score === "number") return `Score ${percent(item.score)}, cosine ${item.cosine.toFixed(3)}`;
  return typeof item.cosine === "number" ? `Cosine ${item.cosine.toFixed(3)}` : null;
}

function frame(...children) {
  const close = iconButton("close", "Close", closeOpened, {
    class: "lightbox-close",
    title: "Close (Esc)",
    data: { testid: "lightbox-close", focusKey: "close" },
  });
  const dialog = byId("lightbox");
  const focused = dialog.contains(document.activeElement) ? document.activeElement.dataset.focusKey : null;
  dialog.replaceChildren(...children, close);
  const again = focused ? dialog.querySelector(`[data-focus-key="${focused}"]:not(:disabled)`) : null;
  (again ?? close).focus({ preventScroll: true });
}

function draw(item, photoDocument) {
  const ids = hooks.sequence();
  const photo = item.photo ?? (item.modality === "image" ? { id: item.id, content: contentUrl(item.id) } : null);
  const captions = captionsOf(item, photoDocument);
  const match = hooks.matchOf(item.id);
  const tags = tagRows(item.tags ?? {});
  const said = match ? facts(match) : null;
  byId("lightbox").dataset.id = item.id;
  byId("lightbox").setAttribute("aria-label", nameOf(item));
  frame(
    make("div", { class: "lightbox-main" }, stage(item, photo), arrow("left", -1, ids), arrow("right", 1, ids)),
    make(
      "div",
      { class: "lightbox-side" },
      make("h2", { text: item.video ? `Video at ${clock(item.video.time_seconds)}` : item.modality === "image" ? "Photo" : "Caption" }),
      said && make("p", { class: "muted", text: said }),
      buttons(item, photo),
      make("h3", { text: captions.length === 1 ? "Caption" : "Captions" }),
      captionList(captions),
      item.text_in_photo && make("h3", { text: "Text in the photo" }),
      item.text_in_photo && make("p", { class: "lightbox-seen", data: { testid: "lightbox-seen" }, text: item.text_in_photo }),
      tags.length > 0 && make("h3", { text: "Tags" }),
      tags.length > 0 && make("dl", { class: "lightbox-tags", data: { testid: "lightbox-tags" } }, ...tags),
      item.video ? momentsStrip(item) : match && duplicatesStrip(match),
      make("p", { class: "lightbox-id" }, "id ", make("code", { text: item.id })),
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
    if (known(id)) toast(explainInLine(error), { kind: "error" });
    else frame(make("div", { class: "lightbox-main" }, errorCard(error, () => load(id))));
  }
}

/** Opens, changes or closes the lightbox as the state says. */
export function showLightbox(state) {
  const dialog = byId("lightbox");
  if (!state.open) {
    if (dialog.open) {
      const last = shown;
      shown = null;
      dialog.close();
      document.querySelector(`[data-testid=result][data-id="${CSS.escape(last ?? "")}"] a`)?.focus({ preventScroll: true });
    }
    return;
  }
  if (shown === state.open) return;
  shown = state.open;
  if (!dialog.open) dialog.showModal();
  const item = known(shown);
  if (item) draw(item, null);
  else frame(make("div", { class: "lightbox-main" }, make("div", { class: "lightbox-stage loading", "aria-busy": "true" })));
  announce(item ? nameOf(item) : "Loading");
  load(shown);
}

/**
 * @param {{actions: object, sequence: () => string[], matchOf: Function, writable: () => Promise<boolean>,
 *   onDeleted: (ids: string[]) => void}} given `sequence` lists the ids that the arrows step through
 */
export function startLightbox(given) {
  hooks = given;
  const dialog = byId("lightbox");
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    closeOpened();
  });
  dialog.addEventListener("close", () => {
    if (currentState().open) closeOpened(); // a second Esc closes a dialog whatever its page says
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.classList.contains("lightbox-stage")) closeOpened();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
  });
  let touch = null;
  dialog.addEventListener("touchstart", (event) => (touch = event.touches.length === 1 ? event.touches[0] : null), { passive: true });
  dialog.addEventListener(
    "touchend",
    (event) => {
      if (!touch) return;
      const moved = event.changedTouches[0].clientX - touch.clientX;
      const sideways = Math.abs(moved) > 60 && Math.abs(moved) > 2 * Math.abs(event.changedTouches[0].clientY - touch.clientY);
      if (sideways) step(moved < 0 ? 1 : -1);
      touch = null;
    },
    { passive: true },
  );
}
