import { api, archiveUrl, lookUp, pathOf } from "./api.js";
import { byId, count, make } from "./dom.js";
import { removeWithUndo } from "./deleting.js";
import { announce, button, complain, iconButton, toast } from "./messages.js";
import { DEFAULTS, MAX_TERMS, navigate } from "./navigation.js";
import { copy } from "./toolbar.js";

let hooks = null;
// The ids of the selected photos, in the order in which they were selected.
const chosen = new Set();
// Where a range begins that Shift ends.
let anchor = null;

/** Whether a photo is selected. */
export const isSelected = (id) => chosen.has(id);

/** Whether any is. */
export const hasSelection = () => chosen.size > 0;

/** Selects none. */
export function clearSelection() {
  if (!chosen.size) return;
  chosen.clear();
  anchor = null;
  draw();
}

/** Selects or unselects a photo; with `range` all from the last one to it are selected. */
export function select(id, { range = false } = {}) {
  const ids = hooks.sequence();
  const [from, to] = [ids.indexOf(anchor), ids.indexOf(id)].sort((one, other) => one - other);
  if (range && from >= 0 && to >= 0) for (const each of ids.slice(from, to + 1)) chosen.add(each);
  else if (!chosen.delete(id)) chosen.add(id);
  if (!range) anchor = id;
  draw();
  announce(`${chosen.size} selected.`);
}

/** Selects photos, all that are shown where none are named; with `toggle` unselects them if all of them are selected. */
export function selectAll(ids = hooks.sequence(), { toggle = false } = {}) {
  const remove = toggle && ids.every(isSelected);
  for (const id of ids) remove ? chosen.delete(id) : chosen.add(id);
  draw();
  announce(`${chosen.size} selected.`);
}

function moreLikeThese() {
  const ids = [...chosen];
  if (ids.length > MAX_TERMS) toast(`A search has at most ${MAX_TERMS} terms, so that it takes the first ${MAX_TERMS} of them.`);
  clearSelection();
  navigate({ view: "search", open: null, terms: ids.slice(0, MAX_TERMS).map((value) => ({ kind: "id", value, weight: 1 })) });
}

/** Their ids stand in the address; one of 8 kB passes the proxies that there are. */
const MOST_WITHIN = 250;

function searchInThese() {
  const ids = [...chosen];
  if (ids.length > MOST_WITHIN) {
    toast(`Up to ${MOST_WITHIN} selected photos can be searched in. Tag them, and filter by the tag.`, { kind: "error" });
    return;
  }
  clearSelection();
  navigate({ ...DEFAULTS, filter: { $ids: ids } });
  byId("search-box").focus();
}

async function copyPaths() {
  const items = await Promise.all([...chosen].map((id) => lookUp(id)));
  await copy(items.map(pathOf).join("\n"), `${count(items.length, "path")} copied.`);
}

/** Has the browser save the files of what is selected as a zip, while the server makes it. */
function download() {
  const body = { ids: [...chosen] };
  const request = make("input", { type: "hidden", name: "request", value: JSON.stringify(body) });
  const form = make("form", { method: "post", action: archiveUrl, target: "download", enctype: "multipart/form-data", hidden: true }, request);
  document.body.append(form);
  form.submit();
  form.remove();
  // What is saved is never shown: the server has refused.
  byId("download").onload = () => api.checkArchive(body).then(() => toast("The server was busy. Try again.", { kind: "error" }), complain);
}

/** Gives photos tags of these values; the toast takes away what was new. */
async function tag(ids, names) {
  const made = [];
  try {
    for (const id of ids) made.push(await api.change(id, { add: { tags: { keywords: names } } }));
  } catch (error) {
    complain(error);
  }
  hooks.tagged();
  const undo = async () => {
    for (const each of made) await each.undo?.();
    hooks.tagged();
  };
  if (made.length) toast(`${count(made.length, "photo")} tagged.`, { undo });
}

