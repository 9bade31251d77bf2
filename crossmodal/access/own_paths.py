"""The server's own paths, which no answer shows; its log has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from crossmodal.settings import Settings

__all__ = ["OwnPaths"]


class OwnPaths:
    """Writes WORKSPACE, MODELS, DATA and HOME for the paths of these folders of ``settings``.

    Sentences about a full disk or a damaged index name files, for the person who started the server. A
    stranger needs no map of the machine.
    """

    def __init__(self, settings: Settings) -> None:
        self._names = _names_of(settings)
        self._paths = re.compile(rb"(?<![\w/.-])(" + b"|".join(map(re.escape, self._names)) + rb")(?![\w-])")

    def hide(self, text: str) -> str:
        """``text`` without the paths, and without what UTF-8 cannot hold."""
        plain = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return self.hide_in(plain.encode()).decode()

    def hide_in(self, body: bytes) -> bytes:
        """``body``, text or JSON in UTF-8, without the paths."""
        if not any(path in body for path in self._names):
            return body
        return self._paths.sub(lambda found: self._names[found[1]], body)


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
