"""What is known to be damaged: each value that did not match its checksum when it was read, by row.

The list is a derived file, ``derived/damaged.jsonl``, so that the process that indexes again learns what
another one found while it read. A row is never given twice, so an entry means nothing once its row is gone.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from crossmodal.errors import StoreDamaged
from crossmodal.private_files import private_opener

__all__ = ["DAMAGE_FILE", "DamageList"]

_logger = logging.getLogger(__name__)

DAMAGE_FILE = "derived/damaged.jsonl"

# A disk that fails as a whole is not told value by value.
_MOST_LISTED = 10_000


class DamageList:
    """The rows of the index in ``folder`` in which damage was found. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / DAMAGE_FILE
        self._lock = threading.Lock()
        self._parts: dict[int, set[str]] = {}
        self._read: tuple[int, int] | None = None

    def note(self, error: StoreDamaged) -> None:
        """Lists the row; on a disk that cannot be written for this process alone."""
        with self._lock:
            if error.part in self._parts.get(error.row, ()) or len(self._parts) >= _MOST_LISTED:
                return
            self._parts.setdefault(error.row, set()).add(error.part)
            _logger.error("%s", error)
            with suppress(OSError):
                self._path.parent.mkdir(exist_ok=True)
                with open(self._path, "a", encoding="utf-8", opener=private_opener) as file:
                    file.write(json.dumps({"row": error.row, "id": error.id, "part": error.part}) + "\n")

    def noted(self) -> dict[int, set[str]]:
        """The rows that this process or another one listed, ascending, and what of each was damaged.

        Some may be sound or gone by now.
        """
        with self._lock:
            with suppress(OSError):
                found = self._path.stat()
                if self._read != (found.st_mtime_ns, found.st_size):
                    self._read = found.st_mtime_ns, found.st_size
                    for row, part in _listed(self._path):
                        self._parts.setdefault(row, set()).add(part)
            return {row: set(self._parts[row]) for row in sorted(self._parts)}

    def clear(self) -> None:
        """Forgets all of them."""
        with self._lock:
            self._parts, self._read = {}, None
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def _listed(path: Path) -> Iterator[tuple[int, str]]:
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8").splitlines():
            # A process may have been killed while it wrote one.
            with suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                yield int(entry["row"]), str(entry["part"])
