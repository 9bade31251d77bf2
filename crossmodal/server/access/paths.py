"""Keeps the server's own paths out of what it answers; its log has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossmodal.settings import Settings

__all__ = ["HiddenPaths", "PathNames"]

# What is read as text by whoever asked; photos and the page's files hold no paths of this machine.
_TEXTS = ("application/json", "application/problem+json", "application/x-ndjson", "text/plain", "text/html")


class PathNames:
    """Writes WORKSPACE, MODELS, DATA and HOME for these folders' paths in sentences."""

    def __init__(self, settings: Settings) -> None:
        self._names = _names_of(settings)
        self._paths = re.compile(rb"(?<![\w/.-])(" + b"|".join(map(re.escape, self._names)) + rb")(?![\w-])")

    def hide(self, sentence: str) -> str:
        """The sentence without paths of this machine."""
        return self.hide_in(sentence.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def hide_in(self, text: bytes) -> bytes:
        """The same of a whole text, in UTF-8 or in JSON."""
        return self._paths.sub(lambda found: self._names[found[1]], text)


class HiddenPaths:
    """Answers errors, of status 400 and above, without paths of this machine, as ``PathNames`` writes them.

    Sentences about a full disk or a damaged index name files, for the person who started the server. A
    stranger needs no map of the machine. Other answers hold what users have written, tags with paths of
    their own among it, and pass as they are: what writes a sentence of an error into one hides its paths.
    """

    def __init__(self, app: ASGIApp, names: PathNames) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and its answer back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message | None = None

        async def hide(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_error_text(message):
                # Its length is known with its body.
                start = message
                return
            if start is not None:
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    message = self._hidden(start, message)
                await send(start)
                start = None
            await send(message)

        await self._app(scope, receive, hide)

    def _hidden(self, start: Message, message: Message) -> Message:
        body = self._names.hide_in(message.get("body", b""))
        MutableHeaders(scope=start)["Content-Length"] = str(len(body))
        return {**message, "body": body}


def _is_error_text(message: Message) -> bool:
    if message["status"] < 400:
        return False
    headers = Headers(raw=message["headers"])
    return headers.get("content-type", "").startswith(_TEXTS) and "content-encoding" not in headers


def _names_of(settings: Settings) -> Mapping[bytes, bytes]:
    """What is written for each path, longer ones first: a folder may lie in another."""
    folders = {b"DATA": settings.data_root, b"MODELS": settings.model_cache}
    # Not every user has a home folder.
    with suppress(RuntimeError):
        folders[b"HOME"] = Path.home()
    folders[b"WORKSPACE"] = settings.workspace
    names: dict[bytes, bytes] = {}
    for name, folder in folders.items():
        for spelled in _spellings(folder):
            names[spelled] = name
    return dict(sorted(names.items(), key=lambda item: -len(item[0])))


def _spellings(folder: Path) -> Iterable[bytes]:
    for path in {str(folder), str(folder.absolute()), str(folder.resolve())}:
        # Of a path as short as / or /app nothing can be learned, and it stands in other words.
        if path.count("/") > 1 or (path.startswith("/") and len(path) > 4):
            text = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            yield text.encode()
            # As JSON writes quotes and what is no ASCII.
            yield json.dumps(text)[1:-1].encode()
