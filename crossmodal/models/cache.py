"""Files in the model cache, and fingerprints of weight files that are remembered there.

Several processes may write a file of the cache at once, so each file is replaced as a whole.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from crossmodal.errors import ModelError
from crossmodal.home_folder import expanded
from crossmodal.models.identity import fingerprint

__all__ = ["read_object", "remembered_fingerprint", "replace_file", "user_cache"]

_FINGERPRINTS = "fingerprints.json"


def user_cache(cache: Path | None) -> Path:
    """The folder for what is remembered of models: ``cache``, or ``~/.cache/crossmodal``."""
    return cache or expanded("~/.cache/crossmodal")


def replace_file(path: Path, *parts: bytes) -> None:
    """Write ``parts``, one after the other, to ``path``, whose folder is created if it is missing.

    The umask decides who may read the file, since a cache can be shared. Raises OSError, and then leaves the
    earlier file in place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # tempfile's would be for this user alone.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            for part in parts:
                file.write(part)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; an empty one where it cannot be read or holds something else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def remembered_fingerprint(path: Path, cache: Path) -> str:
    """``fingerprint`` of one file, from ``cache`` while its size and time of change are the same.

    This spares a start reading 600 MB of weights to hash them. A cache that cannot be read or written costs
    only that time. Raises ModelError where ``path`` cannot be read.
    """
    try:
        path = path.resolve(strict=True)
        status = path.stat()
        known = read_object(cache / _FINGERPRINTS)
        match known.get(str(path)):
            case [status.st_size, status.st_mtime_ns, value]:
                return str(value)
        value = fingerprint([path])
    except OSError as error:
        raise ModelError(f"The weight file {path} cannot be read: {error}.") from error
    known[str(path)] = [status.st_size, status.st_mtime_ns, value]
    with suppress(OSError):
        replace_file(cache / _FINGERPRINTS, json.dumps(known, indent=1).encode())
    return value
