"""The table of routes in ``docs/api.md``: ``python -m crossmodal.server.v1.document`` makes it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crossmodal.server.v1.openapi import read_openapi

__all__ = ["document", "replaced"]

_BEGIN = "<!-- made by python -m crossmodal.server.v1.document -->"
_END = "<!-- end of what was made -->"
_DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "api.md"
_METHODS = ("get", "post", "delete")


def document(described: Mapping[str, Any]) -> str:
    """The made part of the document: a table of the routes, and a command line for each example."""
    return "\n".join([*_routes(described), "", *_examples(described)])


def replaced(text: str, described: Mapping[str, Any]) -> str:
    """``text`` with the part between the two marks made anew. Raises ValueError where there are no marks."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the document has no part between {_BEGIN} and {_END}")
    return f"{before}{_BEGIN}\n{document(described)}\n{_END}{after}"


def _operations(described: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in described["paths"].items():
        for method in _METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def _routes(described: Mapping[str, Any]) -> Iterator[str]:
    yield "| route | what | errors |"
    yield "|---|---|---|"
    for method, path, operation in _operations(described):
        errors = ", ".join(status for status in operation["responses"] if status >= "400")
        yield f"| `{method} {path}` | {operation['summary']} | {errors} |"


def _examples(described: Mapping[str, Any]) -> Iterator[str]:
    yield "```sh"
    for method, path, operation in _operations(described):
        content = operation.get("requestBody", {}).get("content", {})
        for example in content.get("application/json", {}).get("examples", {}).values():
            body = json.dumps(example["value"], ensure_ascii=False)
            yield f"# {example['summary']}"
            yield (
                f"curl --request {method} -d '{body}' -H 'Content-Type: application/json' "
                f"http://localhost:45678{path}"
            )
    yield "```"


if __name__ == "__main__":
    made = replaced(_DOCUMENT.read_text(encoding="utf-8"), read_openapi())
    _DOCUMENT.write_text(made, encoding="utf-8")
    print(f"{_DOCUMENT.name}: {len(made):,} characters", file=sys.stderr)
