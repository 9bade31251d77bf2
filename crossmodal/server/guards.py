"""What stands before every route: who may ask, and how much."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from crossmodal import limits
from crossmodal.errors import RequestError
from crossmodal.hosts import is_loopback
from crossmodal.http_shapes.legacy.answers import render_error
from crossmodal.server.serving import Serving

__all__ = ["HostCheck", "body_chunks", "read_body", "require_writing"]

# Between two parts of a body; a client that says nothing for so long has gone, or means harm.
_SILENCE_SECONDS = 30.0

_HOST = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


class HostCheck:
    """Refuses a Host header that is no host: addresses of photos in answers are made from it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it with a 400."""
        hosts = [value for name, value in scope.get("headers", ()) if name == b"host"]
        if scope["type"] == "http" and not all(_HOST.fullmatch(host) for host in hosts):
            message = "The Host header is not a host name with an optional port."
            refusal = JSONResponse(render_error(message, envelope=None, status=400), status_code=400)
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def require_writing(request: Request, serving: Serving) -> None:
    """Raises RequestError (403) where this server, or this page in a browser, may not change the index.

    A page of another origin may search; if it could also delete, any page that a user visits could empty the
    index. A foreign name whose DNS entry points at this machine makes such a page look like this server's
    own, so while the server listens on this machine only, the host has to be one of its own names.
    """
    if not serving.writing.allowed:
        raise RequestError(serving.writing.reason, status=403)
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    host = request.headers.get("host", "")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        raise RequestError(
            f"A page of {origin[:100]} may search here, not change the index; use the page of this server.",
            status=403,
        )
    if site in ("cross-site", "same-site"):
        raise RequestError(
            "A page of another origin may search here, not change the index; use the page of this server.",
            status=403,
        )
    if (origin is not None or site is not None) and is_loopback(serving.settings.host):
        name = urlsplit(f"//{host}").hostname or ""
        if not is_loopback(name):
            raise RequestError(
                f"This server listens on this machine only, and {name[:100]!r} is none of its names; open "
                "its page at http://localhost to change the index.",
                status=403,
            )


async def read_body(request: Request, limit: int = limits.BODY.most) -> bytes:
    """The whole body; raises RequestError, 413 above ``limit`` bytes and 408 where no more of it comes."""
    body = bytearray()
    async for chunk in body_chunks(request):
        body += chunk
        if len(body) > limit:
            raise RequestError(
                f"The request is larger than {limit >> 20} MiB. {limits.BODY.advice}", status=413
            )
    return bytes(body)


async def body_chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives; raises RequestError, 408, where the client falls silent."""
    stream = request.stream()
    while True:
        try:
            # Not wait_for(), which makes a task of every wait.
            async with asyncio.timeout(_SILENCE_SECONDS):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise RequestError(
                f"Nothing of the request came for {_SILENCE_SECONDS:.0f} seconds.", status=408
            ) from None
        yield chunk
