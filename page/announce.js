import { byId, make } from "./dom.js";
import { icon } from "./icons.js";

/** Says a sentence to screen readers. */
export function announce(sentence) {
  byId("announcer").textContent = sentence;
}

const SHOWN_MS = 6000;

/**
 * Shows a short message at the foot of the page.
 * @param {string} message
 * @param {{kind?: "info"|"error"}} [options] errors stay until they are closed
 */
export function toast(message, { kind = "info" } = {}) {
  const close = () => item.remove();
  const item = make(
    "div",
    { class: `toast ${kind}`, role: kind === "error" ? "alert" : "status", data: { testid: "toast" } },
    icon(kind === "error" ? "warning" : "check"),
    make("p", { text: message }),
    make("button", { type: "button", class: "icon-button", "aria-label": "Close the message", on: { click: close } }, icon("close")),
  );
  const toasts = byId("toasts");
  while (toasts.childElementCount >= 3) toasts.firstElementChild.remove();
  toasts.append(item);
  if (kind !== "error") setTimeout(close, SHOWN_MS);
}
