import { byId, icon, make } from "./dom.js";
import { button } from "./messages.js";

const ASK_EVERY_MS = 3000;
let timer = 0;
let onReturn = () => undefined;

async function answers() {
  try {
    return (await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(ASK_EVERY_MS) })).status < 500;
  } catch {
    return false; // that no answer comes is the answer
  }
}

async function check() {
  if (byId("connection").hidden) return;
  clearTimeout(timer);
  if (await answers()) back();
  else timer = setTimeout(check, ASK_EVERY_MS);
}

function back() {
  clearTimeout(timer);
  if (byId("connection").hidden) return;
  byId("connection").hidden = true;
  onReturn();
}

function show() {
  const banner = byId("connection");
  const words = navigator.onLine
    ? `The server at ${location.host} does not answer. This page tries again by itself.`
    : "You are offline. This page goes on when the connection is back.";
  banner.replaceChildren(icon("warning"), make("p", { text: words }), button("Try now", { on: { click: check }, testid: "connection-retry" }));
  if (!banner.hidden) return;
  banner.hidden = false;
  timer = setTimeout(check, ASK_EVERY_MS);
}

/** Shows a banner while the server is out of reach, asks for it again, and calls back when it answers. */
export function startConnection({ whenBack }) {
  onReturn = whenBack;
  addEventListener("server-unreachable", show);
  addEventListener("server-answered", () => {
    clearTimeout(timer);
    byId("connection").hidden = true;
  });
  addEventListener("online", check);
  // A server on this device answers without a network, so that being offline alone means nothing.
  addEventListener("offline", async () => {
    if (!(await answers())) show();
  });
}
