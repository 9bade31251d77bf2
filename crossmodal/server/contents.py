"""Photos and their thumbnails as answers that browsers may cache."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from crossmodal.errors import ImageError, OriginalGone, RequestError
from crossmodal.images.formats import BROWSER_TYPES, READABLE_TYPES
from crossmodal.images.previews import PREVIEW_SIDES
from crossmodal.metadata.locations import without_location
from crossmodal.places import Places
from crossmodal.records import IMAGE, Record, photo_id
from crossmodal.server.serving import Serving
from crossmodal.server.videos import video_response
from crossmodal.videos.formats import is_video_type

__all__ = ["PICTURE_SIZES", "is_held", "photo_response", "thumbnail_response"]

# Pixels of the shorter side of a WebP, for rows of photos; and of the longer side of a JPEG: for a list on a
# fine screen, for a page, for a whole screen.
PICTURE_SIZES = (*PREVIEW_SIDES, 512, 1024, 2048)

# What is larger is sent in such parts, and counted as long as that takes; thumbnails never are.
_SMALL = 1 << 20
_PART = 256 << 10

# An id's photo may be replaced, so a browser asks again after a while; that costs a 304.
_ASKED_AGAIN = "private, max-age=300"

# What is known by its content is never another one.
_IMMUTABLE = "private, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _Content:
    """The bytes of a photo or a thumbnail, their type, and the strong ETag that names them.

    ``cached`` is their Cache-Control.
    """

    data: bytes
    mime_type: str
    tag: str
    cached: str = _ASKED_AGAIN


async def photo_response(
    request: Request, serving: Serving, id: str, *, original: bool = False, hide_location: bool = False
) -> Response:
    """The answer with an indexed photo, as a JPEG where browsers cannot show its file, or else that file.

    Of a moment of a video it is the video. With ``hide_location`` it does not say where it was taken. Raises
    RequestError, 404, where there is none, 403 where the location cannot be taken out, and 422 where the file
    cannot be read any more, OriginalGone, and Overloaded where too much is being sent already.
    """
    if (video := await video_response(request, serving, id, hide_location=hide_location)) is not None:
        return video
    async with serving.admission.reading:
        found = await serving.read(_read, id, serving.engine.workspace.content)
        if not original and found.mime_type in READABLE_TYPES - BROWSER_TYPES:
            found = await _as_jpeg(serving, found)
        elif hide_location:
            found = await serving.read(_without_location, found)
    return _response(request, found, serving.admission.sent)


async def _as_jpeg(serving: Serving, photo: _Content, size: int | None = None) -> _Content:
    try:
        picture = await serving.picture(photo.tag, photo.data, size)
    except ImageError as error:
        raise RequestError(
            f"The photo cannot be shown: {error} Its file is at ?original=true.", status=422
        ) from error
    # Another picture is made of it only where the file is another one. It has pixels and nothing else.
    return _Content(picture, "image/jpeg", f'"{photo.tag.strip(chr(34))}-jpeg{size or ""}"')


async def thumbnail_response(
    request: Request, serving: Serving, id: str, *, size: int | None = None
) -> Response:
    """The answer with the small JPEG of an indexed photo, or a picture of ``size``, one of PICTURE_SIZES.

    A photo that is smaller is not enlarged, and a moment of a video has the small one only. A size that is in
    PREVIEW_SIDES is a WebP, or the small one where the photo's file is gone. Raises as ``photo_response``.
    """
    record = None if size is None else await asyncio.to_thread(serving.engine.workspace.get, id, IMAGE)
    if size is None or record is None or is_video_type(record.mime_type):
        content = await asyncio.to_thread(_read, id, serving.engine.workspace.thumbnail)
    elif size in PREVIEW_SIDES:
        return await _preview_response(request, serving, record, size)
    else:
        async with serving.admission.reading:
            found = await serving.read(_read, id, serving.engine.workspace.content)
            content = await _as_jpeg(serving, found, size)
    return _response(request, content, serving.admission.sent)


async def _preview_response(request: Request, serving: Serving, record: Record, side: int) -> Response:
    """The answer with the WebP whose shorter side has ``side`` pixels, made where it is not kept."""
    workspace, sent = serving.engine.workspace, serving.admission.sent
    named = record.digest
    cached = _IMMUTABLE if named is not None and record.id == photo_id(named) else _ASKED_AGAIN
    if named is not None:
        # By its digest, so that what the client or this process has takes no reading.
        picture = serving.kept_picture(named, side)
        content = _Content(picture or b"", "image/webp", f'"{named[:32]}-webp{side}"', cached)
        if picture is not None or is_held(request, content.tag):
            return _response(request, content, sent)
    try:
        async with serving.admission.reading:
            found = await serving.read(_read, record.id, workspace.content)
            named = named or found.tag.strip('"')
            picture = await serving.picture(named, found.data, side)
        content = _Content(picture, "image/webp", f'"{named[:32]}-webp{side}"', cached)
    except (ImageError, OriginalGone):
        content = await asyncio.to_thread(_read, record.id, workspace.thumbnail)
    return _response(request, content, sent)


def _response(request: Request, content: _Content, places: Places) -> Response:
    """The bytes with their ETag, or 304 where the client has them; HEAD gets the headers alone."""
    headers = {
        "ETag": content.tag,
        "Cache-Control": content.cached,
        "X-Content-Type-Options": "nosniff",
        # A photo that is opened by itself runs nothing, whatever it holds, and stands in no other page.
        "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
    }
    if is_held(request, content.tag):
        return Response(status_code=304, headers=headers)
    # Only what is a picture: a file from outside must never run as a page.
    media_type = content.mime_type if content.mime_type in READABLE_TYPES else "application/octet-stream"
    if request.method == "HEAD":
        headers["Content-Length"] = str(len(content.data))
        return Response(media_type=media_type, headers=headers)
    if len(content.data) <= _SMALL:
        return Response(content.data, media_type=media_type, headers=headers)
    return _LargeResponse(content.data, places, media_type=media_type, headers=headers)


class _LargeResponse(Response):
    """Sends ``content`` a part at a time, and holds its MiB of ``places`` until the last one is on its way.

    As a whole it would lie in the connection's buffer, where nobody counts it, until its client has read it.
    Raises Overloaded where there are not enough places.
    """

    def __init__(self, content: bytes, places: Places, **named: Any) -> None:
        super().__init__(content, **named)
        self._held = ExitStack()
        self._held.enter_context(places.take(-(-len(content) >> 20)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer as quickly as it is read."""
        with self._held:
            start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            await send(start)
            whole = memoryview(self.body)
            for at in range(0, len(whole), _PART):
                part = bytes(whole[at : at + _PART])
                await send({"type": "http.response.body", "body": part, "more_body": at + _PART < len(whole)})


def is_held(request: Request, tag: str) -> bool:
    """Whether the client has what ``tag`` names: If-None-Match, compared weakly (RFC 9110, 13.1.2)."""
    held = request.headers.get("if-none-match", "")
    return held.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in held.split(","))


def _read(id: str, read: Callable[[str], tuple[bytes, str] | None]) -> _Content:
    """What ``read`` gives of the photo; hashing belongs into the same thread as reading."""
    if (found := read(id)) is not None:
        data, mime_type = found
        return _Content(data, mime_type, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
    raise RequestError(f"There is no photo {id[:80]!r} in the index.", status=404)


def _without_location(content: _Content) -> _Content:
    data = without_location(content.data)
    if data is None:
        raise RequestError(
            "Where this photo was taken cannot be taken out of its file, so only its thumbnail is shown "
            "here; an admin key gets it, and `crossmodal serve --show-locations` opens it for everybody.",
            status=403,
        )
    if data == content.data:
        return content
    return _Content(data, content.mime_type, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
