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

from crossmodal.server.observation import observed
from crossmodal.server.routes import NEVER_WRITE, problem, problem_response

__all__ = ["ForwardedWrites", "may_write"]

# Of one connection only (RFC 9110, 7.6.1).
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"trailer"})

# The writing process logs the request, under the id that this one gave it.
_REPLACED = _HOP_BY_HOP | {b"x-request-id"}


class ForwardedWrites:
    """Passes what may write on to the process that listens at the Unix socket ``writer``."""

    def __init__(self, app: ASGIApp, writer: str, *, tls: bool = False) -> None:
        self._app = app
        self._address = f"{'https' if tls else 'http'}://writer"
        # Uploads take as long as their client does; only connecting has a limit.
        self._client = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(
                uds=writer,
                # Nobody but this user's processes can be behind the socket.
                verify=False,
                # As many as clients have with this process: a few slow ones must not keep out the others.
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
            ),
            timeout=httpx2.Timeout(None, connect=30.0),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers reads here and forwards the rest."""
        if scope["type"] != "http" or not may_write(scope):
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
        observed().elsewhere = True
        try:
            response = StreamingResponse(answer.aiter_raw(), status_code=answer.status_code)
            response.raw_headers = [
                (name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _HOP_BY_HOP
            ]
            await response(scope, receive, send)
        finally:
            await answer.aclose()

    def _forwarded(self, request: Request) -> httpx2.Request:
        headers = [(name, value) for name, value in request.headers.raw if name not in _REPLACED]
        headers.append((b"x-request-id", observed().id.encode()))
        # As a proxy does: the writer cannot see whom this process talks to.
        if request.client is not None:
            headers.append((b"x-forwarded-for", request.client.host.encode()))
        raw_path = request.scope["raw_path"].split(b"?")[0]
        query = request.scope["query_string"]
        url = httpx2.URL(self._address, raw_path=raw_path + (b"?" + query if query else b""))
        return self._client.build_request(request.method, url, headers=headers, content=_body(request))


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        yield chunk


def may_write(scope: Scope) -> bool:
    """Whether the request may change the index."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return False
    return scope["path"] not in NEVER_WRITE
