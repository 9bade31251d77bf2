"""What a search compares: a vector, and behind it, as more components of the same vector, its hubness.

The inner product of such a row with such a query is the cosine minus the hubness, or the cosine alone where
the query asks for that, so that whatever finds the largest inner product finds both. What is found is scored
again by ``score``, where the cosine stays what it is between the two vectors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossmodal.index.embedded.scores import inner_products

__all__ = ["EXTRA", "Hit", "Scored", "asking", "compared", "hubness_in", "merge_matches", "score"]

# The first of them is used; with four, codes divide a row as they divide the vector.
EXTRA = 4


class Hit(NamedTuple):
    """A document that was found: ``score`` is what it is ranked by, its cosine or that minus its hubness."""

    id: str
    score: float
    cosine: float


class Scored(NamedTuple):
    """Scores and cosines of some rows, float64 (n,) each."""

    scores: NDArray[np.float64]
    cosines: NDArray[np.float64]

    def at(self, places: NDArray[Any]) -> Scored:
        """Those at ``places``, which are positions or a mask."""
        return Scored(self.scores[places], self.cosines[places])


def compared(vectors: NDArray[np.float32], hubness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows float32 (n, dimension + EXTRA) of ``vectors`` (n, dimension) and their ``hubness`` (n,)."""
    rows = np.zeros((len(vectors), vectors.shape[1] + EXTRA), np.float32)
    rows[:, :-EXTRA] = vectors
    rows[:, -EXTRA] = -hubness
    return rows


def hubness_in(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The hubness (n,) of ``rows`` (n, dimension + EXTRA)."""
    return -rows[:, -EXTRA]


def asking(queries: NDArray[np.float32], corrected: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Queries (n, dimension) as (n, dimension + EXTRA): those ``corrected`` (n,) are ranked minus hubness."""
    rows = np.zeros((len(queries), queries.shape[1] + EXTRA), np.float32)
    rows[:, :-EXTRA] = queries
    if corrected is not None:
        rows[:, -EXTRA] = corrected
    return rows


def score(query: NDArray[np.float32], rows: NDArray[np.float32]) -> Scored:
    """The scores of ``rows`` (n, dimension + EXTRA) for one query: exact, and of each row alone."""
    cosines = inner_products(query[:-EXTRA], rows[:, :-EXTRA])
    if not query[-EXTRA]:
        return Scored(cosines, cosines)
    return Scored(cosines + rows[:, -EXTRA].astype(np.float64), cosines)


def merge_matches(per_shard: Iterable[Iterable[Hit]], top_k: int) -> list[Hit]:
    """The best ``top_k`` of several lists: scores fall, equal ones are in order of id."""
    everything = [hit for hits in per_shard for hit in hits]
    everything.sort(key=lambda hit: (-hit.score, hit.id))
    return everything[: max(top_k, 0)]
