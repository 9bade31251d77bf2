"""Photos and their thumbnails as HTTP answers that browsers may keep."""

from __future__ import annotations

import asyncio
import hashlib

from starlette.requests import Request
from starlette.responses import Response

from crossmodal.errors import RequestError
from crossmodal.workspace import Workspace

__all__ = ["content_response", "is_held", "photo_of", "thumbnail_of"]

# Only what a browser shows as a picture: a file from outside must never run as a page.
_SHOWN = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff"})

# An id's photo may be replaced, so a browser asks again after a while; that costs a 304.
_KEPT_SECONDS = 300


async def photo_of(workspace: Workspace, id: str) -> tuple[bytes, str]:
    """The bytes and type of an indexed photo; an index made with --keep uri has nothing but thumbnails.

    Raises RequestError, 404, where there is none.
    """
    found = await asyncio.to_thread(workspace.content, id) or await asyncio.to_thread(workspace.thumbnail, id)
    if found is None:
        raise _missing(id)
    return found


async def thumbnail_of(workspace: Workspace, id: str) -> tuple[bytes, str]:
    """The small JPEG of an indexed photo; raises RequestError, 404, where there is none."""
    found = await asyncio.to_thread(workspace.thumbnail, id)
    if found is None:
        raise _missing(id)
    return found


def content_response(request: Request, content: bytes, mime_type: str) -> Response:
    """The bytes with a strong ETag, or 304 where the client has them; HEAD gets the headers alone."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "ETag": tag,
        "Cache-Control": f"private, max-age={_KEPT_SECONDS}",
        # An <img> of another origin asks without Origin; a script there must not be handed that answer.
        "Vary": "Origin",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'",
    }
    if is_held(request, tag):
        return Response(status_code=304, headers=headers)
    media_type = mime_type if mime_type in _SHOWN else "application/octet-stream"
    if request.method == "HEAD":
        headers["Content-Length"] = str(len(content))
        return Response(media_type=media_type, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def is_held(request: Request, tag: str) -> bool:
    """Whether the client has what ``tag`` names: If-None-Match, compared weakly (RFC 9110, 13.1.2)."""
    held = request.headers.get("if-none-match", "")
    return held.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in held.split(","))


def _missing(id: str) -> RequestError:
    return RequestError(f"There is no photo {id[:80]!r} in the index.", status=404)
