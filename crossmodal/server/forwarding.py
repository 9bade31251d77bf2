"""Requests that write, handed to the one serving process that does.

Several processes answer on one port (``--workers``), and any of them may get a request that changes the
index. It is passed on as it is, body and answer as they come, over a socket that only their parent's user
can open.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from crossmodal.server.routes import SEARCHES, problem, problem_response

__all__ = ["ForwardedWrites"]

# Of one connection only (RFC 9110, 7.6.1).
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"trailer"})


class ForwardedWrites:
    """Passes what may write on to the process that listens at the Unix socket ``writer``."""

    def __init__(self, app: ASGIApp, writer: str) -> None:
        self._app = app
        # Uploads take as long as their client does; only connecting has a limit.
        self._client = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=writer), timeout=httpx2.Timeout(None, connect=30.0)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers reads here and forwards the rest."""
        if scope["type"] != "http" or not _may_write(scope):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            answer = await self._client.send(self._forwarded(request), stream=True)
        except httpx2.TransportError:
            refusal = problem_response(
                problem(503, "The process that writes is not there at the moment; it is being started again.")
            )
            await refusal(scope, receive, send)
            return
        except ClientDisconnect:
            return
        try:
            response = StreamingResponse(answer.aiter_raw(), status_code=answer.status_code)
            response.raw_headers = [
                (name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _HOP_BY_HOP
            ]
            await response(scope, receive, send)
        finally:
            await answer.aclose()

    def _forwarded(self, request: Request) -> httpx2.Request:
        headers = [(name, value) for name, value in request.headers.raw if name not in _HOP_BY_HOP]
        raw_path = request.scope["raw_path"].split(b"?")[0]
        query = request.scope["query_string"]
        url = httpx2.URL("http://writer", raw_path=raw_path + (b"?" + query if query else b""))
        return self._client.build_request(request.method, url, headers=headers, content=_body(request))


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        yield chunk


def _may_write(scope: Scope) -> bool:
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return False
    return scope["path"] not in SEARCHES
