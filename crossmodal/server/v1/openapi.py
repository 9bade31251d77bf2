"""GET /v1/openapi.json: the description of the native API, which stands in openapi.yaml.

``python -m crossmodal.server.v1.openapi`` writes its tables into ``docs/api.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal import __version__
from crossmodal.http_shapes.root_path import ROOT_PATH
from crossmodal.server.routes import JsonResponse, add_route
from crossmodal.server.v1.openapi_tables import tables
from crossmodal.yaml_files import read_yaml

__all__ = ["add_openapi_route", "read_openapi", "replaced"]

_FILE = Path(__file__).with_name("openapi.yaml")

_BEGIN = "<!-- {name}, made by python -m crossmodal.server.v1.openapi -->"
_END = "<!-- end of what was made -->"
_DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "api.md"


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


def replaced(text: str, described: Mapping[str, Any]) -> str:
    """``text`` with its parts between marks rebuilt. Raises ValueError where the marks of one are missing."""
    for name, made in tables(described).items():
        begin = _BEGIN.format(name=name)
        before, begun, rest = text.partition(begin)
        _, end, after = rest.partition(_END)
        if not begun or not end:
            raise ValueError(f"the document has no part between {begin} and {_END}")
        text = f"{before}{begin}\n{made}\n{_END}{after}"
    return text


if __name__ == "__main__":
    made = replaced(_DOCUMENT.read_text(encoding="utf-8"), read_openapi())
    _DOCUMENT.write_text(made, encoding="utf-8")
    print(f"{_DOCUMENT.name}: {len(made):,} characters")
