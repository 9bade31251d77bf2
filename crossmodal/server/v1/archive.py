"""POST /v1/documents/archive: originals as a zip, sent while it is made."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, closing
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from crossmodal import limits
from crossmodal.engine.archive import PhotoArchive
from crossmodal.errors import RequestError
from crossmodal.http_shapes.v1.archive import parse_archive
from crossmodal.http_shapes.values import read_json
from crossmodal.records import IMAGE
from crossmodal.server.access.locations import require_no_locations, sees_locations
from crossmodal.server.forms import FORM_TYPE, media_type_of, read_form
from crossmodal.server.guards import read_body
from crossmodal.server.routes import add_route
from crossmodal.server.serving import Serving

__all__ = ["add_archive_route"]

_PART = 256 << 10

# While a large video is read, or others take all the memory that there is for sending, a client hears so
# often that there is more to come.
_SIGN_SECONDS = 10.0


def add_archive_route(app: Starlette, serving: Serving) -> None:
    """Adds the route."""

    async def archive(request: Request) -> Response:
        wanted = parse_archive(read_json(await _body(request)))
        workspace = serving.engine.workspace
        locations = sees_locations(request.scope, serving.settings)
        if isinstance(wanted, list):
            ids = await asyncio.to_thread(workspace.known_ids, wanted, IMAGE) and wanted
        else:
            if not locations:
                require_no_locations(wanted)
            most = limits.ARCHIVE.most
            ids = await asyncio.to_thread(workspace.matching_ids, IMAGE, wanted, most + 1)
            if len(ids) > most:
                raise RequestError(
                    f"More than {most:,} photos match the filter, and an archive has at most as many. "
                    f"{limits.ARCHIVE.advice}",
                    status=422,
                )
        if not ids:
            raise RequestError("There is no such photo in the index.", status=404)
        with ExitStack() as held:
            held.enter_context(serving.admission.archives.take())
            photos = PhotoArchive(workspace, ids, locations=locations)
            return _ArchiveResponse(photos, serving, held.pop_all())

    add_route(app, "/v1/documents/archive", archive, ["POST"])


async def _body(request: Request) -> bytes:
    """The JSON, which a form of a page has in its part ``request``: a browser saves what answers that."""
    media_type = media_type_of(request)
    if media_type == FORM_TYPE:
        form = await read_form(request, texts={"request"}, files=set())
        return form.texts.get("request", "").encode()
    if media_type not in ("application/json", ""):
        raise RequestError(
            f"The content type is {media_type[:80]!r}; send application/json, or {FORM_TYPE} with a part "
            "'request'.",
            status=415,
        )
    return await read_body(request)


class _ArchiveResponse(Response):
    """Sends an archive as quickly as it is read, and reads on as quickly as it is sent.

    Where its client goes away, no further photo is read. What was read counts among the MiB that are sent at
    once, until it is on its way.
    """

    def __init__(self, archive: PhotoArchive, serving: Serving, held: ExitStack) -> None:
        super().__init__(media_type="application/zip")
        del self.headers["Content-Length"]
        self.headers["Content-Disposition"] = 'attachment; filename="photos.zip"'
        self.headers["Cache-Control"] = "no-store"
        self.headers["X-Content-Type-Options"] = "nosniff"
        # The page has it saved in a frame, so that a refusal takes nobody away from it.
        self.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'self'"
        self._archive, self._serving, self._held = archive, serving, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer."""
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        with self._held, closing(_Reader(self._archive, self._serving)) as reader:
            await send(start)
            while await self._send_part(reader, send):
                if (reading := self._archive.awaited) is not None:
                    await _until(asyncio.shield(asyncio.wrap_future(reading)), send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_part(self, reader: _Reader, send: Send) -> bool:
        """Reads the next part and sends it, and keeps nothing of it; False at the end."""
        sent = self._serving.admission.sent
        async with self._serving.admission.archiving:
            part = await reader.read()
            if not part:
                return part is not None
            held = await self._places(-(-len(part) >> 20), send)
        try:
            whole = memoryview(part)
            for at in range(0, len(whole), _PART):
                piece = bytes(whole[at : at + _PART])
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            sent.give_back(held)
        return True

    async def _places(self, number: int, send: Send) -> int:
        """Waits for places of the MiB that are sent at once; how many are held then."""
        sent = self._serving.admission.sent
        waiting = asyncio.ensure_future(sent.wait_for(number))
        try:
            await _until(waiting, send)
        except BaseException:
            if not waiting.cancel():
                sent.give_back(waiting.result())
            raise
        return waiting.result()


async def _until(awaited: asyncio.Future[Any], send: Send) -> None:
    """Waits, and shows the client meanwhile that there is more to come."""
    while not (await asyncio.wait({awaited}, timeout=_SIGN_SECONDS))[0]:
        await send({"type": "http.response.body", "body": b"", "more_body": True})
    await awaited


class _Reader:
    """Reads an archive in threads. Closed, it lets go of what the archive has open."""

    def __init__(self, archive: PhotoArchive, serving: Serving) -> None:
        self._parts = archive.parts()
        self._serving = serving
        self._under_way: asyncio.Future[bytes | None] | None = None

    async def read(self) -> bytes | None:
        """The next part, None at the end; raises as ``PhotoArchive.parts``."""
        self._under_way = asyncio.ensure_future(self._serving.read(next, self._parts, None))
        # Who waits may leave; the thread cannot.
        part = await asyncio.shield(self._under_way)
        self._under_way = None
        return part

    def close(self) -> None:
        """Ends it, once nobody reads."""
        if self._under_way is None or self._under_way.done():
            self._parts.close()
        else:
            self._under_way.add_done_callback(self._end)

    def _end(self, read: asyncio.Future[bytes | None]) -> None:
        if not read.cancelled():
            # Nobody is left to hear of it.
            read.exception()
        self._parts.close()
