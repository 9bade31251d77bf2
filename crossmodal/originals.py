"""The original of a photo from where it lies: inside its root, a regular file, and what was indexed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from crossmodal.limits import LARGEST_PHOTO
from crossmodal.records import LocalFile, digest_of

__all__ = ["read_original"]


def read_original(files: Iterable[LocalFile], digest: str) -> bytes | None:
    """The content with that ``digest_of`` from the first of ``files`` that has it; None where none has.

    Links are resolved, and what they lead to has to lie inside the file's root; devices, pipes and files that
    are larger than a photo may be are never read. What is returned is what was indexed, to the byte.
    """
    for file in files:
        content = _read_below(file.root, file.absolute)
        if content is not None and digest_of(content) == digest:
            return content
    return None


def _read_below(root: str, path: str) -> bytes | None:
    try:
        # Without waiting for who writes into a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or not 0 < found.st_size <= LARGEST_PHOTO.most:
            return None
        # Of the open file, so that nobody can put a link in its place meanwhile.
        opened = Path(f"/proc/self/fd/{descriptor}").resolve(strict=True)
        if not opened.is_relative_to(Path(root).resolve(strict=True)):
            return None
        with open(descriptor, "rb", closefd=False) as opened_file:
            return opened_file.read(found.st_size)
    except OSError:
        return None
    finally:
        os.close(descriptor)
