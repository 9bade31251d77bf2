import { known, nameOf } from "./documents_seen.js";
import { icon, make } from "./dom.js";
import { currentState } from "./navigation.js";
import { writeAddress } from "./state.js";

const percent = (share) => `${Math.round(share * 100)}%`;

/** A match's score as text and bar: calibrated in percent, else the bare cosine. */
function scoreOf(match) {
  if (typeof match.cosine !== "number") return null; // a document of the start page, not a match
  const calibrated = typeof match.score === "number";
  const share = calibrated ? match.score : Math.max(0, match.cosine);
  const meter = make("span", { class: "score-bar", "aria-hidden": "true" }, make("span"));
  meter.firstChild.style.inlineSize = percent(Math.max(0.02, Math.min(1, share)));
  return make(
    "span",
    {
      class: "score",
      data: { testid: "score" },
      title: `${calibrated ? `Score ${match.score.toFixed(4)}, ` : ""}cosine ${match.cosine.toFixed(4)}`,
    },
    meter,
    make("span", { class: "visually-hidden", text: "Score " }),
    calibrated ? percent(match.score) : match.cosine.toFixed(3),
  );
}

function partsOf(match) {
  if (!match.parts) return null;
  const { vector_rank: meaning, word_rank: words } = match.parts;
  const said = [meaning ? `meaning #${meaning}` : null, words ? `words #${words}` : null].filter(Boolean);
  return make("span", { class: "parts", data: { testid: "parts" }, text: said.join(", ") });
}

function duplicatesOf(match) {
  if (!match.duplicates?.length) return null;
  return make("span", { class: "duplicates", data: { testid: "duplicates" }, text: `+${match.duplicates.length} alike` });
}

function actionsOf(match, actions) {
  const name = nameOf(match);
  return make(
    "div",
    { class: "tile-actions" },
    make(
      "button",
      {
        type: "button",
        class: "tile-button more",
        "aria-label": `More like this: ${name}`,
        title: "Add this to the search",
        data: { testid: "more-like-this" },
        on: { click: () => actions.more(match) },
      },
      icon("plus"),
      make("span", {}, "More", make("span", { class: "long-label", text: " like this" })),
    ),
    make(
      "button",
      {
        type: "button",
        class: "tile-button less",
        "aria-label": `Less like this: ${name}`,
        title: "Take things like this away from the search",
        data: { testid: "less-like-this" },
        on: { click: () => actions.less(match) },
      },
      icon("minus"),
      make("span", { text: "Less" }),
    ),
  );
}

/** A thumbnail that says so when it cannot be loaded. */
export function thumbnail(photo, alt, eager = false) {
  const image = make("img", {
    src: photo.thumbnail,
    alt,
    loading: eager ? "eager" : "lazy",
    decoding: "async",
    width: 256,
    height: 192,
    draggable: "true",
  });
  image.addEventListener("error", () => image.replaceWith(make("span", { class: "broken", text: "The photo cannot be shown" })), { once: true });
  return image;
}

/** The address that opens a document over what is shown now. */
export const openAddress = (id) => writeAddress({ ...currentState(), open: id });

function openLink(match, actions, className, ...children) {
  return make(
    "a",
    {
      class: className,
      href: openAddress(match.id),
      data: { testid: "open-result" },
      on: {
        click: (event) => {
          if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
          event.preventDefault();
          actions.open(match.id);
        },
      },
    },
    ...children,
  );
}

function tile(match, className, ...children) {
  return make(
    "article",
    { class: `tile ${className}`, data: { id: match.id, modality: match.modality, rank: match.rank, testid: "result" } },
    ...children,
  );
}

function photoTile(match, actions) {
  const captions = match.captions ?? [];
  const caption = captions[0]?.text;
  const file = typeof match.tags?.file === "string" ? match.tags.file : match.id;
  return tile(
    match,
    "photo-tile",
    openLink(match, actions, "tile-photo", thumbnail(match.photo, nameOf(match), match.rank <= 4), duplicatesOf(match)),
    make("p", { class: caption ? "tile-caption" : "tile-caption no-caption", text: caption ?? file, title: caption ?? file }),
    make(
      "p",
      { class: "tile-facts" },
      scoreOf(match),
      partsOf(match),
      captions.length > 1 && make("span", { text: `+${captions.length - 1} ${captions.length === 2 ? "caption" : "captions"}` }),
    ),
    actionsOf(match, actions),
  );
}

function captionTile(match, actions) {
  return tile(
    match,
    "caption-tile",
    openLink(
      match,
      actions,
      "tile-words",
      make("span", { class: "tile-text", text: match.text }),
      match.photo && thumbnail(match.photo, "", match.rank <= 4),
      duplicatesOf(match),
    ),
    make("p", { class: "tile-facts" }, make("span", { class: "kind", text: "Caption" }), scoreOf(match), partsOf(match)),
    actionsOf(match, actions),
  );
}

/**
 * One result as an article with data-id.
 * @param {object} match a match, or a document of the index
 * @param {{open: Function, more: Function, less: Function}} actions
 */
export function resultTile(match, actions) {
  return match.modality === "image" ? photoTile(match, actions) : captionTile(match, actions);
}

/** Grey shapes that hold the place of `number` results. */
export function skeletons(number) {
  return Array.from({ length: number }, () =>
    make(
      "div",
      { class: "tile skeleton", "aria-hidden": "true" },
      make("div", { class: "skeleton-photo" }),
      make("div", { class: "skeleton-line" }),
      make("div", { class: "skeleton-line short" }),
    ),
  );
}

/** The picture of a document where it is known: its thumbnail's address, or null. */
export function pictureOf(id) {
  return known(id)?.photo?.thumbnail ?? null;
}
