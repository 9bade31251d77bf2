"""Fingerprints of large weight files, remembered, so that a start doesn't read 600 MB to hash them."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from crossmodal.errors import ModelError
from crossmodal.models.identity import fingerprint

__all__ = ["remembered_fingerprint", "user_cache"]

_FILE = "fingerprints.json"


def user_cache(cache: Path | None) -> Path:
    """The folder for what is worth remembering of models: ``cache``, or ``~/.cache/crossmodal``."""
    return cache or Path.home() / ".cache" / "crossmodal"


def remembered_fingerprint(path: Path, cache: Path) -> str:
    """``fingerprint`` of one file, from ``cache`` while its size and time of change are the same.

    A cache that cannot be read or written costs time and nothing else. Raises ModelError where ``path``
    cannot be read.
    """
    try:
        path = path.resolve(strict=True)
        status = path.stat()
        known = _read(cache)
        entry = known.get(str(path))
        if entry is not None and entry[:2] == [status.st_size, status.st_mtime_ns]:
            return str(entry[2])
        value = fingerprint([path])
    except OSError as error:
        raise ModelError(f"The weight file {path} cannot be read: {error}.") from error
    _write(cache, {**known, str(path): [status.st_size, status.st_mtime_ns, value]})
    return value


def _read(cache: Path) -> dict[str, list[object]]:
    try:
        known = json.loads((cache / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: entry for key, entry in known.items() if isinstance(entry, list) and len(entry) == 3}


def _write(cache: Path, known: dict[str, list[object]]) -> None:
    """Through a temporary file, because several processes start at once and each may write."""
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=cache, suffix=".json")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(known, file, indent=1)
        Path(temporary).replace(cache / _FILE)
