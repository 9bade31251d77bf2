"""Routes of the server: what answers which path, named for the middleware, and answers in JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Match, Route
from starlette.types import Scope

from crossmodal.server.problems import Handler

__all__ = ["JsonResponse", "add_route"]


class JsonResponse(JSONResponse):
    """JSON values as an answer."""

    def render(self, content: Any) -> bytes:
        """The body: UTF-8, without spaces."""
        try:
            return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
        except orjson.JSONEncodeError:
            # Whole numbers of more than 64 bits, which clients may give their requests as parameters.
            return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def add_route(app: Starlette, path: str, answer: Handler, methods: Sequence[str]) -> None:
    """Adds a route; GET brings HEAD along."""
    app.router.routes.append(_NamedRoute(path, answer, methods=list(methods)))


class _NamedRoute(Route):
    """A route that the request's scope names as ``route``, so that requests are counted by its path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        if match is not Match.NONE:
            found["route"] = self
        return match, found
