"""Follows a store from commit to commit and keeps a view of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crossmodal.index.embedded.compared import EXTRA, compared
from crossmodal.index.embedded.row_view import IdList, RowSegment, RowView, encode_ids
from crossmodal.index.embedded.scores import longest
from crossmodal.index.embedded.search_file import SearchFileContent
from crossmodal.index.embedded.vector_source import VectorSnapshot

__all__ = ["RowFollower"]

# Below this many dead rows reading everything again is not worth it.
_FEW_DEAD = 1024


class RowFollower:
    """Keeps ``view``; not safe to use from several threads at once, but its views are."""

    view: RowView
    _longest: float

    def __init__(self) -> None:
        self._clear("", None)

    def follow(self, snapshot: VectorSnapshot) -> None:
        """Take over the state of ``snapshot``; of a store that is the same only what changed is read."""
        view = self.view
        if (snapshot.store_id, snapshot.sequence) == (view.store_id, view.sequence):
            return
        removed = snapshot.rows_removed(view.sequence) if snapshot.store_id == view.store_id else None
        if removed is None or snapshot.dimension != view.dimension:
            self._clear(snapshot.store_id, snapshot.dimension)
        elif len(removed):
            self._drop(removed)
            if self.view.dead > max(_FEW_DEAD, 3 * len(self.view)):
                self._clear(snapshot.store_id, snapshot.dimension)
        view = self.view
        self._drop_behind(view.tail)
        if not view.positions:
            self._reserve(snapshot.count)
        for block in snapshot.blocks(view.next_row):
            self._append(block.rows, block.ids, compared(block.vectors, block.hubness))
        tail = self._segment()
        alive = view.alive
        if alive is not None:
            added = len(tail) - len(view.tail)
            alive = np.concatenate([alive, np.ones(added, np.bool_)])
        self.view = replace(
            view,
            sequence=snapshot.sequence,
            next_row=snapshot.next_row,
            tail=tail,
            alive=alive,
            longest=self._longest,
        )

    def adopt(self, content: SearchFileContent) -> None:
        """Let the rows of ``content``, a file of this store, take the place of those in memory.

        What came later stays. Without a view of the same store the view is that of the file.
        """
        view, source = self.view, content.source
        dimension = content.segment.vectors.shape[1] - EXTRA
        if view.store_id != source.store_id:
            self._clear(source.store_id, dimension)
            self._longest = content.longest
            self.view = replace(
                self.view,
                sequence=source.sequence,
                next_row=source.next_row,
                base=content.segment,
                longest=content.longest,
            )
            return
        known = view.find(content.segment.rows) >= 0
        later = view.living[np.searchsorted(view.living, view.position_of(source.next_row)) :]
        sequence, next_row = view.sequence, view.next_row
        self._clear(source.store_id, dimension)
        self._longest = max(content.longest, view.longest)
        self._append(_rows_at(view, later), view.ids(later), view.vectors(later))
        alive = None if known.all() else np.concatenate([known, np.ones(len(later), np.bool_)])
        self.view = replace(
            self.view,
            sequence=sequence,
            next_row=next_row,
            base=content.segment,
            tail=self._segment(),
            alive=alive,
            longest=self._longest,
        )

    def _clear(self, store_id: str, dimension: int | None) -> None:
        self._rows = _GrowingArray(np.uint64)
        self._id_ends = _GrowingArray(np.uint64)
        self._id_text = _GrowingArray(np.uint8)
        self._vectors = _GrowingArray(np.float32, (dimension or 1) + EXTRA)
        self._longest = 0.0
        empty = self._segment()
        self.view = RowView(store_id, -1, 0, dimension, empty, empty, None, 0.0)

    def _reserve(self, count: int) -> None:
        for array in (self._rows, self._id_ends, self._vectors):
            array.reserve(count)

    def _drop_behind(self, tail: RowSegment) -> None:
        """Leave the rows of ``tail`` only: following ends among new ones where a block cannot be read."""
        for array in (self._rows, self._id_ends, self._vectors):
            array.truncate(len(tail))
        self._id_text.truncate(len(tail.ids.text))

    def _append(self, rows: NDArray[np.uint64], ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        text, lengths = encode_ids(ids)
        self._id_ends.extend(np.uint64(len(self._id_text)) + np.cumsum(lengths, dtype=np.uint64))
        self._id_text.extend(text)
        self._rows.extend(rows)
        self._vectors.extend(vectors)
        self._longest = max(self._longest, longest(vectors))

    def _segment(self) -> RowSegment:
        ids = IdList(self._id_ends.array, self._id_text.array)
        return RowSegment(self._rows.array, ids, self._vectors.array)

    def _drop(self, rows: NDArray[np.uint64]) -> None:
        view = self.view
        places = view.find(rows)
        if not (places >= 0).any():
            return  # They were another modality's, or another shard's.
        alive = np.ones(view.positions, np.bool_) if view.alive is None else view.alive.copy()
        alive[places[places >= 0]] = False
        self.view = replace(view, alive=alive)


def _rows_at(view: RowView, positions: NDArray[np.intp]) -> NDArray[np.uint64]:
    return np.concatenate([view.base.rows, view.tail.rows])[positions]


class _GrowingArray:
    """Rows of ``dtype`` (single values, or ``width`` of them each), appended at the end.

    An array that was given out never changes: rows are only written behind it, or into a new buffer.
    """

    def __init__(self, dtype: DTypeLike, width: int | None = None) -> None:
        self._buffer: NDArray[Any] = np.empty((0,) if width is None else (0, width), dtype)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def array(self) -> NDArray[Any]:
        """All rows, without a copy."""
        return self._buffer[: self._length]

    def reserve(self, length: int) -> None:
        """Make room for ``length`` rows at once; growing step by step would copy them again and again."""
        if length > len(self._buffer):
            buffer = np.empty((length, *self._buffer.shape[1:]), self._buffer.dtype)
            buffer[: self._length] = self.array
            self._buffer = buffer

    def extend(self, rows: NDArray[Any]) -> None:
        """Append ``rows``."""
        needed = self._length + len(rows)
        if needed > len(self._buffer):
            self.reserve(max(needed, 3 * len(self._buffer) // 2))
        self._buffer[self._length : needed] = rows
        self._length = needed

    def truncate(self, length: int) -> None:
        """Forget the rows from ``length`` on, none of which may have been given out."""
        self._length = min(length, self._length)
