"""The path under which a reverse proxy shows the server, in front of every path of its own."""

from __future__ import annotations

import re
from contextvars import ContextVar

__all__ = ["ROOT_PATH", "root_path_of"]

# Of the request that is being answered: empty, or like /photos, without a slash at its end.
ROOT_PATH: ContextVar[str] = ContextVar("root_path", default="")

# What needs no escape in a path (RFC 3986, 2.3), and neither . nor .. as a folder.
_ROOT_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*/?")
_MOST_CHARACTERS = 256


def root_path_of(given: str) -> str | None:
    """The path without the slash at its end, empty for the root; None where it cannot be one."""
    if len(given) > _MOST_CHARACTERS or not _ROOT_PATH.fullmatch(given):
        return None
    return given.rstrip("/")
