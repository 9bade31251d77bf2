"""What browsers may cache: photos, their thumbnails, the page at /, and that of the API, with their files."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import mimetypes
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from crossmodal.errors import ImageError, OriginalGone, RequestError
from crossmodal.http_shapes.root_path import ROOT_PATH
from crossmodal.images.formats import BROWSER_TYPES, EXTENSIONS, READABLE_TYPES, formats_sentence
from crossmodal.images.previews import PREVIEW_SIDES
from crossmodal.metadata.locations import without_location
from crossmodal.places import Places
from crossmodal.records import IMAGE, Record, photo_id
from crossmodal.server.routes import add_route
from crossmodal.server.serving import Serving
from crossmodal.server.videos import video_response
from crossmodal.videos.formats import VIDEO_FORMATS, is_video_type

__all__ = ["PAGE", "PICTURE_SIZES", "add_page", "photo_response", "thumbnail_response"]

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
        if picture is not None or _is_held(request, content.tag):
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
    if _is_held(request, content.tag):
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


def _is_held(request: Request, tag: str) -> bool:
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


PAGE = Path(__file__).with_name("page")

# What shows the description of the API at /docs; the page's sheet and its helpers serve it too.
_DOCS_PAGE = Path(__file__).with_name("docs_page")

# Nothing runs or loads that this server doesn't serve itself, whatever a caption or a file name holds.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self'; connect-src 'self'; manifest-src 'self'; frame-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
# The one file of the page that is in no folder.
_FORMATS = "formats.js"
# The service worker, which is for the whole page and not for the folder that it lies in.
_OFFLINE = "offline.js"
# It names the server by its address, as each client knows it.
_OPENSEARCH = "opensearch.xml"

# Comments that have their lines to themselves.
_BLOCK = r"/\*(?:(?!\*/).)*\*/[ \t]*"
_COMMENTS = {
    ".js": re.compile(rf"^[ \t]*(?://[^\n]*|{_BLOCK})$", re.MULTILINE | re.DOTALL),
    ".css": re.compile(rf"^[ \t]*{_BLOCK}$", re.MULTILINE | re.DOTALL),
}

_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".html": "text/html",
    ".webmanifest": "application/manifest+json",
}


def add_page(app: Starlette) -> None:
    """Adds / and /page/FILE, and /docs and /docs/FILE, read once at the start."""
    files = _files_in(PAGE)
    files[_FORMATS] = _PageFile(_FORMATS, _formats_module().encode())

    # Before the files, among which it is for browsers.
    add_route(app, f"/page/{_OPENSEARCH}", _opensearch, ["GET", "HEAD"])
    _add_files(app, "/", "/page", files, first="index.html")
    _add_files(app, "/docs", "/docs", _files_in(_DOCS_PAGE), first="docs.html")


async def _opensearch(request: Request) -> Response:
    """What browsers need to offer the page among their search engines: OpenSearch 1.1, draft 6."""
    home = f"{request.url.scheme}://{request.url.netloc}{ROOT_PATH.get()}/"
    address = quoteattr(f"{home}?text={{searchTerms}}")
    return Response(
        '<OpenSearchDescription xmlns="http://a9.com/-/spec/opensearch/1.1/"><ShortName>Photos</ShortName>'
        f"<Description>Photos by a sentence</Description><InputEncoding>UTF-8</InputEncoding>"
        f'<Url type="text/html" template={address}/></OpenSearchDescription>',
        media_type="application/opensearchdescription+xml",
    )


def _files_in(folder: Path) -> dict[str, _PageFile]:
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    return {path.name: _PageFile(path.name, path.read_bytes()) for path in paths}


def _add_files(app: Starlette, at: str, below: str, files: Mapping[str, _PageFile], *, first: str) -> None:
    """Adds the page ``first`` at a path, and all of ``files`` below another one."""

    async def page(request: Request) -> Response:
        return files[first].response(request)

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            raise RequestError(f"The page has no file {name[:80]!r}.", status=404)
        return files[name].response(request)

    add_route(app, at, page, ["GET", "HEAD"])
    add_route(app, below + "/{name}", file, ["GET", "HEAD"])


def _formats_module() -> str:
    """The script that tells the page which files are photos, made from the table of formats."""
    endings, sentence = json.dumps(sorted(EXTENSIONS)), json.dumps(formats_sentence())
    videos = json.dumps([each.name for each in VIDEO_FORMATS])
    return (
        "/** The endings of photos' names; browsers know no type for some of them. */\n"
        f"export const ENDINGS = {endings};\n\n"
        "/** The formats, for a sentence. */\n"
        f"export const FORMATS = {sentence};\n\n"
        "/** The formats of videos, which cannot be sent. */\n"
        f"export const VIDEOS = {videos};\n"
    )


def _without(comments: re.Pattern[str], content: bytes) -> bytes:
    """``content`` with empty lines for comments, so that errors in browsers name the lines of the source."""
    return comments.sub(lambda found: "\n" * found.group().count("\n"), content.decode()).encode()


class _PageFile:
    """One file as it is sent: scripts and sheets without their comments, which are a seventh of them."""

    def __init__(self, name: str, content: bytes) -> None:
        suffix = "." + name.rpartition(".")[2]
        if (comments := _COMMENTS.get(suffix)) is not None:
            content = _without(comments, content)
        self._content = content
        self._gzipped = gzip.compress(content, mtime=0)
        self._type = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        self._tag = hashlib.sha256(content).hexdigest()[:32]
        self._more = {"Service-Worker-Allowed": "../"} if name == _OFFLINE else {}

    def response(self, request: Request) -> Response:
        zipped = _accepts_gzip(request.headers.get("accept-encoding", ""))
        # What is sent differs, and so does its strong tag.
        tag = f'"{self._tag}-gzip"' if zipped else f'"{self._tag}"'
        headers = {
            "ETag": tag,
            "Vary": "Accept-Encoding",
            # Asked for again each time, and answered with 304 as long as it is the same.
            "Cache-Control": "no-cache",
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            # Forms sent to this server say where they come from; nobody else is told.
            "Referrer-Policy": "same-origin",
            **self._more,
        }
        if _is_held(request, tag):
            return Response(status_code=304, headers=headers)
        if zipped:
            headers["Content-Encoding"] = "gzip"
        return Response(self._gzipped if zipped else self._content, media_type=self._type, headers=headers)


def _accepts_gzip(header: str) -> bool:
    for part in header.lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
