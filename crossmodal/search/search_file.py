"""The derived file beside a store: all its vectors in one piece, as of one commit.

It starts with a magic number, the checksum of all that follows and the length of a JSON header (store,
sequence number, count, dimension, next row), then come the row numbers, the ids as a JSON list and
the matrix. Losing it costs time only.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import StoreFormat

__all__ = ["SearchFile", "SearchFileContent"]

_MAGIC = b"XMSEARCH"
_VERSION = 1
# magic, version, CRC-32 of the next number and all that follows, bytes of the JSON header
_PREFIX = struct.Struct("<8sIII")
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class SearchFileContent:
    """What ``SearchFile`` keeps: rows uint64 (n,), ids, vectors float32 (n, dimension), their source."""

    store_id: str
    sequence: int
    next_row: int
    rows: NDArray[np.uint64]
    ids: Sequence[str]
    vectors: NDArray[np.float32]


class SearchFile:
    """The file at ``path``: replaced as a whole (temporary file, fsync, rename), read only if it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, content: SearchFileContent) -> bool:
        """Replace the file; False if another process is doing so. Raises OSError and leaves the old file."""
        temporary = self.path.with_name(self.path.name + ".tmp")
        with _exclusive(temporary) as descriptor:
            if descriptor is None:
                return False
            try:
                os.ftruncate(descriptor, 0)
                offset = _PREFIX.size
                header, parts = _parts(content)
                checksum = _checksum_of_length(header)
                for part in parts:
                    for chunk in _chunks(part):
                        checksum = zlib.crc32(chunk, checksum)
                        offset += _write_all(descriptor, chunk, offset)
                _write_all(descriptor, _PREFIX.pack(_MAGIC, _VERSION, checksum, header), 0)
                os.fsync(descriptor)
                temporary.replace(self.path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return True

    def read(self) -> SearchFileContent:
        """The content. Raises ``StoreFormat`` (damaged, or another version), FileNotFoundError or OSError."""
        with self.path.open("rb") as file:
            prefix = file.read(_PREFIX.size)
            if len(prefix) < _PREFIX.size or not prefix.startswith(_MAGIC):
                raise StoreFormat(f"{self.path} is not a search file")
            _, version, expected, header_length = _PREFIX.unpack(prefix)
            if version != _VERSION:
                raise StoreFormat(f"{self.path} has version {version}, this program knows version {_VERSION}")
            body = np.fromfile(file, np.uint8)
        checksum = _checksum_of_length(header_length)
        for chunk in _chunks(body.data):
            checksum = zlib.crc32(chunk, checksum)
        if checksum != expected:
            raise StoreFormat(f"{self.path} does not match its checksum")
        header = json.loads(body[:header_length].tobytes())
        count, dimension = header["count"], header["dimension"]
        ids_start = header_length + 8 * count
        vectors_start = ids_start + header["ids_bytes"]
        return SearchFileContent(
            store_id=header["store"],
            sequence=header["sequence"],
            next_row=header["next_row"],
            rows=np.frombuffer(body, "<u8", count, header_length),
            ids=json.loads(body[ids_start:vectors_start].tobytes()),
            vectors=np.frombuffer(body, "<f4", count * dimension, vectors_start).reshape(count, dimension),
        )


def _parts(content: SearchFileContent) -> tuple[int, list[memoryview]]:
    """The length of the header, and the header, rows, ids and vectors, each padded to whole 16 bytes."""
    ids = _padded(json.dumps(list(content.ids), separators=(",", ":")), 8 * len(content.ids))
    count, dimension = content.vectors.shape
    header = _padded(
        json.dumps(
            {
                "store": content.store_id,
                "sequence": content.sequence,
                "next_row": content.next_row,
                "count": count,
                "dimension": dimension,
                "ids_bytes": len(ids),
            }
        ),
        0,
    )
    rows = np.ascontiguousarray(content.rows, "<u8").tobytes()
    vectors = np.ascontiguousarray(content.vectors, "<f4").reshape(-1).view(np.uint8)
    return len(header), [memoryview(header), memoryview(rows), memoryview(ids), vectors.data]


def _checksum_of_length(header_length: int) -> int:
    return zlib.crc32(header_length.to_bytes(4, "little"))


def _padded(text: str, before: int) -> bytes:
    encoded = text.encode()
    return encoded + b" " * (-(before + len(encoded)) % 16)


def _chunks(part: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(part), _CHUNK_BYTES):
        yield part[start : start + _CHUNK_BYTES]


def _write_all(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)
    return written


@contextmanager
def _exclusive(path: Path) -> Iterator[int | None]:
    """A descriptor of ``path`` that this process alone writes; None if another has it.

    A file left by a killed process is taken over: its lock ended with it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            # The file may have been renamed into place by its former holder between open and lock.
            try:
                current = path.stat().st_ino == os.fstat(descriptor).st_ino
            except FileNotFoundError:
                current = False
            if current:
                yield descriptor
                return
        finally:
            os.close(descriptor)
