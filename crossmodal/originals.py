"""The original of a photo or video from where it lies: inside its root, a regular file, as it was indexed."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from crossmodal.addresses import entry_at, is_address, read_address
from crossmodal.errors import DataError, MissingExtra, ServiceError
from crossmodal.limits import LARGEST_PHOTO
from crossmodal.records import LocalFile, digest_of

__all__ = ["LargeOriginals", "read_original", "why_not_read"]

# Where a photo is in a tar: its first byte there, and its length; and the tar in its address.
_PLACE = re.compile(r"(\d+)\+(\d+)")
_TAR = re.compile(r"(.*?\.tar)/", re.IGNORECASE | re.DOTALL)

# Paths, signatures and digests of so many files are remembered.
_MOST_COMPARED = 4096
# So much is read between two looks whether anybody still waits.
_PART = 1 << 20


def read_original(files: Iterable[LocalFile], digest: str) -> bytes | None:
    """The content with that ``digest_of`` from the first of ``files`` that has it; None where none has.

    Links are resolved, and what they lead to has to lie inside the file's root; devices, pipes and files that
    are larger than a photo may be are never read. What is returned is what was indexed, to the byte. Of what
    lies at an address or in a tar no more than the photo's bytes are read; in Parquet or in what is
    compressed it isn't looked for.
    """
    for file in files:
        content = _read_below(file.root, file.absolute) if file.is_here else _read_elsewhere(file)
        if content is not None and digest_of(content) == digest:
            return content
    return None


def why_not_read(files: Iterable[LocalFile]) -> str:
    """Why ``read_original`` found none in ``files``, as the end of a sentence that names no place."""
    elsewhere = [file for file in files if not file.is_here]
    if any(file.in_shard is not None and not _PLACE.match(file.in_shard[0]) for file in elsewhere):
        return "lies in Parquet or in a compressed tar, out of which no single photo is read"
    if elsewhere:
        return "lies where it cannot be read from here now, or has changed since it was indexed"
    return "is not there any more, or has changed since it was indexed (index its folder again)"


class LargeOriginals:
    """Opens files that are too large to be compared each time, as videos are.

    ``signature_of`` tells of a status what changes when the file does. A file with the signature that is
    noted in the index is as it was. Any other, as after ``load`` or on a new disk, has to be compared once,
    and what was found holds for as long as its signature does. Safe across threads.
    """

    def __init__(self, signature_of: Callable[[os.stat_result], str]) -> None:
        self._signature_of = signature_of
        self._changing = threading.Lock()
        self._compared: OrderedDict[tuple[str, str, str], bool] = OrderedDict()

    def open(self, files: Iterable[LocalFile], digest: str) -> int | None:
        """The descriptor of the first of ``files`` that is known to have the content with that ``digest_of``.

        None where none is. Links are resolved as in ``read_original``.
        """
        for file in files:
            with _opened_below(file) as (descriptor, keep):
                if descriptor is not None and self._known(file, descriptor, digest):
                    keep()
                    return descriptor
        return None

    def needs_comparing(self, files: Iterable[LocalFile], digest: str) -> bool:
        """Whether ``open`` would open none of ``files``, and might after ``compare``."""
        unknown = False
        for file in files:
            with _opened_below(file) as (descriptor, _):
                known = False if descriptor is None else self._known(file, descriptor, digest)
                if known:
                    return False
                unknown = unknown or known is None
        return unknown

    def compare(self, files: Iterable[LocalFile], digest: str, is_given_up: Callable[[], bool]) -> None:
        """Reads ``files`` of which nothing is known, up to the first that has the content.

        Raises ServiceError where ``is_given_up`` says meanwhile that nobody waits.
        """
        for file in files:
            with _opened_below(file) as (descriptor, _):
                if descriptor is None:
                    continue
                known = self._known(file, descriptor, digest)
                if known is None:
                    known = self._compare(file, descriptor, digest, is_given_up)
                if known:
                    return

    def _known(self, file: LocalFile, descriptor: int, digest: str) -> bool | None:
        """Whether an open file has the content; None where it has to be read."""
        now = self._signature_of(os.fstat(descriptor))
        if f"{file.signature} ".startswith(f"{now} "):
            return True
        with self._changing:
            return self._compared.get((file.absolute, now, digest))

    def _compare(
        self, file: LocalFile, descriptor: int, digest: str, is_given_up: Callable[[], bool]
    ) -> bool:
        now = self._signature_of(os.fstat(descriptor))
        found = hashlib.sha256()
        try:
            for part in iter(lambda: os.read(descriptor, _PART), b""):
                if is_given_up():
                    raise ServiceError("Comparing a video was given up, because the index was closed.")
                found.update(part)
        except OSError:
            return False
        # Nothing is known of what was written meanwhile.
        if self._signature_of(os.fstat(descriptor)) != now:
            return False
        has_it = found.hexdigest() == digest
        with self._changing:
            self._compared[file.absolute, now, digest] = has_it
            if len(self._compared) > _MOST_COMPARED:
                self._compared.popitem(last=False)
        return has_it


@contextmanager
def _opened_below(file: LocalFile) -> Iterator[tuple[int | None, Callable[[], object]]]:
    """As ``_open_below``, and closed at the end unless what comes with it is called."""
    with ExitStack() as unwanted:
        descriptor = _open_below(file.root, file.absolute)
        if descriptor is not None:
            unwanted.callback(os.close, descriptor)
        yield descriptor, unwanted.pop_all


def _read_elsewhere(file: LocalFile) -> bytes | None:
    address = file.absolute
    first, length = 0, None
    if file.in_shard is not None:
        within, shard = _PLACE.match(file.in_shard[0]), _TAR.match(address)
        if within is None or shard is None:
            return None
        address, first, length = shard[1], int(within[1]), int(within[2])
    try:
        if not is_address(file.root):
            return _read_part(file.root, address, first, length or 0)
        size = entry_at(address).size if length is None else length
        return None if size is None or size > LARGEST_PHOTO.most else read_address(address, first, size)
    except (DataError, MissingExtra):
        return None


def _read_part(root: str, path: str, first: int, length: int) -> bytes | None:
    descriptor = _open_below(root, path) if length <= LARGEST_PHOTO.most else None
    if descriptor is None:
        return None
    try:
        return os.pread(descriptor, length, first)
    except OSError:
        return None
    finally:
        os.close(descriptor)


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
