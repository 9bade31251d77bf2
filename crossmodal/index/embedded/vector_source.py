"""The vectors that a search index follows: those of one modality, or one shard of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import StoreDamaged
from crossmodal.index.embedded.dialect import Connected, Connection
from crossmodal.index.embedded.meta import State, read_dimension, read_meta, read_state
from crossmodal.index.embedded.schema import vector_table
from crossmodal.index.embedded.scores import shard_of
from crossmodal.index.embedded.stored_document import checksum
from crossmodal.index.embedded.tags import Condition, rows_that_match
from crossmodal.records import Modality

__all__ = ["VectorBlock", "VectorSnapshot", "VectorSource", "read_blocks"]

# Rows that are read at once: 2 MiB at 512 dimensions.
_BLOCK_ROWS = 1024


@dataclass(frozen=True, slots=True)
class VectorBlock:
    """Rows of vectors: ``rows`` uint64 (n,) ascending, n ``ids``, ``vectors`` float32 (n, dimension).

    ``hubness`` float32 (n,) is that of each document, 0 in an index without banks.
    """

    rows: NDArray[np.uint64]
    ids: Sequence[str]
    vectors: NDArray[np.float32]
    hubness: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class VectorSource:
    """The vectors of ``modality`` in one index, or of them shard number ``shard`` of ``shards``."""

    connections: Connected
    modality: Modality
    shard: int = 0
    shards: int = 1

    @property
    def folder(self) -> Path:
        """The folder of the index."""
        return self.connections.folder

    @property
    def sequence(self) -> int:
        """The number of commits that the index has seen."""
        with self.connections.read(once=True) as connection:
            return read_state(connection).sequence

    @contextmanager
    def snapshot(self) -> Iterator[VectorSnapshot]:
        """Everything as of one commit."""
        with self.connections.read() as connection:
            (vectors,) = connection.execute(
                "SELECT vectors FROM counts WHERE modality = ?", (self.modality,)
            ).fetchone()
            yield VectorSnapshot(
                self,
                str(read_meta(connection, "id")),
                connection,
                read_state(connection),
                vectors // self.shards,
                read_dimension(connection),
            )


@dataclass(frozen=True, slots=True)
class VectorSnapshot:
    """A source as of one commit; usable inside ``VectorSource.snapshot`` only.

    ``store_id`` differs for an index that was made later in the same folder. ``count`` is the number of
    vectors, estimated where there are several shards.
    """

    source: VectorSource
    store_id: str
    connection: Connection
    _state: State
    count: int
    dimension: int | None

    @property
    def sequence(self) -> int:
        """The number of the commit."""
        return self._state.sequence

    @property
    def next_row(self) -> int:
        """Rows are numbered below this."""
        return self._state.next_row

    def blocks(self, first_row: int = 0) -> Iterator[VectorBlock]:
        """The rows from ``first_row`` on, ascending; raises ``StoreDamaged`` at a damaged one."""
        source = self.source
        for block in read_blocks(self.connection, source.modality, first_row, self.dimension):
            if source.shards == 1:
                yield block
                continue
            mine = [shard_of(id, source.shards) == source.shard for id in block.ids]
            if any(mine):
                ids = [id for id, kept in zip(block.ids, mine, strict=True) if kept]
                yield VectorBlock(block.rows[mine], ids, block.vectors[mine], block.hubness[mine])

    def rows_added(self, first_row: int) -> int:
        """How many rows there are from ``first_row`` on, of all shards."""
        table = vector_table(self.source.modality)
        (count,) = self.connection.execute(
            f"SELECT count(*) FROM {table} WHERE row >= ?", (first_row,)
        ).fetchone()
        return int(count)

    def rows_removed(self, sequence: int) -> NDArray[np.uint64] | None:
        """The rows, of any modality, that went after the commit ``sequence``; None if that is too
        long ago to know, so that everything has to be loaded."""
        if not self._state.tombstones_from <= sequence <= self.sequence:
            return None
        found = self.connection.execute("SELECT row FROM tombstones WHERE sequence > ?", (sequence,))
        return np.fromiter((row for (row,) in found), np.uint64)

    def matching(self, condition: Condition) -> NDArray[np.uint64]:
        """The rows, of any shard, whose tags fulfil ``condition``; in no order, some more than once."""
        found = rows_that_match(self.connection, self.source.modality, condition)
        return np.fromiter(found, np.uint64)


def read_blocks(
    connection: Connection, modality: Modality, first_row: int, dimension: int | None
) -> Iterator[VectorBlock]:
    """The vectors of ``modality`` from ``first_row`` on; raises ``StoreDamaged`` at a damaged one."""
    # Block by block: a server's answer lies in memory as a whole.
    select = (
        f"SELECT row, id, vector, checksum, hubness FROM {vector_table(modality)} WHERE row >= ?"
        f" ORDER BY row LIMIT {_BLOCK_ROWS}"
    )
    length = 4 * (dimension or 0)
    while part := connection.execute(select, (first_row,)).fetchall():
        for row, id, vector, known, _ in part:
            if len(vector) != length or checksum(vector, row) != known:
                raise StoreDamaged("vector", id, row, modality=modality)
        yield VectorBlock(
            np.array([row for row, *_ in part], np.uint64),
            [id for _, id, *_ in part],
            np.frombuffer(b"".join([vector for _, _, vector, *_ in part]), "<f4").reshape(len(part), -1),
            np.array([hubness for *_, hubness in part], np.float32),
        )
        first_row = part[-1][0] + 1
