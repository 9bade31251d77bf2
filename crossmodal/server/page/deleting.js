import { api, deletePhoto, forget, hide, Problem, unhide } from "./api.js";
import { count } from "./dom.js";
import { explainInLine, toast } from "./messages.js";

/** How long a deletion can be taken back. */
const UNDO_MS = 8000;

// What is hidden already and will be deleted: sets of ids, which become smaller while they are.
const pending = new Set();

async function carryOut(ids, done) {
  for (const id of ids) {
    try {
      forget((await api.remove(id)).deleted);
    } catch (error) {
      if (!(error instanceof Problem && error.status === 404)) { // else it has gone meanwhile
        unhide([id]);
        toast(explainInLine(error), { kind: "error" });
      }
    }
    ids.delete(id);
  }
  pending.delete(ids);
  done();
}

/**
 * Deletes documents from the index, for good, once nobody can take it back any more; until then they are hidden.
 * @param {string[]} chosen
 * @param {() => void} done called once they are deleted
 */
export function removeWithUndo(chosen, done, what = "photo") {
  const ids = new Set(chosen);
  hide(ids);
  pending.add(ids);
  const timer = setTimeout(carryOut, UNDO_MS, ids, done);
  toast(`${count(ids.size, what)} deleted from the index.`, {
    shown: UNDO_MS,
    undo: () => {
      clearTimeout(timer);
      pending.delete(ids);
      unhide(ids);
    },
  });
}

// Who leaves has not taken it back.
addEventListener("pagehide", () => {
  for (const ids of pending) for (const id of ids) deletePhoto(id);
  pending.clear();
});
