"""The derived file with all vectors of a store in one piece, as of one commit, to be mapped into memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import StoreFormat
from crossmodal.index.embedded.compared import EXTRA, compared
from crossmodal.index.embedded.derived_file import (
    VECTORS,
    VECTORS_MAGIC,
    DerivedFile,
    derived_path,
    remove_other_shards,
    shards_in_use,
)
from crossmodal.index.embedded.row_view import IdList, RowSegment, encode_ids
from crossmodal.index.embedded.scores import longest
from crossmodal.index.embedded.vector_source import VectorSnapshot, VectorSource
from crossmodal.records import MODALITIES

if TYPE_CHECKING:
    from crossmodal.index.embedded.store import EmbeddedStore

__all__ = [
    "FileState",
    "SearchFile",
    "SearchFileContent",
    "SearchFileSource",
    "save_all_vectors",
    "save_vectors",
]

_logger = logging.getLogger(__name__)

# Changes that an index reads from the store when it is opened, rather than writing all vectors once more.
_SHARE_LEFT = 1 / 32


@dataclass(frozen=True, slots=True)
class SearchFileSource:
    """Of which store and commit a search file is, and how many vectors it holds."""

    store_id: str
    sequence: int
    next_row: int
    count: int


@dataclass(frozen=True, slots=True)
class SearchFileContent:
    """What ``SearchFile`` keeps: the rows, mapped; an upper bound of the vectors' lengths; their source."""

    source: SearchFileSource
    segment: RowSegment
    longest: float


@dataclass(frozen=True, slots=True)
class FileState:
    """What changes where a file is altered in place (size and time of change) or replaced (its number)."""

    number: tuple[int, int]
    size: int
    changed_ns: int


class SearchFile:
    """The search file at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = DerivedFile(path, *VECTORS_MAGIC)

    def write(self, snapshot: VectorSnapshot) -> bool:
        """Replace the file by what ``snapshot`` holds, block by block, so that memory doesn't grow with it.

        False if another process is doing so. Raises OSError and leaves the old file.
        """
        header: dict[str, Any] = {
            "store": snapshot.store_id,
            "sequence": snapshot.sequence,
            "next_row": snapshot.next_row,
            "longest": 0.0,
        }
        rows = [np.empty(0, np.uint64)]
        texts, lengths = [np.empty(0, np.uint8)], [np.empty(0, np.uint64)]

        def vectors() -> Iterator[NDArray[np.float32]]:
            yield np.empty((0, (snapshot.dimension or 1) + EXTRA), np.float32)
            for block in snapshot.blocks():
                rows.append(block.rows.astype(np.uint64))
                text, length = encode_ids(block.ids)
                texts.append(text)
                lengths.append(length)
                content = compared(block.vectors, block.hubness)
                header["longest"] = max(header["longest"], longest(content))
                yield content

        def ends() -> Iterator[NDArray[np.uint64]]:
            yield np.cumsum(np.concatenate(lengths), dtype=np.uint64)

        return self._file.write(
            [("vectors", vectors()), ("rows", rows), ("id_ends", ends()), ("id_text", texts)], header
        )

    def save(self, snapshot: VectorSnapshot) -> bool:
        """As ``write``, but False, with a warning, where that is impossible.

        A full or read-only disk is no error: the file only saves time and memory when the index is opened.
        """
        try:
            return self.write(snapshot)
        except OSError as error:
            _logger.warning("%s is not saved (%s); the index works without it.", self.path, error)
            return False

    def source(self) -> SearchFileSource | None:
        """What the file says that it holds, without checking it; None if there is none that can be read."""
        try:
            return _source(self._file.header())
        except (StoreFormat, OSError, KeyError, ValueError):
            # The header is read without the checksum, so a damaged one may lack a name or an array.
            return None

    def read(self) -> SearchFileContent:
        """The content. Raises ``StoreFormat`` (damaged, or another version), FileNotFoundError or OSError."""
        header, arrays = self._file.read()
        ids = IdList(arrays["id_ends"], arrays["id_text"])
        return SearchFileContent(
            _source(header), RowSegment(arrays["rows"], ids, arrays["vectors"]), header["longest"]
        )

    def state(self) -> FileState | None:
        """The state of the file now; None where it isn't there."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return FileState((found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns)

    def remove(self) -> None:
        """Deletes the file, if that is possible: each opening would warn of a damaged one."""
        with suppress(OSError):
            self.path.unlink()


def _source(header: dict[str, Any]) -> SearchFileSource:
    (rows,) = (array for array in header["arrays"] if array["name"] == "rows")
    return SearchFileSource(header["store"], header["sequence"], header["next_row"], rows["shape"][0])


def save_vectors(source: VectorSource) -> bool:
    """Write the file of a source's vectors, if it is missing or has fallen far behind.

    Nothing is loaded for it. Returns as ``SearchFile.save``.
    """
    file = SearchFile(derived_path(source, VECTORS))
    with source.snapshot() as snapshot:
        known = file.source()
        if known is not None and known.store_id == snapshot.store_id:
            removed = snapshot.rows_removed(known.sequence)
            if removed is not None:
                changed = snapshot.rows_added(known.next_row) + len(removed)
                if changed <= _SHARE_LEFT * known.count * source.shards:
                    return True
        return file.save(snapshot)


def save_all_vectors(store: EmbeddedStore, shards: int) -> None:
    """Writes the files of all vectors of an index, for as many shards as searches last had.

    Where nothing was searched yet, for ``shards``. Those of another number of shards are removed.
    """
    for modality in MODALITIES:
        number = shards_in_use(store.path, modality) or shards
        remove_other_shards(store.path, modality, number)
        for shard in range(number):
            save_vectors(store.vector_source(modality, shard, number))
