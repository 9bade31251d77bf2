import { api, fileOf, isHidden, keywordsOf, known, pathOf } from "./api.js";
import { removeWithUndo } from "./deleting.js";
import { icon, make } from "./dom.js";
import { button, complain, iconButton, toast } from "./messages.js";
import { DEFAULTS, writeAddress } from "./navigation.js";
import { copy } from "./toolbar.js";
import { whyFound } from "./why.js";

const stateLink = (changes, text, testid) => make("a", { href: writeAddress({ ...DEFAULTS, ...changes }), data: { stateLink: "", testid }, text });

/** A link to all the photos that a filter lets through. */
const browse = (filter, text, testid) => stateLink({ filter }, text, testid);

/** A row with a symbol: what is known of the photo in words. */
const row = (symbol, ...said) => make("div", { class: "panel-row" }, icon(symbol), make("div", {}, ...said));

const line = (text) => make("p", { class: "muted", text });

/** "Thursday, 4 July 2019, 14:03" in the visitor's own way; the day alone where that is all that is known. */
function whenSaid(taken) {
  const [day, time] = taken.split("T");
  const date = new Date(`${day}T${time?.slice(0, 5) ?? "00:00"}`);
  if (Number.isNaN(date.getTime())) return taken;
  return date.toLocaleString([], { dateStyle: "full", timeStyle: time ? "short" : undefined });
}

function exposure({ aperture, exposure_seconds: seconds, focal_length_mm: length, iso }) {
  const said = [
    aperture && `ƒ/${aperture}`,
    seconds && (seconds < 1 ? `1/${Math.round(1 / seconds)} s` : `${seconds} s`),
    length && `${length} mm`,
    iso && `ISO ${iso}`,
  ];
  return said.filter(Boolean).join("  ");
}

