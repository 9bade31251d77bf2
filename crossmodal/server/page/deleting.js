import { api, forget, hide, unhide } from "./api.js";
import { count } from "./dom.js";
import { complain, toast } from "./messages.js";

/** How long a deletion can be taken back. */
const UNDO_MS = 8000;
/** So much, less than 64 KiB, a browser sends of a page that is left. */
const SENT_LAST = 60_000;

// What carries out the deletions that can still be taken back.
const pending = new Set();

/**
 * Deletes documents from the index, for good, once nobody can take it back any more; until then they are hidden.
 * @param {string[]} ids
 * @param {() => void} done called once they are deleted
 */
export function removeWithUndo(ids, done, what = "photo") {
  const words = count(ids.length, what);
  const keepalive = JSON.stringify(ids).length < SENT_LAST;
  const end = () => {
    clearTimeout(timer);
    close();
    pending.delete(carryOut);
  };
  const carryOut = async () => {
    end();
    try {
      await api.remove(ids, { keepalive });
      forget(ids);
      done();
    } catch (error) {
      unhide(ids);
      complain(error);
    }
  };
  // So many could not be deleted any more when the page is left.
  if (!keepalive && !confirm(`Delete ${words} from the index now? That cannot be taken back.`)) return;
  hide(ids);
  const close = toast(`${words} deleted from the index.`, { shown: UNDO_MS, undo: keepalive && (() => (end(), unhide(ids))) });
  const timer = setTimeout(carryOut, keepalive ? UNDO_MS : 0);
  pending.add(carryOut);
}

// Who leaves has not taken it back.
const finish = () => pending.forEach((carryOut) => carryOut());
addEventListener("pagehide", finish);
// A phone may end a page in the background without a word.
document.addEventListener("visibilitychange", () => document.hidden && matchMedia("(pointer: coarse)").matches && finish());
