"""Requests under the path at which a reverse proxy shows the server (``--root-path``)."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from crossmodal.errors import SettingsError
from crossmodal.http_shapes.root_path import ROOT_PATH, root_path_of

__all__ = ["RootPath", "parse_root_path"]


def parse_root_path(given: str, routes: Iterable[BaseRoute]) -> str:
    """The path of --root-path, empty for none.

    Raises SettingsError for what is no path, or one that ``routes`` answer themselves.
    """
    root = root_path_of(given)
    if root is None:
        raise SettingsError(
            f"--root-path {given[:80]!r} is not a path of letters, digits and . _ ~ - between slashes; write "
            "it like /photos."
        )
    if root and any(f"{getattr(route, 'path', '')}/".startswith(f"{root}/") for route in routes):
        raise SettingsError(
            f"--root-path {given!r} is a path that the server answers itself; choose another, like /photos."
        )
    return root


class RootPath:
    """Takes ``root`` off the paths that begin with it, and names it as ROOT_PATH to what makes links.

    A proxy may take it off itself, so that a path without it is what it seems to be.
    """

    def __init__(self, app: ASGIApp, root: str) -> None:
        self._app = app
        self._root = root
        self._sent = root.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] != "http" or not self._root:
            await self._app(scope, receive, send)
            return
        app = self._app
        sent: bytes = scope["raw_path"].split(b"?")[0]
        if sent == self._sent and scope["method"] in ("GET", "HEAD"):
            # The page names its files relative to its folder.
            query = scope["query_string"].decode("latin-1")
            app = RedirectResponse(f"{self._root}/" + (f"?{query}" if query else ""), 308)
        elif sent.startswith(self._sent + b"/"):
            # Nothing in it is escaped, so both begin with it.
            scope["raw_path"] = sent.removeprefix(self._sent)
            scope["path"] = scope["path"].removeprefix(self._root)
        token = ROOT_PATH.set(self._root)
        try:
            await app(scope, receive, send)
        finally:
            ROOT_PATH.reset(token)
