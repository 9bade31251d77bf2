"""Adds rows to, removes rows from, and reads the vector blocks of a store inside a transaction.

Short blocks are merged as the carries of a binary counter: a new one swallows the last one while that
is not longer, until it has ``FULL_ROWS``. So a vector is rewritten at most 6 times however small the
batches are, one of a batch of ``FULL_ROWS`` never, and reading meets few short blocks. Rows that
are dead stay until half of their block is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import StoreFormat
from crossmodal.stores.blocks import VectorBlock, block_length, decode_block, encode_block, join_blocks
from crossmodal.stores.environment import Environment
from crossmodal.stores.keys import pack_number, unpack_number

__all__ = ["BLOCK_ROWS", "FULL_ROWS", "RowBlocks"]

# 256 rows of 512 dimensions are 512 KiB.
BLOCK_ROWS = 256

# A block of this many rows is not rewritten to join others: at 512 dimensions, 128 KiB, a longer one is
# hardly read faster.
FULL_ROWS = 64


class RowBlocks:
    """The trees ``blocks`` and ``dead`` of one environment as one transaction sees them."""

    def __init__(self, environment: Environment, transaction: Any) -> None:
        self._transaction = transaction
        self._blocks = environment.databases["blocks"]
        self._dead = environment.databases["dead"]

    def append(self, first_row: int, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Store ``vectors`` (n, dimension) as the rows from ``first_row`` on."""
        rows = np.arange(first_row, first_row + len(ids), dtype=np.uint64)
        block = VectorBlock(rows, ids, vectors)
        with self._transaction.cursor(self._blocks) as cursor:
            while cursor.last():
                length = block_length(cursor.value())
                if length >= FULL_ROWS or length > len(block):
                    break
                block = join_blocks([decode_block(cursor.value()), block])
                cursor.delete()
        for start in range(0, len(block), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            self._write(VectorBlock(block.rows[part], block.ids[part], block.vectors[part]))

    def bury(self, rows: Sequence[int]) -> None:
        """Mark ``rows`` as dead, and rewrite the blocks of which half is dead without them."""
        for row in rows:
            self._transaction.put(pack_number(row), b"", db=self._dead)
        cleaned = -1
        for row in sorted(rows):
            if row <= cleaned:
                continue
            with self._transaction.cursor(self._blocks) as cursor:
                if not self._seek(cursor, row):
                    continue
                block = decode_block(cursor.value())
                cleaned = int(block.rows[-1])
                dead = self.dead_rows(int(block.rows[0]), cleaned)
                if 2 * len(dead) < len(block):
                    continue
                alive = block.keep(~np.isin(block.rows, dead))
                cursor.delete()
            if len(alive):
                self._write(alive)
            for number in dead.tolist():
                self._transaction.delete(pack_number(number), db=self._dead)

    def dead_rows(self, first: int = 0, last: int | None = None) -> NDArray[np.uint64]:
        """The dead rows from ``first`` to ``last`` (both included) that are still in a block, ascending."""
        found = []
        with self._transaction.cursor(self._dead) as cursor:
            if cursor.set_range(pack_number(first)):
                for key in cursor.iternext(keys=True, values=False):
                    row = unpack_number(key)
                    if last is not None and row > last:
                        break
                    found.append(row)
        return np.array(found, dtype=np.uint64)

    def read(self, rows: Iterable[int]) -> dict[int, NDArray[np.float32]]:
        """The vector of each of ``rows``, float32 (dimension,); raises ``StoreFormat`` if one is missing."""
        found: dict[int, NDArray[np.float32]] = {}
        place: dict[int, int] = {}
        block: VectorBlock | None = None
        with self._transaction.cursor(self._blocks) as cursor:
            for row in sorted(rows):
                if row not in place and self._seek(cursor, row):
                    block = decode_block(cursor.value())
                    place = {number: position for position, number in enumerate(block.rows.tolist())}
                if block is None or row not in place:
                    raise StoreFormat(f"the vector in row {row} is missing")
                found[row] = block.vectors[place[row]].copy()
        return found

    def live(self, first_row: int = 0) -> Iterator[VectorBlock]:
        """The living rows from ``first_row`` on, ascending; the arrays are views into the transaction."""
        dead = self.dead_rows(first_row)
        for block in self.every(first_row):
            mask = block.rows >= first_row
            if len(dead):
                start, stop = np.searchsorted(dead, (block.rows[0], block.rows[-1] + np.uint64(1)))
                mask &= ~np.isin(block.rows, dead[start:stop])
            if mask.all():
                yield block
            elif mask.any():
                yield block.keep(mask)

    def every(self, first_row: int = 0) -> Iterator[VectorBlock]:
        """The blocks as stored, dead rows included, from the one that holds ``first_row`` on."""
        with self._transaction.cursor(self._blocks) as cursor:
            if self._seek(cursor, first_row):
                for value in cursor.iternext(keys=False, values=True):
                    block = decode_block(value)
                    if block.rows[-1] >= first_row:
                        yield block

    def _seek(self, cursor: Any, row: int) -> bool:
        """Move ``cursor`` to the block that holds ``row``, or to a neighbour if none does."""
        if cursor.set_range(pack_number(row)):
            return unpack_number(cursor.key()) == row or cursor.prev() or bool(cursor.first())
        return bool(cursor.last())

    def _write(self, block: VectorBlock) -> None:
        self._transaction.put(pack_number(int(block.rows[0])), encode_block(block), db=self._blocks)
