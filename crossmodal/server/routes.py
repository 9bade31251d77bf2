"""Routes of the server, which requests are counted by, their answers in JSON, and their errors.

Errors of the native API are problem documents (RFC 9457).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from crossmodal.errors import (
    CrossmodalError,
    DataError,
    DeadlinePassed,
    FlowFailure,
    ModelError,
    OriginalGone,
    RequestError,
    ServiceError,
    StoreFormat,
    StoreLocked,
    StoreUnwritable,
)
from crossmodal.http_shapes.legacy.answers import render_error
from crossmodal.http_shapes.legacy.requests import envelope_of

__all__ = [
    "NEVER_WRITE",
    "SEARCHES",
    "JsonResponse",
    "add_route",
    "asked_envelope",
    "problem",
    "problem_of",
    "problem_response",
    "refusal",
    "retry_headers",
]

_logger = logging.getLogger(__name__)

_RETRY_SECONDS = 2

# The native API and the page; everything else is for older clients.
_NATIVE = ("/v1/", "/page/", "/docs", "/mcp", "/login", "/logout", "/metrics", "/healthz", "/readyz")

# POST here never changes anything. /post may: its body says what it is.
SEARCHES = frozenset({"/v1/search", "/v1/embeddings", "/search", "/api/search"})
NEVER_WRITE = SEARCHES | {"/v1/documents/archive", "/mcp", "/login", "/logout"}

# What a status means here; the detail says what happened.
_TITLES = {
    400: "The request cannot be read",
    401: "A key is needed",
    403: "This is not allowed",
    404: "There is no such thing here",
    405: "This method is not served here",
    406: "The answer cannot be given in the types asked for",
    408: "The request took too long to arrive",
    409: "Another process is writing the index",
    410: "The photo is not there any more",
    413: "The request is too large",
    415: "This type of content cannot be read",
    416: "This part of the content does not exist",
    422: "A value cannot be used",
    429: "Too many requests came",
    500: "The server failed",
    503: "The server is not ready",
    504: "The server did not answer in time",
    507: "The index cannot be written",
}

Handler = Callable[[Request], Awaitable[Response]]


class JsonResponse(JSONResponse):
    """JSON values as an answer."""

    def render(self, content: Any) -> bytes:
        """The body: UTF-8, without spaces."""
        try:
            return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
        except orjson.JSONEncodeError:
            # Whole numbers of more than 64 bits, which clients may give their requests as parameters, and
            # halves of characters, as names of files have them, which only an escape can write.
            return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def add_route(
    app: Starlette,
    path: str,
    answer: Handler,
    methods: Sequence[str],
    render_problem: Callable[[Request, dict[str, Any]], Response] | None = None,
) -> None:
    """Adds a route; GET brings HEAD along. ``render_problem`` makes another answer of a problem document."""

    async def answer_or_problem(request: Request) -> Response:
        try:
            return await answer(request)
        except ClientDisconnect:
            # No client is left to read this.
            return Response(status_code=499)
        except Exception as error:
            # The last line before the client, who must get an answer.
            if not isinstance(error, CrossmodalError):
                _logger.error("%s failed on a request:", path, exc_info=error)
            members = problem_of(error)
            return render_problem(request, members) if render_problem else problem_response(members)

    app.router.routes.append(_NamedRoute(path, answer_or_problem, methods=list(methods)))


def problem(status: int, detail: str, *, pointer: str | None = None) -> dict[str, Any]:
    """The members of a problem document; ``pointer`` (RFC 6901) names the value of the body at fault."""
    members: dict[str, Any] = {
        "type": f"/problems/{status}",
        "title": _TITLES.get(status, "The request failed"),
        "status": status,
        "detail": detail,
    }
    if pointer is not None:
        members["errors"] = [{"pointer": pointer, "detail": detail}]
    return members


def problem_of(error: Exception) -> dict[str, Any]:
    """The problem document of a CrossmodalError; of any other error it says only the type."""
    if not isinstance(error, CrossmodalError):
        return problem(500, f"The server failed on this request ({type(error).__name__}).")
    return problem(_status_of(error), str(error), pointer=getattr(error, "pointer", None))


def problem_response(members: dict[str, Any]) -> Response:
    """The answer that carries a problem document."""
    return JSONResponse(
        members, members["status"], retry_headers(members["status"]), media_type="application/problem+json"
    )


def retry_headers(status: int) -> dict[str, str] | None:
    """What tells a client when to try again, where that is worth it."""
    if status == 429:
        # What waits is done within a second or so.
        return {"Retry-After": "1"}
    return {"Retry-After": str(_RETRY_SECONDS)} if status in (409, 503) else None


def refusal(scope: Scope, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer of what stands before the routes, in the form that clients of that path read."""
    if scope["path"] == "/" or scope["path"].startswith(_NATIVE):
        response = problem_response(problem(status, message))
    else:
        envelope = envelope_of(None, scope["path"], asked_envelope(Request(scope)))
        response = JSONResponse(render_error(message, envelope=envelope, status=status), status)
    response.headers.update(headers or retry_headers(status) or {})
    return response


def asked_envelope(request: Request) -> str | None:
    """The envelope that a client of jina asks for by name."""
    return request.headers.get("x-envelope") or request.query_params.get("envelope")


class _NamedRoute(Route):
    """A route that the request's scope names as ``route``, so that requests are counted by its path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        if match is not Match.NONE:
            found["route"] = self
        return match, found


def _status_of(error: CrossmodalError) -> int:
    if isinstance(error, RequestError):
        return error.status
    if isinstance(error, StoreLocked):
        return 409
    if isinstance(error, OriginalGone):
        return 410
    if isinstance(error, StoreUnwritable):
        return 507
    if isinstance(error, DeadlinePassed):
        return 504
    if isinstance(error, FlowFailure | StoreFormat):
        return 500
    if isinstance(error, ServiceError | ModelError):
        return 503
    return 422 if isinstance(error, DataError) else 503
