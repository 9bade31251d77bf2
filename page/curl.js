import { searchBody } from "./search_request.js";

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
