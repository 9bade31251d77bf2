"""The page at /: files of the folder ``page``, and nothing else of this machine."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal.errors import RequestError
from crossmodal.server.contents import is_held
from crossmodal.server.routes import add_route

__all__ = ["PAGE", "add_page"]

PAGE = Path(__file__).with_name("page")

# Nothing runs or loads that this server doesn't serve itself, whatever a caption or a file name holds.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


def add_page(app: Starlette) -> None:
    """Adds / and /page/FILE, read once at the start."""
    files = {
        path.name: _PageFile(path.name, path.read_bytes())
        for path in sorted(PAGE.iterdir())
        if path.is_file()
    }

    async def index(request: Request) -> Response:
        return files["index.html"].response(request)

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            raise RequestError(f"The page has no file {name[:80]!r}.", status=404)
        return files[name].response(request)

    add_route(app, "/", index, ["GET", "HEAD"])
    add_route(app, "/page/{name}", file, ["GET", "HEAD"])


class _PageFile:
    def __init__(self, name: str, content: bytes) -> None:
        self._content = content
        self._gzipped = gzip.compress(content, mtime=0)
        suffix = "." + name.rpartition(".")[2]
        self._type = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        self._tag = hashlib.sha256(content).hexdigest()[:32]

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
            "Referrer-Policy": "no-referrer",
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
