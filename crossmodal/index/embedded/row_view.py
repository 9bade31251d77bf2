"""The vectors of a store as of one commit, as all searches see them: never changed, only replaced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["IdList", "RowSegment", "RowView", "encode_ids"]


@dataclass(frozen=True, slots=True, eq=False)
class IdList:
    """A list of n ids: ``ends`` uint64 (n,), where each one ends in ``text`` uint8 (bytes,), UTF-8.

    A Python string takes some 50 bytes more than its characters and its place in a list 8.
    """

    ends: NDArray[np.uint64]
    text: NDArray[np.uint8]

    @classmethod
    def of(cls, ids: Sequence[str]) -> IdList:
        """The list of ``ids``."""
        text, lengths = encode_ids(ids)
        return cls(np.cumsum(lengths, dtype=np.uint64), text)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, position: int) -> str:
        if position < 0 or position >= len(self.ends):
            raise IndexError(f"{position} is no position in a list of {len(self.ends)} ids")
        start = int(self.ends[position - 1]) if position else 0
        return self.text[start : int(self.ends[position])].tobytes().decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[position] for position in range(len(self)))

    def take(self, positions: NDArray[np.integer]) -> list[str]:
        """The ids at ``positions`` (n,), which must be places in this list."""
        if not len(positions):
            return []
        starts = np.where(positions > 0, self.ends[positions - 1], np.uint64(0)).tolist()
        return [
            self.text[start:end].tobytes().decode("utf-8", "surrogatepass")
            for start, end in zip(starts, self.ends[positions].tolist(), strict=True)
        ]


def encode_ids(ids: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """The bytes of all ``ids`` in one piece, and the length of each one in bytes: uint64 (n,)."""
    encoded = [id.encode("utf-8", "surrogatepass") for id in ids]
    return np.frombuffer(b"".join(encoded), np.uint8), np.array([len(id) for id in encoded], np.uint64)


_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class RowSegment:
    """Rows in one piece: their numbers, uint64 (n,) ascending, ids, and what is compared of them.

    ``vectors`` float32 (n, dimension + EXTRA) are those of ``compared.compared``.
    """

    rows: NDArray[np.uint64]
    ids: IdList
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, rows: NDArray[np.uint64]) -> NDArray[np.intp]:
        """The place of each of ``rows`` (m,) in this segment, or -1 where it isn't here: (m,)."""
        if not len(self):
            return np.full(len(rows), -1, np.intp)
        first, last = int(self.rows[0]), int(self.rows[-1])
        if last - first == len(self) - 1:
            # No number is left out.
            places = rows.astype(np.intp) - first
            places[(places < 0) | (places >= len(self))] = -1
            return places
        places = np.minimum(np.searchsorted(self.rows, rows), len(self) - 1)
        places[self.rows[places] != rows] = -1
        return places


@dataclass(frozen=True, eq=False)
class RowView:
    """Two segments, a large one (``base``, usually mapped from a file) and what came later (``tail``).

    A position counts the rows of the base, then those of the tail; row numbers ascend with it. ``alive``
    bool (positions,) says which rows the index still has, None for all of them. ``dimension`` is that of the
    documents' vectors, ``longest`` an upper bound of the lengths of what is compared. Safe to use from
    several threads.
    """

    store_id: str
    sequence: int
    next_row: int
    dimension: int | None
    base: RowSegment
    tail: RowSegment
    alive: NDArray[np.bool_] | None
    longest: float

    def __len__(self) -> int:
        """The number of living rows."""
        return self._count

    @cached_property
    def _count(self) -> int:
        return self.positions if self.alive is None else int(np.count_nonzero(self.alive))

    @property
    def positions(self) -> int:
        """The number of rows, dead ones included."""
        return len(self.base) + len(self.tail)

    @property
    def dead(self) -> int:
        """The number of dead rows."""
        return self.positions - len(self)

    @property
    def segments(self) -> tuple[tuple[int, RowSegment], ...]:
        """The position of each segment's first row, and the segment."""
        return (0, self.base), (len(self.base), self.tail)

    @cached_property
    def living(self) -> NDArray[np.intp]:
        """The positions of the living rows, ascending."""
        return np.arange(self.positions) if self.alive is None else np.flatnonzero(self.alive)

    @cached_property
    def living_rows(self) -> NDArray[np.uint64]:
        """The numbers of the living rows, ascending."""
        rows = np.concatenate([self.base.rows, self.tail.rows])
        return rows if self.alive is None else rows[self.alive]

    def find(self, rows: NDArray[np.uint64]) -> NDArray[np.intp]:
        """The position of each of ``rows`` (m,), or -1 where it isn't here or not alive: (m,)."""
        found = self.base.find(rows)
        if len(self.tail):
            later = self.tail.find(rows)
            found = np.where(later >= 0, later + len(self.base), found)
        if self.alive is not None:
            here = np.flatnonzero(found >= 0)
            found[here[~self.alive[found[here]]]] = -1
        return found

    def position_of(self, row: int) -> int:
        """The position of the first row that is numbered ``row`` or higher."""
        first, segment = self.segments[1]
        if not len(segment) or row <= segment.rows[0]:
            first, segment = self.segments[0]
        return first + int(np.searchsorted(segment.rows, np.uint64(row)))

    def parts(self, position: int = 0) -> Iterator[NDArray[np.float32]]:
        """What is compared of the living rows from ``position`` on, in their order, some at a time."""
        for first, segment in self.segments:
            for start in range(max(position - first, 0), len(segment), _ROWS_AT_ONCE):
                stop = min(start + _ROWS_AT_ONCE, len(segment))
                vectors = segment.vectors[start:stop]
                yield vectors if self.alive is None else vectors[self.alive[first + start : first + stop]]

    def living_below(self, position: int) -> int:
        """The number of living rows before ``position``."""
        return position if self.alive is None else int(np.count_nonzero(self.alive[:position]))

    def vectors(self, positions: NDArray[np.integer]) -> NDArray[np.float32]:
        """A copy of what is compared of ``positions`` (m,): float32 (m, dimension + EXTRA)."""
        in_tail = positions >= len(self.base)
        found: NDArray[np.float32]
        if not in_tail.any():
            found = self.base.vectors[positions]
        elif in_tail.all():
            found = self.tail.vectors[positions - len(self.base)]
        else:
            found = np.empty((len(positions), self.base.vectors.shape[1]), np.float32)
            found[~in_tail] = self.base.vectors[positions[~in_tail]]
            found[in_tail] = self.tail.vectors[positions[in_tail] - len(self.base)]
        return found

    def ids(self, positions: NDArray[np.integer]) -> list[str]:
        """The ids at ``positions``."""
        in_tail = positions >= len(self.base)
        if not in_tail.any():
            return self.base.ids.take(positions)
        return [
            self.tail.ids[place - len(self.base)] if later else self.base.ids[place]
            for place, later in zip(positions.tolist(), in_tail.tolist(), strict=True)
        ]
