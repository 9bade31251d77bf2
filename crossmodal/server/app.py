"""The ASGI application: which routes there are, and what stands before them."""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossmodal.server.admission_control import AdmissionControl
from crossmodal.server.contents import add_page
from crossmodal.server.guards import HostCheck
from crossmodal.server.legacy import add_legacy_routes, legacy_error
from crossmodal.server.metrics import Metrics
from crossmodal.server.routes import problem, problem_response
from crossmodal.server.serving import Serving
from crossmodal.server.v1.documents import add_document_routes
from crossmodal.server.v1.information import add_information_routes
from crossmodal.server.v1.openapi import add_openapi_route
from crossmodal.server.v1.search import add_search_route

__all__ = ["create_app"]


def create_app(serving: Serving) -> Starlette:
    """Every route that ``serving`` can answer, behind the middleware that all of them need."""
    app = Starlette()
    if serving.kind == "query":
        add_search_route(app, serving)
    add_document_routes(app, serving)
    add_information_routes(app, serving)
    add_openapi_route(app)
    add_legacy_routes(app, serving)
    add_page(app)
    app.add_exception_handler(404, _no_such_route)
    app.add_exception_handler(405, _no_such_route)
    app.add_middleware(AdmissionControl, admission=serving.admission)
    app.add_middleware(_RequestCount, metrics=serving.metrics)
    if serving.kind == "query":
        # Jina Box posts JSON from whatever page it stands on, which browsers preflight. Other pages may
        # search and look; guards.require_writing keeps them from changing anything.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=["*"],
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
        )
    app.add_middleware(HostCheck)
    return app


class _RequestCount:
    """Counts requests by route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        except asyncio.CancelledError:
            self._metrics.count_request("cancelled", 499)
            raise
        self._metrics.count_request(getattr(scope.get("route"), "path", "other"), status or 499)


async def _no_such_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    if request.url.path.startswith(("/v1/", "/page/")):
        message = f"{request.method} {request.url.path} is not served here; /v1/openapi.json lists what is."
        response = problem_response(problem(status, message))
    else:
        message = f"{request.method} {request.url.path} is not served here; POST to /search or /index."
        response = legacy_error(request, message, status)
    if status == 405:
        # Starlette names the methods of the first route with this path only.
        response.headers["Allow"] = ", ".join(_methods_of(request))
    return response


def _methods_of(request: Request) -> list[str]:
    """The methods that are served at the request's path."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)
