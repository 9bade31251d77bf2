"""What a reranker is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Item", "RegionReranker", "Regions", "Reranker"]


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Vectors of the regions of a photo in few bytes: int8 (n, dimension), times float32 (n,)."""

    values: NDArray[np.int8]
    scales: NDArray[np.float32]

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> Self:
        """Those nearest to ``vectors`` (n, dimension): off by at most 1/254 of each one's largest number."""
        largest = np.abs(vectors).max(axis=1)
        scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        return cls(np.rint(vectors / scales[:, None]).astype(np.int8), scales)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Float32 (n, dimension)."""
        return self.values * self.scales[:, None]


@dataclass(frozen=True, slots=True)
class Item:
    """A query or a candidate: a ``text``, or a ``photo``, an upright JPEG of at most 1,024 pixels a side.

    A ``RegionReranker`` gets the ``regions`` of a photo in its place.
    """

    text: str | None = None
    photo: bytes | None = None
    regions: Regions | None = None


class Reranker(Protocol):
    """Whatever says how well candidates fit a query: any function of this form is one.

    It is called with a batch of candidates at a time, from any thread, and returns a finite number for each,
    larger where it fits better. What a candidate gets may not depend on the others. It raises DataError for
    what it cannot compare; one that takes long may look at the deadline between candidates.
    """

    def __call__(self, query: Item, candidates: Sequence[Item], /) -> Sequence[float]: ...


@runtime_checkable
class RegionReranker(Reranker, Protocol):
    """A reranker that looks at a photo by vectors that don't depend on the query, so that they can be kept.

    It compares a sentence with photos, or a photo with captions, and is never asked for anything else.
    ``identity`` says which network, with which weights, the regions are of.
    """

    identity: str

    def regions(self, photo: bytes, /) -> Regions:
        """The regions of one photo, a JPEG as in ``Item``."""
        ...
