"""Videos for browsers: the file in parts, of which a range may be asked for (RFC 9110, 14)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from crossmodal.errors import RequestError
from crossmodal.metadata.video_locations import Span, blanked, location_spans
from crossmodal.places import Places
from crossmodal.server.serving import Serving

__all__ = ["video_response"]

_PART = 256 << 10
# What a client that reads slowly holds of the MiB that are sent at once: a few parts, whatever the video has.
_PLACES = 1

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Video:
    """An open file: its ``descriptor``, size and type, the tag of its bytes, and what of them is blanked."""

    descriptor: int
    size: int
    mime_type: str
    tag: str
    blanked: Sequence[Span] = ()


async def video_response(
    request: Request, serving: Serving, id: str, *, hide_location: bool
) -> Response | None:
    """The answer with the video that the moment ``id`` is of, or a range of it; None where it is no moment.

    With ``hide_location`` it does not say where it was made. Raises RequestError, 403 where that cannot be
    taken out, OriginalGone, and Overloaded where too much is being sent already.
    """
    with ExitStack() as held:
        video = await _video(serving, id, hide_location)
        if isinstance(video, Future):
            # Its file is read as a whole, for which nobody else waits. Who leaves, leaves it to the others.
            await asyncio.shield(asyncio.wrap_future(video))
            video = await _video(serving, id, hide_location, read=True)
        if video is None:
            return None
        assert isinstance(video, _Video)
        held.callback(os.close, video.descriptor)
        return _response(request, video, serving.admission.sent, held)


async def _video(
    serving: Serving, id: str, hide_location: bool, *, read: bool = False
) -> _Video | Future[None] | None:
    async with serving.admission.reading:
        opening = asyncio.ensure_future(serving.read(_opened, serving, id, hide_location, read))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread goes on, and what it opens has nobody else to close it.
            opening.add_done_callback(_close_unwanted)
            raise


def _close_unwanted(opening: asyncio.Future[_Video | Future[None] | None]) -> None:
    if opening.cancelled() or opening.exception() is not None:
        return
    if isinstance(video := opening.result(), _Video):
        os.close(video.descriptor)


def _opened(serving: Serving, id: str, hide_location: bool, read: bool) -> _Video | Future[None] | None:
    """The open video; unless it was ``read`` just now, what ends when it has been where it has to be."""
    workspace = serving.engine.workspace
    if not read and (reading := workspace.reading_video(id, locations=not hide_location)) is not None:
        return reading
    found = workspace.video(id)
    if found is None:
        return None
    with ExitStack() as unfinished:
        descriptor, mime_type = found
        unfinished.callback(os.close, descriptor)
        video = _described(descriptor, mime_type, hide_location)
        unfinished.pop_all()
        return video


def _described(descriptor: int, mime_type: str, hide_location: bool) -> _Video:
    status = os.fstat(descriptor)
    spans = location_spans(descriptor, mime_type) if hide_location else ()
    if spans is None:
        raise RequestError(
            "Where this video was made cannot be taken out of its file, so only its moments are shown here; "
            "an admin key gets it, and `crossmodal serve --show-locations` opens it for everybody.",
            status=403,
        )
    known = f"{status.st_size} {status.st_mtime_ns} {status.st_ino} {spans}"
    tag = f'"{hashlib.sha256(known.encode()).hexdigest()[:32]}"'
    return _Video(descriptor, status.st_size, mime_type, tag, spans)


def _response(request: Request, video: _Video, places: Places, held: ExitStack) -> Response:
    headers = {
        "ETag": video.tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; media-src 'self'; sandbox; frame-ancestors 'none'",
    }
    asked = request.headers.get("if-none-match", "")
    if asked.strip() == "*" or video.tag in (part.strip().removeprefix("W/") for part in asked.split(",")):
        return Response(status_code=304, headers=headers)
    span = _asked_range(request, video)
    if span is not None and span[0] >= span[1]:
        headers["Content-Range"] = f"bytes */{video.size}"
        return Response(status_code=416, headers=headers)
    start, end = (0, video.size) if span is None else span
    headers["Content-Length"] = str(end - start)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{video.size}"
    status = 200 if span is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=video.mime_type)
    held.enter_context(places.take(_PLACES))
    # The file stays open until the answer is sent.
    return _VideoPart(video, start, end, held.pop_all(), status, headers)


def _asked_range(request: Request, video: _Video) -> Span | None:
    """The bytes asked for, from and up to; None for all of them, and an empty span where there are none.

    Several ranges, and what is no range of bytes, are answered with all of them, as RFC 9110 allows.
    """
    named = request.headers.get("if-range")
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if found is None or (named is not None and named.strip() != video.tag):
        return None
    first, last = found.groups()
    if not first:
        # The last so many bytes.
        return (max(video.size - int(last), 0), video.size) if last else None
    start, end = int(first), min(int(last) + 1, video.size) if last else video.size
    if last and int(last) < int(first):
        return None
    return (start, end) if start < video.size else (0, 0)


class _VideoPart(Response):
    """Sends bytes of a file a part at a time, and lets go of what it holds when all are on their way."""

    def __init__(
        self, video: _Video, start: int, end: int, held: ExitStack, status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(status_code=status, headers=headers, media_type=video.mime_type)
        self._video, self._start, self._end, self._held = video, start, end, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer as quickly as it is read."""
        with self._held:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            at = self._start
            while at < self._end:
                part = await asyncio.to_thread(_read, self._video, at, min(at + _PART, self._end))
                at += len(part)
                await send({"type": "http.response.body", "body": part, "more_body": at < self._end})


def _read(video: _Video, start: int, end: int) -> bytes:
    part = os.pread(video.descriptor, end - start, start)
    if not part:
        # It became shorter; the client learns by the end that this is not all.
        raise OSError("the video became shorter while it was sent")
    return blanked(part, start, video.blanked)
