"""What stands before every route: who may ask, and how much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from crossmodal import limits
from crossmodal.access.keys import allows
from crossmodal.errors import RequestError
from crossmodal.hosts import is_loopback
from crossmodal.http_shapes.legacy.answers import render_error
from crossmodal.server.access.arrivals import HOST
from crossmodal.server.access.caller import caller_of
from crossmodal.server.access.origins import foreign_origin
from crossmodal.server.serving import Serving, Writing

__all__ = ["HostCheck", "body_chunks", "read_body", "require_writing", "writing_for"]

# Between two parts of a body; a client that says nothing for so long has gone, or means harm.
_SILENCE_SECONDS = 30.0


class HostCheck:
    """Refuses a Host header that is no host: addresses of photos in answers are made from it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it with a 400."""
        hosts = [value for name, value in scope.get("headers", ()) if name == b"host"]
        if scope["type"] == "http" and not all(HOST.fullmatch(host) for host in hosts):
            message = "The Host header is not a host name with an optional port."
            refusal = JSONResponse(render_error(message, envelope=None, status=400), status_code=400)
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def writing_for(request: Request, serving: Serving) -> Writing:
    """Whether this caller may change the index here, and why not.

    Under a foreign name, as behind a proxy, that has to be asked for by name: --writing auto is for this
    machine.
    """
    if not serving.writing.allowed:
        return serving.writing
    caller = caller_of(request.scope)
    if not allows(caller.scope, "write"):
        who = "Without a key one" if caller.name is None else f"The key {caller.name!r}"
        return Writing(False, f"{who} may only {caller.scope} here; that needs a key of the scope write.")
    settings = serving.settings
    name = urlsplit(f"//{request.headers.get('host', '')}").hostname or "localhost"
    if settings.writing == "auto" and is_loopback(settings.host) and not is_loopback(name):
        return Writing(
            False,
            f"Under the name {name[:100]!r} the index is only changed with --writing on; ask at localhost.",
        )
    return serving.writing


def require_writing(request: Request, serving: Serving) -> None:
    """Raises RequestError (403) where this server, this key or this page may not change the index.

    A page of another origin may read where --allow-origin lists it; if it could also delete, a mistake there
    could empty the index.
    """
    writing = writing_for(request, serving)
    if not writing.allowed:
        raise RequestError(writing.reason, status=403)
    foreign = foreign_origin(request.scope)
    if foreign is not None:
        raise RequestError(
            f"A page of {foreign[:100] or 'another origin'} may search here, not change the index; use the "
            "page of this server.",
            status=403,
        )


async def read_body(request: Request, limit: int = limits.BODY.most) -> bytes:
    """The whole body; raises RequestError, 413 above ``limit`` bytes and 408 where no more of it comes."""
    body = bytearray()
    async for chunk in body_chunks(request):
        body += chunk
        if len(body) > limit:
            most = f"{limit >> 20} MiB" if limit >> 20 else f"{limit:,} bytes"
            raise RequestError(f"The request is larger than {most}. {limits.BODY.advice}", status=413)
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