/** Asks for tags, and gives them to what is selected. */
async function askForTags() {
  const ids = [...chosen];
  const dialog = byId("sheet");
  const input = make("input", { id: "tag-names", class: "text-field", dir: "auto", maxlength: 200, autocomplete: "off", list: "known-keywords", data: { testid: "tag-names" } });
  const save = (event) => {
    event.preventDefault();
    const names = input.value.split(",").map((name) => name.trim()).filter(Boolean);
    dialog.close();
    if (names.length) tag(ids, names);
  };
  const list = make("datalist", { id: "known-keywords" });
  dialog.replaceChildren(
    make("h2", { id: "sheet-title", text: `Tag ${count(ids.length, "photo")}` }),
    make(
      "form",
      { class: "tag-form", on: { submit: save } },
      make("label", { for: "tag-names", text: "Tags, with commas between them" }),
      input,
      list,
      make(
        "div",
        { class: "sheet-actions" },
        button("Cancel", { on: { click: () => dialog.close() } }),
        make("button", { class: "button primary", data: { testid: "tag-save" }, text: "Tag" }),
      ),
    ),
  );
  dialog.showModal();
  const { fields } = await api.tags().catch(() => ({ fields: [] }));
  const values = fields.find(({ name }) => name === "keywords")?.values ?? [];
  list.replaceChildren(...values.map(({ value }) => make("option", { value })));
}

function bar(writable) {
  const act = (symbol, label, testid, click, kind = "") =>
    button(make("span", { text: label }), { symbol, kind, testid, title: label, "aria-label": label, on: { click } });
  return [
    iconButton("close", "Select none", clearSelection, { data: { testid: "select-none" } }),
    make("span", { class: "count", data: { testid: "selection-count" }, text: `${chosen.size} selected` }),
    act("search", "More like these", "selection-search", moreLikeThese),
    act("filter", "Search in these", "selection-within", searchInThese),
    act("link", "Copy paths", "selection-paths", copyPaths),
    act("download", "Download", "selection-download", download),
    writable && act("tag", "Tag", "selection-tag", askForTags),
    writable &&
      act("trash", "Delete", "selection-delete", () => {
        const ids = [...chosen];
        clearSelection();
        removeWithUndo(ids, hooks.deleted);
      }, "danger-quiet"),
  ];
}

async function draw() {
  document.documentElement.classList.toggle("selecting", chosen.size > 0);
  for (const tile of document.querySelectorAll("#results .tile")) mark(tile);
  dispatchEvent(new CustomEvent("selection-changed"));
  const place = byId("selection");
  place.hidden = !chosen.size;
  if (chosen.size) place.replaceChildren(...bar(await hooks.writable()).filter(Boolean));
}

/** Shows on a tile whether it is selected. */
export function mark(tile) {
  const selected = chosen.has(tile.dataset.id);
  tile.classList.toggle("selected", selected);
  tile.querySelector(".tile-check")?.setAttribute("aria-pressed", String(selected));
}

const tileOf = (event) => event.target.closest?.("#results .row .tile");

/**
 * Makes photos selectable: by the ring in their corner, by any click once one is selected, by Shift and by
 * drawing over them from a ring.
 * @param {{sequence: () => string[], writable: () => Promise<boolean>, tagged: () => void, deleted: () => void}} given
 */
export function startSelection(given) {
  hooks = given;
  const results = byId("results");
  let from = null;
  results.addEventListener(
    "click",
    (event) => {
      const tile = tileOf(event);
      const ring = event.target.closest(".tile-check");
      if (!tile || event.ctrlKey || event.metaKey) return;
      if (!ring && (!chosen.size || event.target.closest(".tile-button"))) return;
      event.preventDefault();
      event.stopPropagation();
      select(tile.dataset.id, { range: event.shiftKey });
    },
    true,
  );
  results.addEventListener("pointerdown", (event) => {
    const ring = event.pointerType === "mouse" && !event.button && event.target.closest(".tile-check");
    from = ring ? tileOf(event).dataset.id : null;
  });
  results.addEventListener("pointerover", (event) => {
    const tile = tileOf(event);
    if (!from || !event.buttons || !tile || tile.dataset.id === from) return;
    anchor = from;
    select(tile.dataset.id, { range: true });
  });
}
