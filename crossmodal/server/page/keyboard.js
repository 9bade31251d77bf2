import { along, byId, make } from "./dom.js";
import { button } from "./messages.js";
import { clearSelection, hasSelection, select, selectAll } from "./selection.js";

const KEYS = [
  ["/", "go to the search box"],
  ["Enter", "search; open the chosen result"],
  ["↓", "from the search box to the results"],
  ["← → ↑ ↓", "move through the results, and through open photos"],
  ["x", "select the chosen result; Shift with arrows selects more, Ctrl+A all"],
  ["+  −", "more or less like the chosen result"],
  ["Esc", "close, go back to the search box, empty it"],
  ["?", "this help"],
];
const TIPS = [
  "Point at a photo, or hold it with a finger, to see what is said of it and to search for more or less like it.",
  "Drop, paste, choose or photograph a picture anywhere on this page to search with it.",
  "“More like this” and “Less like this” add to your search; the sliders say how much each part counts.",
  "The address bar always holds the whole search: share it, or bookmark it.",
];

/** Opens the list of keys. */
function openHelp() {
  const dialog = byId("help");
  if (dialog.open) return;
  dialog.replaceChildren(
    make("h2", { id: "help-title", text: "Keyboard and tips" }),
    make("dl", { class: "keys" }, ...KEYS.map(([key, does]) => make("div", {}, make("dt", {}, make("kbd", { text: key })), make("dd", { text: does })))),
    make("ul", { class: "tips" }, ...TIPS.map((tip) => make("li", { text: tip }))),
    make("div", { class: "sheet-actions" }, button("Close", { kind: "primary", on: { click: () => dialog.close() }, testid: "help-close" })),
  );
  dialog.showModal();
}

const links = () => [...document.querySelectorAll("#results [data-testid=open-result]")];

// Tiles stand in rows of their own shapes, so that "below" is asked of their places on the screen:
// in the next row, the one whose beginning is nearest.
function neighbour(all, from, key) {
  const position = all.indexOf(from);
  if (along(key)) return all[position + along(key)];
  const box = from.getBoundingClientRect();
  const down = key === "ArrowDown";
  let best = null;
  let nearest = [Infinity, Infinity];
  for (const link of all) {
    const other = link.getBoundingClientRect();
    const below = Math.round(down ? other.top - box.top : box.top - other.top);
    if (below < 8) continue;
    const aside = Math.abs(other.left - box.left);
    if (below < nearest[0] || (below === nearest[0] && aside < nearest[1])) [best, nearest] = [link, [below, aside]];
  }
  return best;
}

function focusOn(link) {
  link.focus({ preventScroll: true });
  link.closest("article").scrollIntoView({ block: "nearest" });
}

function inResults(event) {
  const link = document.activeElement;
  const tile = link.closest("#results [data-testid=result]");
  if (!tile) return false;
  if (event.key === "+" || event.key === "=") tile.querySelector("[data-testid=more-like-this]").click();
  else if (event.key === "-" || event.key === "−") tile.querySelector("[data-testid=less-like-this]").click();
  else if (event.key === "x") select(tile.dataset.id);
  else if (event.key.startsWith("Arrow")) {
    const next = neighbour(links(), tile.querySelector("[data-testid=open-result]"), event.key);
    if (next && event.shiftKey) {
      if (!hasSelection()) select(tile.dataset.id);
      select(next.closest(".tile").dataset.id, { range: true });
    }
    if (next) focusOn(next);
    else if (event.key === "ArrowUp") byId("search-box").focus();
  } else return false;
  return true;
}

function inSearchBox(event) {
  const box = byId("search-box");
  if (document.activeElement !== box) return false;
  if (event.key === "ArrowDown" && links().length) {
    focusOn(links()[0]);
    return true;
  }
  if (event.key !== "Escape") return false;
  if (box.value) {
    box.value = "";
    box.dispatchEvent(new Event("input", { bubbles: true }));
  } else box.blur();
  return true;
}

const isTyping = (element) => element.matches("input:not([type=checkbox], [type=radio], [type=range]), textarea, select");

/** Makes the page's keys work; fields and dialogs keep their own. */
export function startKeyboard({ toSearch }) {
  byId("help-button").addEventListener("click", openHelp);
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || event.isComposing) return;
    if (document.querySelector("dialog[open]") || document.querySelector("[popover]:popover-open")) return;
    if (event.ctrlKey || event.metaKey) {
      if (event.key !== "a" || !document.activeElement.closest("#results, #selection")) return;
      selectAll();
      event.preventDefault();
      return;
    }
    let used = inSearchBox(event);
    if (!used && !isTyping(document.activeElement)) {
      if (event.key === "/") {
        toSearch();
        used = true;
      } else if (event.key === "?") {
        openHelp();
        used = true;
      } else if (event.key === "Escape" && hasSelection()) {
        clearSelection();
        used = true;
      } else if (event.key === "Escape" && document.activeElement.closest("#results")) {
        toSearch();
        used = true;
      } else used = inResults(event);
    }
    if (used) event.preventDefault();
  });
}
