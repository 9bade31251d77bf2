import { debounce } from "./dom.js";
import { hasUpload } from "./pictures.js";
import { isSearch, readAddress, writeAddress } from "./state.js";

let current = null;
const listeners = [];

/** The state the page shows now; treat it as read-only and change it through navigate(). */
export const currentState = () => current;

/** Calls `listener(state, {returned, again})` after each change; `returned` after Back and Forward. */
export function onNavigation(listener) {
  listeners.push(listener);
}

// The history entry holds all terms, because uploads have no place in the address.
const entry = (more = {}) => ({ terms: current.terms, ...more });

function withoutLostUploads(state, terms) {
  const kept = terms.filter((term) => term.kind !== "upload" || hasUpload(term.value));
  return { ...state, terms: kept, leftOut: terms.length - kept.length };
}

function fromLocation() {
  const state = readAddress(location.search);
  return history.state?.terms ? withoutLostUploads(state, history.state.terms) : state;
}

function announce(details) {
  for (const listener of listeners) listener(current, details);
}

/**
 * Shows another state and says so in the address bar.
 * @param {object} changes parts of the state
 * @param {{replace?: boolean, again?: boolean, opened?: boolean}} [how] `replace` makes no new step for Back;
 *   `again` searches even if nothing changed; `opened` marks a step that closing a photo can take back.
 */
export function navigate(changes, { replace = false, again = false, opened = false } = {}) {
  const next = { ...current, ...changes };
  if (changes.terms) next.leftOut = 0;
  const address = writeAddress(next);
  const same =
    address === writeAddress(current) && JSON.stringify(next.terms) === JSON.stringify(current.terms);
  if (!same && !replace) history.replaceState({ ...history.state, scroll: scrollY }, "");
  current = next;
  if (same || replace) history.replaceState({ ...history.state, ...entry() }, "", address);
  else history.pushState(entry({ opened }), "", address);
  announce({ returned: false, again });
}

/** Leaves the open photo: back where it was opened from this page, else without a step. */
export function closeOpened() {
  if (!current.open) return;
  if (history.state?.opened) history.back();
  else navigate({ open: null }, { replace: true });
}

/** The scroll position that the present history entry was left at, in CSS pixels. */
export const savedScroll = () => history.state?.scroll ?? 0;

/** Reads the address and follows Back, Forward and clicks on links within the page. */
export function startNavigation() {
  history.scrollRestoration = "manual";
  current = fromLocation();
  history.replaceState({ ...history.state, ...entry() }, "");
  addEventListener("popstate", () => {
    current = fromLocation();
    announce({ returned: true, again: false });
  });
  addEventListener(
    "scroll",
    debounce(() => {
      if (isSearch(current) || current.view === "search") history.replaceState({ ...history.state, scroll: scrollY }, "");
    }, 250),
    { passive: true },
  );
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-view], a[data-state-link]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    navigate(readAddress(new URL(link.href).search));
  });
  announce({ returned: true, again: false });
}
