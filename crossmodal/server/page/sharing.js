import { make } from "./dom.js";
import { toast } from "./messages.js";
import { currentState } from "./navigation.js";
import { searchBody } from "./search.js";
import { writeAddress } from "./state.js";

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * A shell command that asks this server the same question.
 * Pictures make it longer than the 128 KiB that Linux allows one argument, so that those go through a here-document.
 */
export function curlCommand(state) {
  const target = `curl --request POST ${quote(`${location.origin}/v1/search`)} --header 'Content-Type: application/json'`;
  const body = JSON.stringify(searchBody(state));
  if (state.terms.some((term) => term.kind === "upload")) return `${target} --data-binary @- <<'END_OF_QUERY'\n${body}\nEND_OF_QUERY\n`;
  return `${target} --data ${quote(body)}`;
}

function copyTheOldWay(text) {
  const field = make("textarea", { class: "visually-hidden", readonly: true, "aria-hidden": "true" });
  field.value = text;
  // Outside an open modal dialog nothing can be selected.
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  const focused = document.activeElement;
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return copied;
}

/** Copies text, also where the page is not on a secure origin and the clipboard interface is missing. */
export async function copy(text, message) {
  let copied = false;
  try {
    await navigator.clipboard.writeText(text);
    copied = true;
  } catch {
    copied = copyTheOldWay(text);
  }
  if (copied) toast(message);
  else toast("This browser does not let the page copy. Take the address from the address bar.", { kind: "error" });
}

/** Copies the link of what is shown; uploads stay behind, and the message says so. */
export function copyLink(changes = {}) {
  const state = { ...currentState(), ...changes };
  const uploads = state.terms.some((term) => term.kind === "upload");
  const message = uploads ? "Link copied. It leaves out the pictures that you uploaded." : "Link copied.";
  return copy(`${location.origin}${writeAddress(state)}`, message);
}

/** Copies the search as a command for the shell. */
export const copyCurl = () => copy(curlCommand(currentState()), "curl command copied.");

/** Saves an answer as a JSON file: the request, and all results loaded so far. */
export function downloadResults(answer) {
  const content = {
    request: answer.body,
    model: answer.model,
    timing: answer.timing,
    results: answer.sections.map(({ modality, matches, hasMore }) => ({ modality, matches, has_more: hasMore })),
  };
  const blob = new Blob([`${JSON.stringify(content, null, 2)}\n`], { type: "application/json" });
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: "search-results.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
