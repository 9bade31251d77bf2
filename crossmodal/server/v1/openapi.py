"""GET /v1/openapi.json: the description of the native API, which stands in openapi.yaml."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal import __version__
from crossmodal.server.problems import told_as_problem
from crossmodal.server.routes import JsonResponse, add_route

__all__ = ["add_openapi_route", "read_openapi"]

_FILE = Path(__file__).with_name("openapi.yaml")


@cache
def read_openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 description as JSON values, with this program's version."""
    described: dict[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    described["info"]["version"] = __version__
    return described


def add_openapi_route(app: Starlette) -> None:
    """Adds the route."""
    answer = JsonResponse(read_openapi())

    async def openapi(request: Request) -> Response:
        return answer

    add_route(app, "/v1/openapi.json", told_as_problem(openapi), ["GET", "HEAD"])
