"""POST /mcp: the tools over streamable HTTP, each request by itself, for any serving process to answer."""

from __future__ import annotations

import asyncio
import time
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from crossmodal import limits
from crossmodal.errors import MissingExtra, RequestError
from crossmodal.query.request import SearchOutcome, SearchRequest
from crossmodal.server.access.locations import sees_locations
from crossmodal.server.guards import read_body
from crossmodal.server.mcp.protocol import open_protocol, require_sdk
from crossmodal.server.routes import add_route
from crossmodal.server.serving import Serving
from crossmodal.workspace import Workspace

__all__ = ["add_mcp_route"]


def add_mcp_route(app: Starlette, serving: Serving) -> None:
    """Adds the route; what it needs is imported when it is first asked."""
    sessions = _Sessions(serving)

    async def answer(request: Request) -> Response:
        body = await read_body(request, limits.MCP_MESSAGE.most)
        return await sessions.answer(request, body)

    add_route(app, "/mcp", answer, ["POST"])


class _Sessions:
    """The SDK's own handling of HTTP, which runs from the first request to the end of the event loop.

    There are no sessions: the tools only read, and never ask or tell their client anything by themselves.
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._manager: asyncio.Future[Any] | None = None
        self._running: asyncio.Task[None] | None = None

    async def answer(self, request: Request, body: bytes) -> Response:
        """What the SDK answers; raises RequestError, 404, where it is not installed."""
        manager = await self._started()
        parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        head: Message = {}
        answered = bytearray()

        async def receive() -> Message:
            return parts.pop() if parts else await request.receive()

        async def send(message: Message) -> None:
            head.update(message)
            answered.extend(message.get("body", b""))

        await manager.handle_request(request.scope, receive, send)
        response = Response(bytes(answered), head["status"])
        response.raw_headers = [*head["headers"]]
        return response

    async def _started(self) -> Any:
        if self._manager is None:
            self._manager = asyncio.get_running_loop().create_future()
            # Not in the context of the request that happens to be the first.
            self._running = asyncio.create_task(self._run(self._manager), context=Context())
        try:
            return await asyncio.shield(self._manager)
        except MissingExtra as error:
            raise RequestError(str(error), status=404) from None

    async def _run(self, started: asyncio.Future[Any]) -> None:
        try:
            # It takes a second, in which others are answered.
            manager = await asyncio.to_thread(self._open)
        except Exception as error:  # noqa: BLE001  it is for all who ask
            started.set_exception(error)
            return
        try:
            async with manager.run():
                started.set_result(manager)
                await asyncio.Event().wait()
        finally:
            # One that an error has ended answers no more; the next request starts another one.
            self._manager = None

    def _open(self) -> Any:
        require_sdk("/mcp")
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        serving = self._serving

        def is_hidden(request: Any) -> bool:
            return request is None or not sees_locations(request.scope, serving.settings)

        protocol = open_protocol(_Served(serving), is_hidden=is_hidden, shown_error=serving.path_names.hide)
        # Who may ask, by which name and from which page, is the business of what stands before the routes.
        return StreamableHTTPSessionManager(
            protocol, json_response=True, stateless=True, max_request_body_size=limits.MCP_MESSAGE.most
        )


@dataclass(frozen=True, slots=True)
class _Served:
    """The index of the server, as tools ask it."""

    serving: Serving

    @property
    def workspace(self) -> Workspace:
        return self.serving.engine.workspace

    async def search(self, request: SearchRequest) -> SearchOutcome:
        started = time.perf_counter()
        outcomes, _ = await self.serving.search([request])
        self.serving.metrics.count_search(1, time.perf_counter() - started)
        return outcomes[0]