function fileSaid({ width, height, bytes, format }) {
  const said = [width && height && `${width} × ${height}`, bytes && (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`), format];
  return said.filter(Boolean).join("  ");
}

function aboutFile(item) {
  const { tags = {} } = item;
  const path = pathOf(item);
  const folder = path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : null;
  const { taken, city, region, country, latitude, longitude } = tags;
  const day = typeof taken === "string" ? taken.slice(0, 10) : null;
  const place = [city, region, country].filter(Boolean).join(", ");
  const near = typeof latitude === "number" && typeof longitude === "number" ? { location: { $near: [latitude, longitude], $within_km: 5 } } : null;
  const where = place || (near && `${latitude.toFixed(4)}, ${longitude.toFixed(4)}`);
  return [
    day && row("clock", make("p", { text: whenSaid(taken) }), make("div", { class: "panel-links" }, stateLink({ moment: item.id }, "The same moment", "same-moment"), browse({ taken: day }, "This day", "same-day"))),
    row(
      "folder",
      make("p", { class: "panel-path", data: { testid: "panel-path" }, text: fileOf(item) }),
      folder && browse({ folder }, folder, "same-folder"),
      line(fileSaid(tags)),
      button("Copy path", { kind: "quiet", testid: "copy-path", on: { click: () => copy(path, "Path copied.") } }),
    ),
    tags.camera && row("camera", browse({ camera: tags.camera }, tags.camera, "same-camera"), line([tags.lens, exposure(tags)].filter(Boolean).join("  "))),
    where && row("pin", near ? browse(near, where, "same-place") : make("p", { text: where })),
  ];
}

/** Changes a photo, or one of its captions; the message takes that back. */
async function write(photo, change, words, changed, id = photo) {
  const show = async ({ item }) => changed(id === photo ? item : await api.document(photo));
  try {
    const made = await api.change(id, change);
    await show(made);
    toast(words, { undo: made.undo && (() => made.undo().then(show)) });
  } catch (error) {
    complain(error);
  }
}

const STARS = [1, 2, 3, 4, 5];

function rating(item, mayWrite, changed) {
  const now = item.tags?.rating ?? 0;
  if (!mayWrite && !now) return null;
  const star = (value) =>
    make(
      "button",
      {
        type: "button",
        class: value <= now ? "star full" : "star",
        disabled: !mayWrite,
        "aria-label": `${value} ${value === 1 ? "star" : "stars"}`,
        "aria-pressed": String(value === now),
        data: { testid: `star-${value}`, focusKey: `star-${value}` },
        on: {
          click: () => {
            const rating = value === now ? null : value;
            write(item.id, { tags: { rating } }, rating ? `Rated ${rating} of 5.` : "Rating removed.", changed);
          },
        },
      },
      icon("star"),
    );
  return make("div", { class: "stars", role: "group", "aria-label": "Rating" }, ...STARS.map(star));
}

/** A form of one field, which says what was written in it. */
function oneField(label, testid, listener, value = "") {
  const input = make("input", { class: "text-field", dir: "auto", value, maxlength: 2000, placeholder: label, "aria-label": label, data: { testid, focusKey: testid } });
  const submit = (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (text && text !== value) listener(text);
  };
  return make("form", { class: "one-field", on: { submit } }, input);
}

function keywords(item, mayWrite, changed) {
  const old = keywordsOf(item);
  if (!mayWrite && !old.length) return [];
  const save = (how, word, words) => write(item.id, { [how]: { tags: { keywords: [word] } } }, words, changed);
  const chip = (word) =>
    make(
      "li",
      { class: "chip", data: { testid: "keyword", value: word } },
      make("span", { class: "chip-name" }, browse({ keywords: word }, word)),
      mayWrite &&
        iconButton("close", `Remove the tag ${word}`, () => save("remove", word, `Tag ${word} removed.`), { class: "chip-remove", title: null }),
    );
  return [
    make("h3", { text: "Tags" }),
    make("ul", { class: "panel-chips" }, ...old.map(chip)),
    mayWrite && oneField("Add a tag", "add-keyword", (word) => save("add", word, `Tagged ${word}.`)),
  ];
}

function captions(all, photo, mayWrite, changed) {
  const listed = all.filter(({ id }) => !isHidden(id));
  const editable = mayWrite && photo;
  const caption = ({ id, text, chosen }) => {
    const item = make("li", { class: chosen ? "chosen" : "" }, make("span", { text }));
    if (!editable) return item;
    const edit = () => {
      const form = oneField("The caption", "caption-text", (now) => write(photo.id, { text: now }, "Caption changed.", changed, id), text);
      item.replaceChildren(form);
      form.querySelector("input").focus();
    };
    const gone = () => {
      const now = known(photo.id) ?? photo;
      changed({ ...now, captions: now.captions.filter((each) => each.id !== id) });
    };
    item.append(
      iconButton("edit", `Change the caption: ${text}`, edit, { data: { testid: "caption-edit" }, title: "Change" }),
      iconButton("close", `Remove the caption: ${text}`, () => removeWithUndo([id], gone, "caption"), { data: { testid: "caption-remove" }, title: "Remove" }),
    );
    return item;
  };
  if (!listed.length && !editable) return [];
  return [
    make("h3", { text: listed.length === 1 ? "Caption" : "Captions" }),
    make("ul", { class: "lightbox-captions", data: { testid: "lightbox-captions" } }, ...listed.map(caption)),
    editable && oneField("Add a caption", "add-caption", (text) => write(photo.id, { add: { captions: [text] } }, "Caption added.", changed)),
  ];
}

function tagRows(tags, prefix = "") {
  return Object.entries(tags).flatMap(([name, value]) => {
    const full = prefix + name;
    if (value && typeof value === "object" && !Array.isArray(value)) return tagRows(value, `${full}.`);
    return [make("div", {}, make("dt", { text: full }), make("dd", { text: Array.isArray(value) ? value.join(", ") : String(value) }))];
  });
}

function allTags(item, open) {
  const rows = tagRows(item.tags ?? {});
  const details = make(
    "details",
    { open: open.tags, data: { testid: "all-tags" } },
    make("summary", { text: "All that is known of it" }),
    rows.length ? make("dl", { class: "lightbox-tags", data: { testid: "lightbox-tags" } }, ...rows) : null,
    make("p", { class: "lightbox-id" }, "id ", make("code", { text: item.id })),
  );
  details.addEventListener("toggle", () => (open.tags = details.open));
  return details;
}

// Whether the list of all tags is open, for the next photo as well.
const open = { tags: false };

/**
 * What is known of a document, to be changed where that is allowed.
 * @param {object} item
 * @param {{match?: object, listed: object[], mayWrite: boolean, more: Array, changed: (item: object) => void}} given
 *   `listed` are its captions, `more` what stands before all tags, `changed` is called with what it has become
 */
export function panelOf(item, { match, listed, mayWrite, more, changed }) {
  const photo = item.modality === "image" ? item : null;
  return [
    photo && rating(item, mayWrite, changed),
    ...(photo ? aboutFile(item) : []),
    whyFound(match),
    ...captions(listed, photo, mayWrite, changed),
    ...(photo ? keywords(item, mayWrite, changed) : []),
    item.text_in_photo && make("h3", { text: "Text in the photo" }),
    item.text_in_photo && make("p", { class: "lightbox-seen", data: { testid: "lightbox-seen" }, text: item.text_in_photo }),
    ...more,
    allTags(item, open),
  ].filter(Boolean);
}
