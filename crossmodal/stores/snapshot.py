"""The vectors of a store as of one commit, for an index in memory to load or to follow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import StoreFormat
from crossmodal.records import Record
from crossmodal.stores.blocks import VectorBlock
from crossmodal.stores.environment import Environment
from crossmodal.stores.keys import pack_number
from crossmodal.stores.reading import read_document, walk_documents
from crossmodal.stores.row_blocks import RowBlocks

__all__ = ["VectorSnapshot"]


@dataclass(frozen=True, slots=True)
class VectorSnapshot:
    """The vectors of a store as of one commit, ``sequence``; usable inside ``Store.vector_snapshot`` only.

    ``store_id`` tells this store from one made later in the same folder; ``count`` is the number of living
    vectors, and rows are numbered below ``next_row``.
    """

    store_id: str
    sequence: int
    next_row: int
    count: int
    dimension: int | None
    _rows: RowBlocks
    _environment: Environment
    _transaction: Any
    _pruned: int

    def blocks(self, first_row: int = 0) -> Iterator[VectorBlock]:
        """The living rows from ``first_row`` on, ascending; copy the arrays to keep them."""
        return self._rows.live(first_row)

    def documents(self, first_row: int = 0) -> Iterator[tuple[int, Record]]:
        """The living rows from ``first_row`` on with their records, without bytes, in no particular order.

        Raises ``StoreFormat`` if a document is damaged or missing.
        """
        if first_row > 0:
            for block in self.blocks(first_row):
                for id, row in zip(block.ids, block.rows.tolist(), strict=True):
                    document = read_document(self._environment, self._transaction, id)
                    if document is None or document.row != row:
                        raise StoreFormat(f"row {row} belongs to {id!r}, which has another row or none")
                    yield row, document.record
            return
        # All of them: one walk over the documents, without reading any vector.
        for document in walk_documents(self._environment, self._transaction):
            if document.row is not None:
                yield document.row, document.record

    def deaths_after(self, sequence: int) -> NDArray[np.uint64] | None:
        """The rows that died after ``sequence``; None if that is too long ago to tell: load everything."""
        if sequence < self._pruned or sequence > self.sequence:
            return None
        with self._transaction.cursor(self._environment.databases["deaths"]) as cursor:
            if not cursor.set_range(pack_number(sequence + 1)):
                return np.empty(0, np.uint64)
            died = [np.frombuffer(bytes(value), "<u8") for value in cursor.iternext(keys=False, values=True)]
        return np.concatenate(died)
