"""Photos that are named one by one: a path, or a list of paths in a stream such as stdin."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from crossmodal.data_sets.data_set import DataSet
from crossmodal.data_sets.mentions import Limits, Mention
from crossmodal.data_sets.photos import resolve
from crossmodal.errors import DataError, DataSetError
from crossmodal.limits import URI
from crossmodal.records import Failure

__all__ = ["ListOfPhotos", "NamedPhotos", "OnePhoto"]

_CHUNK_BYTES = 1 << 16


class OnePhoto(DataSet):
    """One photo, whatever its name."""

    def __init__(self, name: str, path: Path, *, limits: Limits, content: bool) -> None:
        super().__init__(name, f"photo {path}", limits, content)
        self.path = os.path.abspath(path)  # noqa: PTH100  (keeps symlinks)

    def mentions(self) -> Iterator[Mention | Failure]:
        yield Mention(self.path, self.path)

    def len_hint(self) -> int | None:
        return 1


class NamedPhotos(DataSet):
    """Photos at absolute paths."""

    def __init__(self, paths: Sequence[str], *, limits: Limits) -> None:
        super().__init__("photos", "photos by their paths", limits, content=True)
        self._paths = paths

    def mentions(self) -> Iterator[Mention | Failure]:
        for path in self._paths:
            yield Mention(path, path)

    def len_hint(self) -> int | None:
        return len(self._paths)


class ListOfPhotos(DataSet):
    """The photos that a stream lists, one path a line, or each with a zero byte behind it (``zeros``).

    Relative paths start at the current folder. Photos are read while the list still comes, so that it can be
    read once: iterating again raises DataSetError, and so does reading where that fails. Empty lines are
    passed over.
    """

    def __init__(self, name: str, stream: BinaryIO, *, zeros: bool, limits: Limits, content: bool) -> None:
        super().__init__(name, "list of photos", limits, content)
        self._folder = Path.cwd()
        self._stream: BinaryIO | None = stream
        self._zeros = zeros

    def mentions(self) -> Iterator[Mention | Failure]:
        if self._stream is None:
            raise DataSetError(f"The list of photos in {self.name} was read already; it can be read once.")
        stream, self._stream = self._stream, None
        unit = "path" if self._zeros else "line"
        for number, entry in enumerate(_entries(stream, b"\0" if self._zeros else b"\n"), start=1):
            path = entry if self._zeros else entry.removesuffix(b"\r")
            where = f"{self.name}, {unit} {number}"
            if not path.strip():
                continue
            if len(path) > URI.most:
                shown = os.fsdecode(path[:100])
                yield Failure(where, f"{shown}... has more than {URI.most:,} bytes, and no path has")
                continue
            try:
                yield Mention(resolve(os.fsdecode(path), [self._folder]), where)
            except DataError as error:
                yield Failure(where, str(error))

    def len_hint(self) -> int | None:
        return None


def _entries(stream: BinaryIO, separator: bytes) -> Iterator[bytes]:
    """What stands between the separators; of an endless entry so much that it is seen to be too long."""
    held = b""
    read = getattr(stream, "read1", stream.read)
    try:
        while chunk := read(_CHUNK_BYTES):
            *whole, held = (held + chunk).split(separator)
            yield from whole
            # The rest of a path that is too long is not kept.
            held = held[: URI.most + 1]
    except OSError as error:
        raise DataSetError(f"The list of photos cannot be read: {error.strerror}.") from None
    if held:
        yield held
