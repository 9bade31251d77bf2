const QUOTED = String.raw`"((?:[^"\\]|\\.)*)"`;
const PART = new RegExp(`^(?:(\\d+\\.?\\d*|\\.\\d+)\\s*\\*\\s*)?(?:${QUOTED}|id:(?:${QUOTED}|([^\\s"]+))|([^"*]+))$`, "u");
const PIECE = new RegExp(`${QUOTED}|\\s+([+-])(?=\\s)|[^]`, "gu");

const unquoted = (text) => text?.replace(/\\(.)/gu, "$1");

/**
 * The terms of a text such as `dog + 0.5*id:42 - "old snow"`, as README and the API understand it.
 * @returns {{terms: {kind: string, value: string, weight: number}[], quoted: boolean}|null} `quoted` where all of it is; null for a text that is
 *   a sentence and nothing else, or that cannot be read so
 */
export function parseExpression(text) {
  const parts = [{ sign: 1, text: "" }];
  for (const [piece, , sign] of text.trim().matchAll(PIECE)) {
    if (sign) parts.push({ sign: sign === "-" ? -1 : 1, text: "" });
    else parts.at(-1).text += piece;
  }
  const leading = /^[+-]\s*(?=\S)/.exec(parts[0].text);
  if (leading) parts[0] = { sign: leading[0].startsWith("-") ? -1 : 1, text: parts[0].text.slice(leading[0].length) };
  const terms = [];
  let quoted = true;
  for (const { sign, text: written } of parts) {
    const found = PART.exec(written.trim());
    if (!found) return null;
    const [, number, inQuotes, quotedId, id, words] = found;
    if (words && /(^|\s)([+-]|id:)/.test(words.trim())) return null;
    const value = unquoted(quotedId) ?? id ?? unquoted(inQuotes) ?? words.trim();
    const weight = sign * (number === undefined ? 1 : Number(number));
    if (!value || !weight) return null;
    quoted &&= inQuotes !== undefined;
    terms.push({ kind: quotedId ?? id ? "id" : "text", value, weight });
  }
  const [{ kind, weight }] = terms;
  return terms.length === 1 && kind === "text" && weight === 1 && !quoted ? null : { terms, quoted };
}
