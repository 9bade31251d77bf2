"""Errors of what stands before the routes, in the shape that the client of the path reads."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from crossmodal.server.legacy import legacy_error
from crossmodal.server.routes import problem_of, problem_response

__all__ = ["error_response"]


def error_response(request: Request, error: Exception) -> Response:
    """The answer to a request that no route has answered: a problem, or the envelope of an older client."""
    members = problem_of(error)
    if request.url.path.startswith(("/v1/", "/page/")):
        return problem_response(members)
    return legacy_error(request, members["detail"], members["status"])
