"""The gateway that serves one Flow over HTTP: which routes there are, and what stands before them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossmodal.documents import MediaDocument
from crossmodal.workspace import Workspace
from crossmodal.server.guards import HostCheck
from crossmodal.server.legacy import add_legacy_routes, legacy_error
from crossmodal.server.metrics import Metrics
from crossmodal.server.page import add_page
from crossmodal.server.problems import problem, problem_response
from crossmodal.server.sending import choose_send
from crossmodal.server.serving import Answered, Options, Serving, Writer
from crossmodal.server.v1 import add_native_routes
from crossmodal.server.walks import FlowWalks
from flows.gateway_servers import GatewayServers
from flows.index_on_demand import IndexClient
from crossmodal.engine import SearchService
from crossmodal.flow.topology import FLOW_FILES, read_topology

__all__ = ["PAGE", "SearchGateway", "add_all_routes"]

PAGE = Path(__file__).resolve().parents[2] / "page"


class SearchGateway(GatewayServers):
    """Serves one Flow: the query Flow with all routes, the index Flow with those that write."""

    def __init__(self, kind: str, variables: dict[str, str], options: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kind = kind
        self._variables = variables
        self._options = Options.from_json(options)
        self._topology = read_topology(FLOW_FILES[kind], variables)

    @property
    def app(self) -> Starlette:
        """The routes; jina asks for this once, when it starts the server."""
        serving = self._serving()
        app = Starlette()
        add_all_routes(app, serving)
        app.add_exception_handler(404, _no_such_route)
        app.add_exception_handler(405, _no_such_route)
        app.add_middleware(_RequestCount, metrics=serving.metrics)
        if self._kind == "query":
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

    def _serving(self) -> Serving:
        workspace = Workspace(Path(self._variables["JINA_WORKSPACE"]))
        model = self._variables["CROSSMODAL_MODEL"]
        cache = self._options.model_cache
        writer: Writer | None = None
        if self._kind == "index":
            writer = _OwnFlow(self._stream)
        elif self._options.writer_channel is not None:
            writer = IndexClient(
                self._options.writer_channel, read_topology(FLOW_FILES["index"], self._variables)
            )
        return Serving(
            kind="index" if self._kind == "index" else "query",
            model=model,
            keep=self._variables["CROSSMODAL_KEEP"],
            options=self._options,
            topologies={
                "index": read_topology(FLOW_FILES["index"], self._variables),
                "query": read_topology(FLOW_FILES["query"], self._variables),
            },
            workspace=workspace,
            stream=self._stream,
            writer=writer,
            search=SearchService(
                self._stream, workspace, model=model, model_cache=Path(cache) if cache else None
            )
            if self._kind == "query"
            else None,
            metrics=Metrics(),
            page=PAGE,
        )

    async def _stream(self, docs: list[MediaDocument], endpoint: str, parameters: dict[str, Any]) -> Answered:
        return await self._walks(docs, endpoint, parameters)

    @cached_property
    def _walks(self) -> FlowWalks:
        # jina gives a gateway its streamer after it is made.
        send = choose_send(self.streamer.stream, self.executor, self._topology)
        return FlowWalks(send, self._topology, sharing=self._kind == "query")


def add_all_routes(app: Starlette, serving: Serving) -> None:
    """Adds every route that ``serving`` can answer."""
    add_native_routes(app, serving)
    add_legacy_routes(app, serving)
    add_page(app, serving)


class _OwnFlow:
    """Writing where the gateway's own Flow is the index Flow."""

    def __init__(
        self, stream: Callable[[list[MediaDocument], str, dict[str, Any]], Awaitable[Answered]]
    ) -> None:
        self._stream = stream

    @property
    def state(self) -> Literal["idle", "starting", "running"]:
        """Always running: the server is the Flow."""
        return "running"

    async def index(self, docs: Sequence[MediaDocument]) -> Answered:
        """Index documents; the answers by id."""
        return await self._stream(list(docs), "/index", {})

    async def delete(self, docs: Sequence[MediaDocument]) -> Answered:
        """Delete documents by id and modality; the answers by id."""
        return await self._stream(list(docs), "/delete", {})


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
        self._metrics.count_request(getattr(scope.get("route"), "path", "other"), status)


async def _no_such_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    if request.url.path.startswith(("/v1/", "/page/")):
        message = f"{request.method} {request.url.path} is not served here; /v1/openapi.json tells what is."
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
