"""The original of a photo or video from where it lies: inside its root, a regular file, as it was indexed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from crossmodal.limits import LARGEST_PHOTO
from crossmodal.records import LocalFile, digest_of

__all__ = ["open_original", "read_original"]


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


def open_original(files: Iterable[LocalFile], signature_of: Callable[[os.stat_result], str]) -> int | None:
    """The descriptor of the first of ``files`` that is as it was when it was read; None where none is.

    What is too large to be read as a whole, as videos are, is known by the signature of its status.
    A file of which none is known, as after ``load``, is none until it is indexed again. Links are resolved as
    in ``read_original``.
    """
    for file in files:
        descriptor = _open_below(file.root, file.absolute)
        if descriptor is None:
            continue
        now = signature_of(os.fstat(descriptor))
        if f"{file.signature} ".startswith(f"{now} "):
            return descriptor
        os.close(descriptor)
    return None


def _read_below(root: str, path: str) -> bytes | None:
    descriptor = _open_below(root, path)
    if descriptor is None:
        return None
    try:
        size = os.fstat(descriptor).st_size
        if size > LARGEST_PHOTO.most:
            return None
        with open(descriptor, "rb", closefd=False) as opened_file:
            return opened_file.read(size)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _open_below(root: str, path: str) -> int | None:
    """The descriptor of a regular file that lies inside of ``root`` and is not empty."""
    try:
        # Without waiting for who writes into a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    with suppress(OSError):
        found = os.fstat(descriptor)
        # Of the open file, so that nobody can put a link in its place meanwhile.
        opened = Path(f"/proc/self/fd/{descriptor}").resolve(strict=True)
        if (
            stat.S_ISREG(found.st_mode)
            and found.st_size
            and opened.is_relative_to(Path(root).resolve(strict=True))
        ):
            return descriptor
    os.close(descriptor)
    return None
