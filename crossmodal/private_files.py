"""Files and folders that only their owner can read: an index holds everybody's photos.

What exists keeps its mode: whoever gave others permission meant it.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["PRIVATE_FILE", "make_private_folder", "private_opener", "touch_private"]

# The mode of new files.
PRIVATE_FILE = 0o600

_PRIVATE_FOLDER = 0o700


def private_opener(path: str, flags: int) -> int:
    """The ``opener`` for ``open`` that makes new files private."""
    return os.open(path, flags | os.O_CLOEXEC, PRIVATE_FILE)


def touch_private(path: Path) -> None:
    """Makes an empty private file where there is none, for what opens it later; raises OSError."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE))


def make_private_folder(path: Path) -> None:
    """Makes the folder, private, where there is none, and its parents, which are not; raises OSError."""
    path.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
