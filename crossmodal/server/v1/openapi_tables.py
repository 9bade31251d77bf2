"""Tables of the description for people: its routes, parameters and fields, as ``docs/api.md`` has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["tables"]

_METHODS = ("get", "post", "patch", "delete")

_Json = Mapping[str, Any]


def tables(described: _Json) -> dict[str, str]:
    """The parts that are made of ``described`` (an OpenAPI document), by their names, in Markdown."""
    fields = {
        "queries": "QueryKeys",
        "options": "Options",
        "matches": "Match",
        "embeddings": "EmbeddingRequest",
    }
    return {
        "routes": "\n".join([*_routes(described), "", *_examples(described)]),
        "parameters": "\n".join(_parameters(described)),
        **{name: "\n".join(_fields(described, schema)) for name, schema in fields.items()},
    }


def _operations(described: _Json) -> Iterator[tuple[str, str, _Json, list[_Json]]]:
    """Method, path, the operation, and its parameters with those of its path."""
    for path, item in described["paths"].items():
        for method in _METHODS:
            if (operation := item.get(method)) is not None:
                listed = [*item.get("parameters", ()), *operation.get("parameters", ())]
                yield method.upper(), path, operation, [_resolved(described, one) for one in listed]


def _routes(described: _Json) -> Iterator[str]:
    yield "| route | what | errors |"
    yield "|---|---|---|"
    for method, path, operation, _ in _operations(described):
        errors = ", ".join(status for status in operation["responses"] if status >= "400")
        yield f"| `{method} {path}` | {operation['summary']} | {errors} |"


def _examples(described: _Json) -> Iterator[str]:
    yield "```sh"
    for method, path, operation, _ in _operations(described):
        content = operation.get("requestBody", {}).get("content", {})
        for example in content.get("application/json", {}).get("examples", {}).values():
            body = json.dumps(example["value"], ensure_ascii=False)
            yield f"# {example['summary']}"
            yield (
                f"curl --request {method} -d '{body}' -H 'Content-Type: application/json' "
                f"http://localhost:45678{path}"
            )
    yield "```"


def _parameters(described: _Json) -> Iterator[str]:
    yield "| route | parameter | value | default | what |"
    yield "|---|---|---|---|---|"
    for method, path, _, parameters in _operations(described):
        for parameter in parameters:
            if parameter["in"] != "path":
                schema = parameter["schema"]
                value, what = _value(described, schema), _cell(parameter["description"])
                name = parameter["name"]
                yield f"| `{method} {path}` | `{name}` | {value} | {_default(schema)} | {what} |"


def _fields(described: _Json, schema: str) -> Iterator[str]:
    fields: _Json = described["components"]["schemas"][schema]["properties"]
    defaults = any("default" in field for field in fields.values())
    yield f"| field | value | {'default | ' if defaults else ''}what |"
    yield "|---|---|---|---|" if defaults else "|---|---|---|"
    for name, field in fields.items():
        what = _cell(_resolved(described, field)["description"])
        default = f"{_default(field)} | " if defaults else ""
        yield f"| `{name}` | {_value(described, field)} | {default}{what} |"


def _default(schema: _Json) -> str:
    return f"`{json.dumps(schema['default'])}`" if "default" in schema else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "&#124;")


def _value(described: _Json, schema: _Json) -> str:
    """What a value may be, in words."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    schema = _resolved(described, schema)
    if name and schema.get("type") == "object":
        return f"a `{name}`"
    if "enum" in schema:
        return _either([f"`{value}`" for value in schema["enum"]])
    if "oneOf" in schema:
        return _either([_value(described, one) for one in schema["oneOf"]])
    kind = schema.get("type")
    if isinstance(kind, list):
        return _either([_value(described, {**schema, "type": one}) for one in kind])
    if kind == "array":
        least, most = schema.get("minItems"), schema.get("maxItems")
        number = "" if most is None else f" ({f'{least} to' if least else 'at most'} {most:,})"
        return f"a list{number}: {_value(described, schema['items'])}"
    if kind == "string":
        most = schema.get("maxLength")
        return "a text" if most is None else f"a text of at most {most:,} characters"
    if kind in ("integer", "number"):
        number = "a whole number" if kind == "integer" else "a number"
        return number + _between(schema.get("minimum"), schema.get("maximum"))
    return {"boolean": "`true` or `false`", "null": "null"}.get(str(kind), "an object")


def _between(least: float | None, most: float | None) -> str:
    if most is None:
        return "" if least is None else f" from {least:,.6g}"
    return f" from {least or 0:,.6g} to {most:,.6g}"


def _either(values: list[str]) -> str:
    values = list(dict.fromkeys(values))
    if len(values) > 1 and values[-1] == "null":
        return f"{_either(values[:-1])}, or null"
    return " or ".join(filter(None, (", ".join(values[:-1]), values[-1])))


def _resolved(described: _Json, given: _Json) -> _Json:
    """``given`` with what it refers to; what stands beside the reference comes first."""
    reference = given.get("$ref")
    if reference is None:
        return given
    found: Any = described
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return {**_resolved(described, found), **{name: value for name, value in given.items() if name != "$ref"}}
