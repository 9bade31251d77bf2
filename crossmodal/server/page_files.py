"""The page at / and that of the API, with their files, as browsers may cache them."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import mimetypes
import re
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal.errors import RequestError, StoreError
from crossmodal.http_shapes.root_path import ROOT_PATH
from crossmodal.images.formats import EXTENSIONS, formats_sentence
from crossmodal.records import TEXT
from crossmodal.server.bundle import bundled
from crossmodal.server.contents import is_held
from crossmodal.server.routes import add_route
from crossmodal.videos.formats import VIDEO_FORMATS
from crossmodal.workspace import Workspace

__all__ = ["PAGE", "add_page"]

PAGE = Path(__file__).with_name("page")

# What shows the description of the API at /docs; the page's sheet and its helpers serve it too.
_DOCS_PAGE = Path(__file__).with_name("docs_page")

# Nothing runs or loads that this server doesn't serve itself, whatever a caption or a file name holds; a
# script inside of a page only if it is, to the letter, that of its file.
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self'; connect-src 'self'; manifest-src 'self'; frame-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_FIRST = "index.html"
_FLAGS = tuple((captions, texts) for captions in (False, True) for texts in (False, True))

# Of the page's files these two are in no folder: one is made of a table, the other of all modules.
_FORMATS = "formats.js"
_SCRIPT = "app.js"
# The service worker, which is for the whole page and not for the folder that it lies in.
_OFFLINE = "offline.js"
# It names the server by its address, as each client knows it.
_OPENSEARCH = "opensearch.xml"

_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)

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


def add_page(app: Starlette, workspace: Workspace) -> None:
    """Adds / and /page/FILE, and /docs and /docs/FILE, read once at the start.

    The page says of the index in ``workspace`` whether it has captions, and text in photos.
    """
    files = _files_in(PAGE)
    files[_FORMATS] = _PageFile(_FORMATS, _formats_module().encode())
    modules = {name: file.text for name, file in files.items() if name.endswith(".js")}
    files[_SCRIPT] = _PageFile(_SCRIPT, bundled(modules, "main.js").encode())
    pages = {flags: _with_flags(files[_FIRST], flags) for flags in _FLAGS}

    async def first(request: Request) -> Response:
        return pages[await asyncio.to_thread(_flags_of, workspace)].response(request)

    # Before the files, among which it is for browsers.
    add_route(app, f"/page/{_OPENSEARCH}", _opensearch, ["GET", "HEAD"])
    add_route(app, "/", first, ["GET", "HEAD"])
    _add_files(app, "/page", files)

    docs = _files_in(_DOCS_PAGE)

    async def first_of_docs(request: Request) -> Response:
        return docs["docs.html"].response(request)

    add_route(app, "/docs", first_of_docs, ["GET", "HEAD"])
    _add_files(app, "/docs", docs)


def _flags_of(workspace: Workspace) -> tuple[bool, bool]:
    """Whether the index has captions, and text in photos: what the page's first search goes by."""
    try:
        return workspace.vector_count(TEXT) > 0, workspace.text_counts().with_text > 0
    except StoreError:
        # The page shows why.
        return False, False


def _with_flags(page: _PageFile, flags: tuple[bool, bool]) -> _PageFile:
    said = "".join(f" data-{name}" for name, holds in zip(("captions", "texts"), flags, strict=True) if holds)
    return _PageFile(_FIRST, page.text.replace("<html ", f"<html{said} ", 1).encode())


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


def _add_files(app: Starlette, below: str, files: Mapping[str, _PageFile]) -> None:
    """Adds all of ``files`` below a path."""

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            raise RequestError(f"The page has no file {name[:80]!r}.", status=404)
        return files[name].response(request)

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
        self._policy = _POLICY.format(scripts=" ".join(["'self'", *self._hashes()]))
        self._tag = hashlib.sha256(content).hexdigest()[:32]
        self._more = {"Service-Worker-Allowed": "../"} if name == _OFFLINE else {}

    @property
    def text(self) -> str:
        """What is sent."""
        return self._content.decode()

    def _hashes(self) -> list[str]:
        if self._type != _TYPES[".html"]:
            return []
        digests = [hashlib.sha256(script.encode()).digest() for script in _INLINE.findall(self.text)]
        return [f"'sha256-{b64encode(digest).decode()}'" for digest in digests]

    def response(self, request: Request) -> Response:
        """The file as a client can read it, or 304 where it has it."""
        zipped = _accepts_gzip(request.headers.get("accept-encoding", ""))
        # What is sent differs, and so does its strong tag.
        tag = f'"{self._tag}-gzip"' if zipped else f'"{self._tag}"'
        headers = {
            "ETag": tag,
            "Vary": "Accept-Encoding",
            # Asked for again each time, and answered with 304 as long as it is the same.
            "Cache-Control": "no-cache",
            "Content-Security-Policy": self._policy,
            "X-Content-Type-Options": "nosniff",
            # Forms sent to this server say where they come from; nobody else is told.
            "Referrer-Policy": "same-origin",
            **self._more,
        }
        if is_held(request, tag):
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
