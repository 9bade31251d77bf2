"""Photos and their thumbnails as HTTP answers that browsers may cache."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from crossmodal.errors import RequestError
from crossmodal.workspace import Workspace

__all__ = ["Content", "content_response", "is_held", "photo_of", "thumbnail_of"]

# Only what a browser shows as a picture: a file from outside must never run as a page.
_SHOWN = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff"})

# An id's photo may be replaced, so a browser asks again after a while; that costs a 304.
_CACHED_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a photo or a thumbnail, their type, and the strong ETag that names them."""

    data: bytes
    mime_type: str
    tag: str


async def photo_of(workspace: Workspace, id: str) -> Content:
    """An indexed photo; an index made with --keep uri has nothing but thumbnails.

    Raises RequestError, 404, where there is none.
    """
    return await asyncio.to_thread(_read, id, workspace.content, workspace.thumbnail)


async def thumbnail_of(workspace: Workspace, id: str) -> Content:
    """The small JPEG of an indexed photo; raises RequestError, 404, where there is none."""
    return await asyncio.to_thread(_read, id, workspace.thumbnail)


def content_response(request: Request, content: Content) -> Response:
    """The bytes with their ETag, or 304 where the client has them; HEAD gets the headers alone."""
    headers = {
        "ETag": content.tag,
        "Cache-Control": f"private, max-age={_CACHED_SECONDS}",
        # An <img> of another origin asks without Origin; a script there must not be handed that answer.
        "Vary": "Origin",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'",
    }
    if is_held(request, content.tag):
        return Response(status_code=304, headers=headers)
    media_type = content.mime_type if content.mime_type in _SHOWN else "application/octet-stream"
    if request.method == "HEAD":
        headers["Content-Length"] = str(len(content.data))
        return Response(media_type=media_type, headers=headers)
    return Response(content.data, media_type=media_type, headers=headers)


def is_held(request: Request, tag: str) -> bool:
    """Whether the client has what ``tag`` names: If-None-Match, compared weakly (RFC 9110, 13.1.2)."""
    held = request.headers.get("if-none-match", "")
    return held.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in held.split(","))


def _read(id: str, *places: Callable[[str], tuple[bytes, str] | None]) -> Content:
    """What the first of ``places`` has of the photo; hashing belongs into the same thread as reading."""
    for place in places:
        if (found := place(id)) is not None:
            data, mime_type = found
            return Content(data, mime_type, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
    raise RequestError(f"There is no photo {id[:80]!r} in the index.", status=404)
