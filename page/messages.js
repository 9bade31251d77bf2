import { Problem, Unreachable } from "./api.js";
import { byId, icon, make } from "./dom.js";

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

/** What went wrong, in words: {title, detail, errors}. */
export function explain(error) {
  if (error instanceof Problem) return error;
  if (error instanceof Unreachable) {
    return { title: "The server cannot be reached", detail: `${error.message} Check that it is running, then try again.`, errors: [] };
  }
  return { title: "Something went wrong on this page", detail: error.message ?? String(error), errors: [] };
}

/** One line of what went wrong. */
export function explainInLine(error) {
  const { title, detail } = explain(error);
  return detail ? `${title}. ${detail}` : title;
}

/**
 * A designed message in place of content.
 * @param {{title: string, detail?: string, items?: string[], symbol?: string, kind?: string,
 *   actions?: Node[], testid?: string}} content
 */
export function messageCard({ title, detail, items = [], symbol = "search", kind = "calm", actions = [], testid }) {
  return make(
    "div",
    { class: `message-card ${kind}`, data: { testid }, role: kind === "error" ? "alert" : null },
    make("span", { class: "message-symbol" }, icon(symbol)),
    make("h2", { text: title }),
    detail && make("p", { text: detail }),
    items.length > 0 && make("ul", {}, ...items.map((item) => make("li", { text: item }))),
    actions.length > 0 && make("div", { class: "message-actions" }, ...actions),
  );
}

/** The message for a failed request, with a button that tries again. */
export function errorCard(error, retry) {
  const { title, detail, errors } = explain(error);
  return messageCard({
    title,
    detail,
    items: (errors ?? []).map((each) => `${each.pointer ? `${each.pointer}: ` : ""}${each.detail}`),
    symbol: "warning",
    kind: "error",
    testid: "error",
    actions: retry ? [button("Try again", { symbol: "retry", on: { click: retry }, testid: "retry" })] : [],
  });
}

/** A labelled button. */
export function button(label, { symbol, kind = "", on, testid, ...attributes } = {}) {
  return make(
    "button",
    { type: "button", class: `button ${kind}`, on, data: { testid }, ...attributes },
    symbol && icon(symbol),
    label,
  );
}

/**
 * Asks before something that cannot be undone.
 * @param {{title: string, detail: string, action: string}} question
 * @returns {Promise<boolean>}
 */
export function confirmed({ title, detail, action }) {
  const dialog = byId("confirm");
  dialog.returnValue = "";
  dialog.replaceChildren(
    make("h2", { id: "confirm-title", text: title }),
    make("p", { text: detail }),
    make(
      "div",
      { class: "sheet-actions" },
      button("Keep it", { on: { click: () => dialog.close("no") }, testid: "confirm-no" }),
      button(action, { kind: "danger", on: { click: () => dialog.close("yes") }, testid: "confirm-yes" }),
    ),
  );
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
