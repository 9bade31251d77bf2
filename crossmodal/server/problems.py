"""Errors of the native API: problem documents of RFC 9457."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from crossmodal.errors import (
    CrossmodalError,
    DataError,
    FlowFailure,
    ModelError,
    RequestError,
    ServiceError,
    StoreLocked,
    StoreUnwritable,
)

__all__ = ["PROBLEM_TYPE", "Handler", "problem", "problem_of", "problem_response", "told", "told_as_problem"]

PROBLEM_TYPE = "application/problem+json"

_RETRY_SECONDS = 2

# What a status means here; the detail says what happened.
_TITLES = {
    400: "The request cannot be read",
    403: "This is not allowed",
    404: "There is no such thing here",
    405: "This method is not served here",
    406: "The answer cannot be given in the types asked for",
    408: "The request took too long to arrive",
    409: "Another process is writing the index",
    413: "The request is too large",
    415: "This type of content cannot be read",
    416: "This part of the content does not exist",
    422: "A value cannot be used",
    500: "The server failed",
    503: "The server is not ready",
    507: "The index cannot be written",
}

Handler = Callable[[Request], Awaitable[Response]]


def problem(status: int, detail: str, *, pointer: str | None = None) -> dict[str, Any]:
    """The members of a problem document; ``pointer`` (RFC 6901) tells which value of the body it is about."""
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
    """The problem document of anything raised on purpose; of anything else only its kind is told."""
    if not isinstance(error, CrossmodalError):
        return problem(500, f"The server failed on this request ({type(error).__name__}).")
    return problem(_status_of(error), str(error), pointer=getattr(error, "pointer", None))


def told(answer: Handler, tell: Callable[[Request, dict[str, Any]], Response]) -> Handler:
    """Turns every error of a route into what ``tell`` makes of its problem document."""

    async def answered(request: Request) -> Response:
        try:
            return await answer(request)
        except ClientDisconnect:
            # Nobody is there to be answered.
            return Response(status_code=499)
        except Exception as error:  # noqa: BLE001  the last line before the client, who must get an answer
            if not isinstance(error, CrossmodalError):
                print(f"error: {request.url.path} failed on a request:", file=sys.stderr)
                traceback.print_exception(error, file=sys.stderr)
                sys.stderr.flush()
            return tell(request, problem_of(error))

    return answered


def told_as_problem(answer: Handler) -> Handler:
    """Turns every error of a route into a problem document."""
    return told(answer, lambda _, members: problem_response(members))


def problem_response(members: dict[str, Any]) -> Response:
    """The answer that carries a problem document."""
    headers = {"Retry-After": str(_RETRY_SECONDS)} if members["status"] in (409, 503) else None
    return JSONResponse(members, members["status"], headers, media_type=PROBLEM_TYPE)


def _status_of(error: CrossmodalError) -> int:
    if isinstance(error, RequestError):
        return error.status
    if isinstance(error, StoreLocked):
        return 409
    if isinstance(error, StoreUnwritable):
        return 507
    if isinstance(error, FlowFailure):
        return 500
    if isinstance(error, ServiceError | ModelError):
        return 503
    return 422 if isinstance(error, DataError) else 503
