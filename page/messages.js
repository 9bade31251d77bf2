import { Problem, Unreachable } from "./api.js";
import { make } from "./dom.js";
import { icon } from "./icons.js";

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
