"""Fingerprints of large weight files, remembered, so that a start doesn't read 600 MB to hash them."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from crossmodal.errors import ModelError
from crossmodal.home_folder import expanded
from crossmodal.models.cached_files import read_object, replace_file
from crossmodal.models.identity import fingerprint

__all__ = ["remembered_fingerprint", "user_cache"]

_FILE = "fingerprints.json"


def user_cache(cache: Path | None) -> Path:
    """The folder for what is worth remembering of models: ``cache``, or ``~/.cache/crossmodal``."""
    return cache or expanded("~/.cache/crossmodal")


def remembered_fingerprint(path: Path, cache: Path) -> str:
    """``fingerprint`` of one file, from ``cache`` while its size and time of change are the same.

    A cache that cannot be read or written costs time and nothing else. Raises ModelError where ``path``
    cannot be read.
    """
    try:
        path = path.resolve(strict=True)
        status = path.stat()
        known = read_object(cache / _FILE)
        entry = known.get(str(path))
        match entry:
            case [status.st_size, status.st_mtime_ns, known_value]:
                return str(known_value)
        value = fingerprint([path])
    except OSError as error:
        raise ModelError(f"The weight file {path} cannot be read: {error}.") from error
    known[str(path)] = [status.st_size, status.st_mtime_ns, value]
    with suppress(OSError):
        replace_file(cache / _FILE, json.dumps(known, indent=1).encode())
    return value
