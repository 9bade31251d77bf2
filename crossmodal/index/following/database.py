"""What a vector database has to do for the follower: a collection of rows, and how far it has come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from crossmodal.index.following.conditions import Wanted

__all__ = ["Found", "Position", "Row", "VectorDatabase"]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a collection has followed an index.

    All rows below ``next_row`` are in it that were alive at the commit ``sequence`` of the index ``store``.
    ``made_with`` are the parameters that the collection was made with.
    """

    store: str
    sequence: int
    next_row: int
    made_with: str

    def to_text(self) -> str:
        """The JSON text that ``from_text`` reads."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Self | None:
        """The reverse of ``to_text``; None for what is none."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Row:
    """What is compared of a document, float32 (dimension + EXTRA,), and what filters compare with.

    ``values`` are the texts of ``conditions.values_of``, ``least`` and ``most`` the smallest and the greatest
    number of each tag that has numbers, by ``conditions.key_of`` it.
    """

    row: int
    vector: NDArray[np.float32]
    values: Sequence[str]
    least: dict[str, float]
    most: dict[str, float]


@dataclass(frozen=True, slots=True)
class Found:
    """The rows nearest to one query, the nearest first, and the inner product that the database gives
    each."""

    rows: Sequence[int]
    products: Sequence[float]


class VectorDatabase(Protocol):
    """One collection; each method raises ``BackendUnavailable`` where the database doesn't answer.

    ``exact``: a search compares all vectors. ``negates``: it can leave out what fulfils a condition.
    ``most``: so many rows can be asked for at once. ``made_with``: see ``Position``. Safe to use from several
    threads.
    """

    exact: bool
    negates: bool
    most: int
    made_with: str

    def position(self) -> Position | None:
        """What ``note`` was given last; None where there is no such collection."""
        ...

    def note(self, position: Position) -> None:
        """Stores the position, after all that was written before."""
        ...

    def reset(self, width: int) -> None:
        """Makes the collection, empty, for rows (width,), and in the place of one that was there; forgets the
        position."""
        ...

    def write(self, rows: Sequence[Row]) -> None:
        """Adds rows, and replaces those that are there."""
        ...

    def remove(self, rows: Sequence[int]) -> None:
        """Removes rows; some may not be there."""
        ...

    def count(self) -> int:
        """How many rows there are now."""
        ...

    def search(
        self, queries: NDArray[np.float32], limit: int, wanted: Wanted | None, *, fresh: bool
    ) -> list[Found]:
        """The ``limit`` rows with the largest inner products that fulfil ``wanted``, of each query (n,
        width).

        ``fresh``: what was written a moment ago must be seen.
        """
        ...

    def close(self) -> None:
        """Lets go of the connection."""
        ...
