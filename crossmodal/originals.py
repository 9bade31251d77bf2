"""The original of a photo or video from where it lies: inside its root, a regular file, as it was indexed."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from crossmodal.limits import LARGEST_PHOTO
from crossmodal.records import LocalFile, digest_of

__all__ = ["LargeOriginals", "read_original"]

# Paths, signatures and digests of so many files are remembered.
_MOST_COMPARED = 4096


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


class LargeOriginals:
    """Opens files that are too large to be compared each time, as videos are.

    ``signature_of`` tells of a status what changes when the file does. A file with the signature that is
    noted in the index is as it was. Any other, as after ``load`` or on a new disk, is read once, and what was
    found holds for as long as its signature does. Safe across threads.
    """

    def __init__(self, signature_of: Callable[[os.stat_result], str]) -> None:
        self._signature_of = signature_of
        # A large file is read by one thread, for all that ask for it.
        self._comparing = threading.Lock()
        self._compared: OrderedDict[tuple[str, str, str], bool] = OrderedDict()

    def open(self, files: Iterable[LocalFile], digest: str) -> int | None:
        """The descriptor of the first of ``files`` that has the content with that ``digest_of``.

        None where none has. Links are resolved as in ``read_original``.
        """
        for file in files:
            descriptor = _open_below(file.root, file.absolute)
            if descriptor is None:
                continue
            with ExitStack() as unwanted:
                unwanted.callback(os.close, descriptor)
                now = self._signature_of(os.fstat(descriptor))
                if f"{file.signature} ".startswith(f"{now} ") or self._has(
                    descriptor, (file.absolute, now, digest)
                ):
                    unwanted.pop_all()
                    return descriptor
        return None

    def _has(self, descriptor: int, asked: tuple[str, str, str]) -> bool:
        """Whether an open file, which has this path and signature, has the content with this digest."""
        # Who asks for a known one waits for nobody else's file to be read.
        if (known := self._compared.get(asked)) is not None:
            return known
        with self._comparing:
            if asked not in self._compared:
                with suppress(OSError), open(descriptor, "rb", closefd=False) as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                    file.seek(0)
                    # Nothing is known of what was written meanwhile.
                    if self._signature_of(os.fstat(descriptor)) == asked[1]:
                        self._compared[asked] = found == asked[2]
                if len(self._compared) > _MOST_COMPARED:
                    self._compared.popitem(last=False)
            return self._compared.get(asked, False)


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
