"""Space kept free on the disk, so that what fills it can still be deleted."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from crossmodal.private_files import PRIVATE_FILE

__all__ = ["RESERVE_FILE", "Reserve"]

RESERVE_FILE = "reserve"

# SQLite's log of 2.5 MiB (``connections._LOG_PAGES``) has to be written into the file before its space is
# free, and a deletion writes the pages that it changes into the log: some dozens of 16 KiB a document.
_BYTES = 4 << 20

# On a smaller disk it would take too much, and less of it would not help.
_SMALLEST_DISK_BYTES = 32 << 20

_STEP_BYTES = 64 << 10


class Reserve:
    """The file ``reserve`` in ``folder``, whose blocks are freed when a deletion finds the disk full."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / RESERVE_FILE

    @property
    def exists(self) -> bool:
        """Whether there is anything to free."""
        with suppress(OSError):
            return self._path.stat().st_size > 0
        return False

    def take(self) -> None:
        """Reserves the space, or what there is of it; nothing on a disk that is full or cannot be written."""
        with suppress(OSError):
            usage = shutil.disk_usage(self._path.parent)
            held = self._path.stat().st_size if self._path.exists() else 0
            size = min(_BYTES, held + usage.free) // _STEP_BYTES * _STEP_BYTES
            if size <= held or usage.total < _SMALLEST_DISK_BYTES:
                return
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)

    def free(self) -> bool:
        """Gives the space back; False where there was none."""
        if not self.exists:
            return False
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
