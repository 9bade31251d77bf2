import { api, deletePhoto, forget, hide, Problem, unhide } from "./api.js";
import { count } from "./dom.js";
import { explainInLine, toast } from "./messages.js";

/** How long a deletion can be taken back. */
const UNDO_MS = 8000;

// What is hidden already and will be deleted: {ids, timer, done}.
let pending = null;

async function carryOut() {
  if (!pending) return;
  const { ids, timer, done } = pending;
  pending = null;
  clearTimeout(timer);
  for (const id of ids) {
    try {
      forget((await api.remove(id)).deleted);
    } catch (error) {
      if (error instanceof Problem && error.status === 404) continue; // it has gone meanwhile
      unhide([id]);
      toast(explainInLine(error), { kind: "error" });
    }
  }
  done();
}

/**
 * Deletes documents from the index, for good, once nobody can take it back any more; until then they are hidden.
 * @param {string[]} ids
 * @param {() => void} done called once they are deleted
 */
export function removeWithUndo(ids, done, what = "photo") {
  carryOut();
  hide(ids);
  pending = { ids, done, timer: setTimeout(carryOut, UNDO_MS) };
  toast(`${count(ids.length, what)} deleted from the index.`, {
    shown: UNDO_MS,
    undo: () => {
      if (pending?.ids !== ids) return; // too late
      clearTimeout(pending.timer);
      pending = null;
      unhide(ids);
    },
  });
}

// Who leaves has not taken it back.
addEventListener("pagehide", () => {
  for (const id of pending?.ids ?? []) deletePhoto(id);
  pending = null;
});
