import { Problem, ROOT, Unreachable } from "./api.js";
import { byId, icon, make } from "./dom.js";

/** Says a sentence to screen readers. */
export function announce(sentence) {
  byId("announcer").textContent = sentence;
}

const SHOWN_MS = 6000;

// A modal dialog covers all that isn't in it.
function raiseToasts() {
  const dialog = document.querySelector("dialog[open]");
  const toasts = byId("toasts");
  (dialog ?? document.body).append(toasts);
  dialog?.addEventListener("close", () => document.body.append(toasts), { once: true });
  return toasts;
}

/**
 * Shows a short message at the foot of the page, also above a dialog; one of kind "error" stays until it is closed.
 * @param {string} message
 * @param {{kind?: string, shown?: number, undo?: false|null|(() => unknown)}} [how] `kind` is "info" or "error", `shown` in milliseconds;
 *   `undo` gets a button
 * @returns {() => void} closes it
 */
export function toast(message, { kind = "info", shown = SHOWN_MS, undo } = {}) {
  const close = () => item.remove();
  const item = make(
    "div",
    { class: `toast ${kind}`, role: kind === "error" ? "alert" : "status", data: { testid: "toast" } },
    icon(kind === "error" ? "warning" : "check"),
    make("p", { text: message }),
    undo && button("Undo", { kind: "quiet", testid: "undo", on: { click: () => (close(), Promise.resolve(undo()).catch(complain)) } }),
    iconButton("close", "Close the message", close, { title: null }),
  );
  const toasts = raiseToasts();
  while (toasts.childElementCount >= 3) toasts.firstElementChild.remove();
  toasts.append(item);
  if (kind !== "error") setTimeout(close, shown);
  return close;
}

// A browser may show the page again as it was left, where nothing can be taken back any more.
addEventListener("pagehide", () => byId("toasts").replaceChildren());

/** Shows what went wrong. */
export const complain = (error) => toast(explainInLine(error), { kind: "error" });

/** What went wrong, in words: {title, detail, errors}. */
function explain(error) {
  if (error instanceof Problem) return error;
  if (error instanceof Unreachable) {
    return { title: "The server cannot be reached", detail: navigator.onLine ? `${error.message} Check that it is running, then try again.` : error.message, errors: [] };
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
 * @param {{title: string, detail?: string|null, items?: string[], symbol?: string, kind?: string, actions?: Node[], testid?: string}} said
 *   `items` are sentences of a list, `actions` buttons
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
    items: (errors ?? []).filter((each) => each.detail !== detail).map((each) => `${each.pointer ? `${each.pointer}: ` : ""}${each.detail}`),
    symbol: "warning",
    kind: "error",
    testid: "error",
    actions: retry ? [button("Try again", { symbol: "retry", on: { click: retry }, testid: "retry" })] : [],
  });
}

/**
 * A labelled button.
 * @param {string|Node} label
 * @param {{symbol?: string, kind?: string, on?: object, testid?: string, [attribute: string]: unknown}} [how]
 */
export function button(label, { symbol, kind = "", on, testid, ...attributes } = {}) {
  return make(
    "button",
    { type: "button", class: `button ${kind}`, on, data: { testid }, ...attributes },
    symbol && icon(symbol),
    label,
  );
}

/**
 * A button with an icon only; its label is read out, and shown as a tooltip unless `title` is another.
 * @param {string} symbol
 * @param {string} label
 * @param {(event: Event) => unknown} click
 * @param {{class?: string, title?: string|null, data?: object, [attribute: string]: unknown}} [how]
 */
export function iconButton(symbol, label, click, { class: className = "icon-button", title = label, data, ...attributes } = {}) {
  return make("button", { type: "button", class: className, "aria-label": label, title, data, on: { click }, ...attributes }, icon(symbol));
}

const ASK_EVERY_MS = 3000;
let timer = 0;
let onReturn = () => undefined;

async function answers() {
  try {
    return (await fetch(`${ROOT}healthz`, { cache: "no-store", signal: AbortSignal.timeout(ASK_EVERY_MS) })).status < 500;
  } catch {
    return false; // that no answer comes is the answer
  }
}

async function checkConnection() {
  if (byId("connection").hidden) return;
  clearTimeout(timer);
  if (await answers()) hideBanner();
  else timer = setTimeout(checkConnection, ASK_EVERY_MS);
}

function hideBanner() {
  clearTimeout(timer);
  if (byId("connection").hidden) return;
  byId("connection").hidden = true;
  onReturn();
}

function showBanner() {
  const banner = byId("connection");
  const words = navigator.onLine
    ? `The server at ${location.host} does not answer. You see what this browser has kept; this page tries again by itself.`
    : "You are offline. This page goes on when the connection is back.";
  banner.replaceChildren(icon("warning"), make("p", { text: words }), button("Try now", { on: { click: checkConnection }, testid: "connection-retry" }));
  if (!banner.hidden) return;
  banner.hidden = false;
  timer = setTimeout(checkConnection, ASK_EVERY_MS);
}

/** Shows a banner while the server is out of reach, asks for it again, and calls back when it answers. */
export function startConnection({ whenBack }) {
  onReturn = whenBack;
  addEventListener("server-unreachable", showBanner);
  addEventListener("server-answered", () => {
    clearTimeout(timer);
    byId("connection").hidden = true;
  });
  addEventListener("online", checkConnection);
  // A server on this device answers without a network, so that being offline alone means nothing.
  addEventListener("offline", async () => {
    if (!(await answers())) showBanner();
  });
}
