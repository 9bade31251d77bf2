"""A file of arrays that is derived from a store: replaced as a whole, and used only if it is whole.

It starts with a magic number, a version, the checksum (XXH3, 64 bits) of all that follows the prefix, and
the place and length of a JSON header at its end, which names the arrays and says whatever else belongs to
them. Losing such a file costs time only.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from crossmodal.errors import StoreFormat
from crossmodal.index.embedded.connections import sync_folder
from crossmodal.index.embedded.vector_source import VectorSource
from crossmodal.private_files import PRIVATE_FILE
from crossmodal.records import Modality

__all__ = [
    "CODES",
    "VECTORS",
    "VECTORS_MAGIC",
    "DerivedFile",
    "codes_file",
    "damaged_files",
    "derived_path",
    "remove_other_shards",
    "shards_in_use",
    "stored_tier",
]

# magic, version, nothing, checksum of all that follows, place and bytes of the header
_PREFIX = struct.Struct("<8sIIQQQ")

# Arrays start at multiples of a cache line.
_ALIGNMENT = 64

_CHUNK_BYTES = 1 << 24


# The kinds of derived files, as the ends of their names.
VECTORS, CODES = "vectors", "codes"

# What each begins with, and the version of what its arrays mean.
VECTORS_MAGIC = b"XMSEARCH", 3
CODES_MAGIC = b"XMVCODES", 2

_FOLDER = "derived"


def derived_path(source: VectorSource, kind: str) -> Path:
    """Where the derived file of one kind lies for a source: ``derived/image.0-of-1.vectors``.

    Deleting the folder costs time only.
    """
    return source.folder / _FOLDER / f"{source.modality}.{source.shard}-of-{source.shards}.{kind}"


def shards_in_use(folder: Path, modality: Modality) -> int | None:
    """Into how many shards the last searches were divided for which there are derived files; None without."""
    newest = max(_paths(folder, modality), key=_written_at, default=None)
    return None if newest is None else _shards_of(newest)


def remove_other_shards(folder: Path, modality: Modality, shards: int) -> None:
    """Remove the derived files of searches that are divided into another number of ``shards``."""
    for path in _paths(folder, modality):
        if _shards_of(path) != shards:
            path.unlink(missing_ok=True)


def damaged_files(folder: Path) -> list[str]:
    """The derived files of the index in ``folder`` that don't match their checksums, as paths in it."""
    damaged = []
    for path in sorted((folder / _FOLDER).glob("*-of-*.*")):
        magic = {f".{VECTORS}": VECTORS_MAGIC, f".{CODES}": CODES_MAGIC}.get(path.suffix)
        if magic is None:
            continue
        try:
            DerivedFile(path, *magic).read()
        except (StoreFormat, OSError):
            damaged.append(str(path.relative_to(folder)))
    return damaged


def _paths(folder: Path, modality: Modality) -> list[Path]:
    return [
        path
        for path in (folder / _FOLDER).glob(f"{modality}.*-of-*.*")
        if path.suffix[1:] in (VECTORS, CODES)
    ]


