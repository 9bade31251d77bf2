/** Shows the description of the API: its routes by tag, and the types of what they take and answer. */
import { make } from "../page/dom.js";

const METHODS = ["get", "post", "patch", "put", "delete"];

const SCHEMAS = "#/components/schemas/";

/** What a `$ref` within the description stands for, or the value itself. */
function resolved(api, value) {
  if (!value?.$ref) return value;
  return value.$ref
    .slice(2)
    .split("/")
    .reduce((inside, name) => inside[name.replaceAll("~1", "/").replaceAll("~0", "~")], api);
}

/** A sentence whose parts between backticks are code. */
const inline = (text) => text.split("`").map((part, number) => (number % 2 ? make("code", { text: part }) : part));

const paragraphs = (text) => (text ?? "").split(/\n\s*\n/).filter((part) => part.trim()).map((part) => make("p", {}, ...inline(part)));

/** A type in words, with links to the types that have names. */
function typeOf(schema) {
  if (schema === undefined || schema === true) return ["anything"];
  if (schema.$ref) {
    const name = schema.$ref.startsWith(SCHEMAS) ? schema.$ref.slice(SCHEMAS.length) : null;
    return [name ? make("a", { href: `#type-${name}`, text: name }) : schema.$ref];
  }
  const several = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (several) return several.flatMap((one, number) => [number ? (schema.allOf ? " and " : " or ") : "", ...typeOf(one)]);
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" or ")];
  const kinds = [schema.type ?? "anything"].flat().join(" or ");
  if (schema.type === "array") return ["list of ", ...typeOf(schema.items)];
  if (schema.type === "object" && typeof schema.additionalProperties === "object") return ["object of ", ...typeOf(schema.additionalProperties)];
  return [schema.format ? `${kinds} (${schema.format})` : kinds];
}

/** The bounds and the default of a value. */
function limitsOf(schema) {
  const named = { minimum: "from", maximum: "to", minLength: "at least", maxLength: "at most", minItems: "at least", maxItems: "at most", default: "by default" };
  const said = Object.entries(named).filter(([name]) => schema?.[name] !== undefined);
  return said.map(([name, words]) => ` ${words} ${JSON.stringify(schema[name])}${/Length/.test(name) ? " characters" : /Items/.test(name) ? " items" : ""}`).join(",");
}

function table(label, heads, rows) {
  return make(
    "table",
    { "aria-label": label },
    make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col", text })))),
    make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, ...cell))))),
  );
}

const propertyRows = (schema) =>
  Object.entries(schema.properties ?? {}).map(([name, value]) => [
    [make("code", { text: name }), schema.required?.includes(name) ? " (needed)" : ""],
    [...typeOf(value), limitsOf(value)],
    inline(value.description ?? ""),
  ]);

function body(content) {
  return Object.entries(content ?? {}).flatMap(([type, { schema, examples }]) => [
    make("p", {}, make("code", { text: type }), ": ", ...typeOf(schema)),
    schema?.properties ? table(`Parts of ${type}`, ["part", "type", "meaning"], propertyRows(schema)) : null,
    ...Object.values(examples ?? {}).flatMap(({ summary, value }) => [
      make("p", { text: `${summary}:` }),
      make("pre", { tabindex: "0", text: JSON.stringify(value, null, 2) }),
    ]),
  ]);
}

function route(api, path, method, operation, shared) {
  const parameters = [...(shared ?? []), ...(operation.parameters ?? [])].map((one) => resolved(api, one));
  const answers = Object.entries(operation.responses).map(([status, one]) => {
    const answer = resolved(api, one);
    const types = Object.entries(answer.content ?? {});
    // Photos come in many types, which are all bytes.
    const shown = types.slice(0, 2).flatMap(([type, { schema }], number) => [number ? ", " : "", `${type}: `, ...typeOf(schema)]);
    return [[make("code", { text: status })], inline(answer.description ?? ""), [...shown, types.length > 2 ? ` and ${types.length - 2} more types` : ""]];
  });
  return make(
    "details",
    { id: operation.operationId, data: { testid: "route" } },
    make("summary", {}, make("span", { class: "method", text: method.toUpperCase() }), make("code", { text: path }), " ", make("span", { class: "what", text: operation.summary ?? "" })),
    make(
      "div",
      {},
      ...paragraphs(operation.description),
      ...(parameters.length
        ? [
            make("h3", { text: "Parameters" }),
            table(
              "Parameters",
              ["name", "where", "type", "meaning"],
              parameters.map((one) => [[make("code", { text: one.name }), one.required ? " (needed)" : ""], [one.in], [...typeOf(one.schema), limitsOf(one.schema)], inline(one.description ?? "")]),
            ),
          ]
        : []),
      ...(operation.requestBody ? [make("h3", { text: "Body" }), ...body(resolved(api, operation.requestBody).content)] : []),
      make("h3", { text: "Answers" }),
      table("Answers", ["status", "when", "body"], answers),
    ),
  );
}

function routesOf(api, tag) {
  return Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method] && (item[method].tags ?? []).includes(tag)).map((method) => route(api, path, method, item[method], item.parameters)),
  );
}

function typeSection([name, schema]) {
  const rows = propertyRows(schema);
  return make(
    "details",
    { id: `type-${name}`, data: { testid: "type" } },
    make("summary", {}, make("code", { text: name })),
    make(
      "div",
      {},
      ...paragraphs(schema.description),
      rows.length ? table(`Fields of ${name}`, ["field", "type", "meaning"], rows) : make("p", {}, ...typeOf(schema), limitsOf(schema)),
    ),
  );
}

/** Opens what the address names. */
function openTarget() {
  // The names of all parts are plain.
  const target = document.getElementById(location.hash.slice(1));
  if (!(target instanceof HTMLDetailsElement)) return;
  target.open = true;
  target.scrollIntoView();
}

async function start() {
  const place = document.getElementById("description");
  try {
    const answer = await fetch(new URL("../v1/openapi.json", import.meta.url));
    if (!answer.ok) throw new Error(`The server answered with ${answer.status}.`);
    const api = await answer.json();
    document.getElementById("title").textContent = `${api.info.title} ${api.info.version}`;
    const sections = api.tags.map(({ name }) => make("section", {}, make("h2", { text: name }), ...routesOf(api, name)));
    const types = make("section", {}, make("h2", { text: "types" }), ...Object.entries(api.components.schemas).map(typeSection));
    place.replaceChildren(...paragraphs(api.info.description), ...sections, types);
    addEventListener("hashchange", openTarget);
    openTarget();
  } catch (error) {
    place.textContent = `The description cannot be shown: ${error.message}`;
  }
}

start();
