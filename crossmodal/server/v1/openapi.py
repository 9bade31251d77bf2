"""GET /v1/openapi.json: the description of the native API, which stands in openapi.yaml.

``python -m crossmodal.server.v1.openapi`` writes its table of routes into ``docs/api.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal import __version__
from crossmodal.http_shapes.root_path import ROOT_PATH
from crossmodal.server.routes import JsonResponse, add_route
from crossmodal.yaml_files import read_yaml

__all__ = ["add_openapi_route", "document", "read_openapi", "replaced"]

_FILE = Path(__file__).with_name("openapi.yaml")

_BEGIN = "<!-- made by python -m crossmodal.server.v1.openapi -->"
_END = "<!-- end of what was made -->"
_DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "api.md"
_METHODS = ("get", "post", "patch", "delete")


@cache
def read_openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 description as JSON values, with this program's version."""
    described: dict[str, Any] = read_yaml(_FILE)
    described["info"]["version"] = __version__
    return described


def add_openapi_route(app: Starlette) -> None:
    """Adds the route."""
    answer = JsonResponse(read_openapi())

    async def openapi(request: Request) -> Response:
        if not (root := ROOT_PATH.get()):
            return answer
        return JsonResponse({**read_openapi(), "servers": [{"url": root}]})

    add_route(app, "/v1/openapi.json", openapi, ["GET", "HEAD"])


def document(described: Mapping[str, Any]) -> str:
    """The made part of the document: a table of the routes, and a command line for each example."""
    return "\n".join([*_routes(described), "", *_examples(described)])


def replaced(text: str, described: Mapping[str, Any]) -> str:
    """``text`` with the part between the two marks rebuilt. Raises ValueError where there are no marks."""
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
    print(f"{_DOCUMENT.name}: {len(made):,} characters")