def _shards_of(path: Path) -> int:
    return int(path.stem.rpartition("-of-")[2])


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@dataclass(frozen=True, slots=True)
class DerivedFile:
    """The file at ``path`` with the 8 bytes ``magic`` and a ``version`` of what its arrays mean."""

    path: Path
    magic: bytes
    version: int

    def write(
        self,
        arrays: Iterable[tuple[str, Iterable[NDArray[Any]]]],
        header: Mapping[str, Any],
    ) -> bool:
        """Replace the file by ``arrays``, each a name and its parts, to be joined along the first axis.

        ``header`` is read after the last part, so that a part that is made meanwhile can add to it. False if
        another process writes the file at this moment. Raises OSError and leaves the old file.
        """
        temporary = self.path.with_name(self.path.name + ".tmp")
        self.path.parent.mkdir(exist_ok=True)
        with _exclusive(temporary) as descriptor:
            if descriptor is None:
                return False
            try:
                os.ftruncate(descriptor, 0)
                self._write(descriptor, arrays, header)
                os.fsync(descriptor)
                temporary.replace(self.path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        sync_folder(self.path.parent)
        return True

    def _write(
        self,
        descriptor: int,
        arrays: Iterable[tuple[str, Iterable[NDArray[Any]]]],
        header: Mapping[str, Any],
    ) -> None:
        checksum = xxhash.xxh3_64()
        offset = _PREFIX.size

        def append(data: memoryview | bytes) -> None:
            nonlocal offset
            checksum.update(data)
            offset += _write_all(descriptor, data, offset)

        described = []
        for name, parts in arrays:
            append(bytes(-offset % _ALIGNMENT))
            start, length, like = offset, 0, None
            for part in parts:
                like = np.ascontiguousarray(part, part.dtype.newbyteorder("<"))
                append(like.reshape(-1).view(np.uint8).data)
                length += len(like)
            if like is None:
                raise ValueError(f"the array {name} has no parts, so its type is not known")
            described.append(
                {"name": name, "type": like.dtype.str, "shape": [length, *like.shape[1:]], "start": start}
            )
        header_start = offset
        append(json.dumps({**header, "arrays": described}).encode())
        prefix = _PREFIX.pack(
            self.magic, self.version, 0, checksum.intdigest(), header_start, offset - header_start
        )
        _write_all(descriptor, prefix, 0)

    def header(self) -> dict[str, Any]:
        """What ``read`` gives first, without looking at the arrays or the checksum. Raises as ``read``."""
        with self.path.open("rb") as file:
            _, start, length = self._prefix(file)
            file.seek(start)
            return self._decoded(file.read(length))

    def read(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The header, and the arrays by name, mapped into memory and not writable.

        Everything is read once, for the checksum. Raises ``StoreFormat`` (damaged, or another version),
        FileNotFoundError or OSError.
        """
        with self.path.open("rb") as file:
            checksum, start, length = self._prefix(file)
            # The mapping stays when the file is replaced: it belongs to what was opened here.
            everything = np.memmap(file, np.uint8, "r").view(np.ndarray)
        found = xxhash.xxh3_64()
        for first in range(_PREFIX.size, len(everything), _CHUNK_BYTES):
            found.update(everything[first : first + _CHUNK_BYTES].data)
        if found.intdigest() != checksum:
            raise StoreFormat(f"{self.path} does not match its checksum")
        header = self._decoded(everything[start : start + length].tobytes())
        arrays = {}
        for array in header["arrays"]:
            count = int(np.prod(array["shape"], dtype=np.int64))
            flat = np.frombuffer(everything.data, array["type"], count, array["start"])
            arrays[array["name"]] = flat.reshape(array["shape"])
        return header, arrays

    def _prefix(self, file: BinaryIO) -> tuple[int, int, int]:
        """The checksum, and the place and length of the header, which ends the file."""
        prefix = file.read(_PREFIX.size)
        if len(prefix) < _PREFIX.size or not prefix.startswith(self.magic):
            raise StoreFormat(f"{self.path} is not a file of the kind {self.magic.decode()}")
        _, version, nothing, checksum, start, length = _PREFIX.unpack(prefix)
        if version != self.version or nothing:
            raise StoreFormat(f"{self.path} has version {version}, this program knows version {self.version}")
        if start + length != os.fstat(file.fileno()).st_size:
            raise StoreFormat(f"{self.path} is not as long as it says")
        return checksum, start, length

    def _decoded(self, text: bytes) -> dict[str, Any]:
        try:
            header: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise StoreFormat(f"{self.path} has no header that can be read") from error
        return header


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
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
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


_EXACT_TIER = {"tier": "exact", "recall": 1.0, "recall_measured": "every vector is compared"}


def codes_file(path: Path) -> DerivedFile:
    """The file of codes at ``path``."""
    return DerivedFile(path, *CODES_MAGIC)


def stored_tier(folder: Path, modality: Modality, store_id: str) -> dict[str, Any]:
    """How searches in the index ``store_id`` in ``folder`` are answered by the codes stored beside it.

    Keys: ``tier``, ``recall`` (in [0, 1], None if unknown) and ``recall_measured`` (how), as JSON values; of
    several shards the worst. Without codes that can be used searches are exact, until a
    server has made some.
    """
    tiers = []
    shards = shards_in_use(folder, modality)
    for path in (folder / _FOLDER).glob(f"{modality}.*-of-{shards}.{CODES}"):
        # The header is read without the checksum, so a damaged one may lack a name.
        with suppress(StoreFormat, OSError, KeyError):
            header = codes_file(path).header()
            if header["store"] == store_id:
                tiers.append({name: header[name] for name in _EXACT_TIER})
    return min(tiers, key=lambda stored: stored["recall"] or 0.0, default=dict(_EXACT_TIER))
