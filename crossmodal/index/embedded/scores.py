"""Scores that depend on two vectors alone, and the ranks that follow from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "float32_error",
    "inner_products",
    "longest",
    "ranks_among",
    "score_error",
    "shard_of",
]

# Rows that are multiplied at once: about 1 MB in float64 at 640 dimensions, which a core's cache holds.
_ROWS = 256

# Half the spacing of float64 at 1: the relative error of one rounding.
_FLOAT64_ROUNDING = 2.0**-53

# The same for float32.
_FLOAT32_ROUNDING = 2.0**-24


def inner_products(
    query: NDArray[np.floating[Any]], vectors: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """The inner product of ``query`` (dimension,) with each row of ``vectors`` (n, dimension): float64 (n,).

    Each row is summed by itself, in numpy's pairwise order, so that a score depends on the query and the row
    alone: equal rows have equal scores, wherever they stand and however many there are. A matrix product
    doesn't promise that.
    """
    wide = query.astype(np.float64)
    scores = np.empty(len(vectors), np.float64)
    for start in range(0, len(vectors), _ROWS):
        products = vectors[start : start + _ROWS].astype(np.float64)
        products *= wide
        np.add.reduce(products, axis=1, out=scores[start : start + _ROWS])
    return scores


def score_error(queries: NDArray[np.floating[Any]], vectors: NDArray[np.floating[Any]]) -> float:
    """How far a float64 score of these may lie from the same score, summed in another order.

    Each is off from the true value by at most d * 2**-53 * |x| * |y| (Higham, Accuracy and Stability of
    Numerical Algorithms, 3.1); doubled for the terms of second order, and again for the two of them.
    """
    bound: float = 4 * vectors.shape[1] * _FLOAT64_ROUNDING
    for rows in (queries, vectors):
        bound *= float(np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64).max(initial=0.0)))
    return bound


def ranks_among(
    ids: Sequence[str], scores: NDArray[np.float64], wanted: Iterable[str]
) -> dict[str, tuple[int, float]]:
    """The rank (1 is the best) and the score of each of ``wanted`` that is among ``ids``.

    The order is that of ``compared.merge_matches``: scores fall, and equal ones are in order of id. Nothing
    is sorted: a rank is the number of those before, and one.
    """
    position = {id: place for place, id in enumerate(ids)}
    found: dict[str, tuple[int, float]] = {}
    for id in wanted:
        if (place := position.get(id)) is None:
            continue
        score = scores[place]
        before = int(np.count_nonzero(scores > score))
        before += sum(ids[other] < id for other in np.flatnonzero(scores == score).tolist())
        found[id] = (before + 1, float(score))
    return found


def longest(vectors: NDArray[np.float32]) -> float:
    """An upper bound, off by some millionths, of the length of each row of ``vectors`` (n, dimension).

    0 if there are none.
    """
    if not len(vectors):
        return 0.0
    # In float32, which is four times as quick, and no sum of squares is off by more than d rounding errors.
    square = float(np.einsum("ij,ij->i", vectors, vectors).max())
    if not np.isfinite(square):
        square = float(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64).max())
    return float(np.sqrt(square) * (1 + 2 * vectors.shape[1] * _FLOAT32_ROUNDING))


def float32_error(query: NDArray[np.float32], longest_vector: float) -> float:
    """How far an inner product of ``query`` (dimension,) computed in float32 may lie from the true one.

    Whatever the order in which d products are added, the sum is off by at most d * 2**-24 * |x| * |y|
    (Higham, Accuracy and Stability of Numerical Algorithms, 3.1; doubled for the terms of second order). No
    vector is longer than ``longest_vector``.
    """
    length = float(np.linalg.norm(query.astype(np.float64)))
    return 2 * len(query) * _FLOAT32_ROUNDING * length * longest_vector


def shard_of(id: str, shards: int) -> int:
    """The shard, 0 to ``shards`` - 1, that keeps the document ``id``; the same on every machine and run."""
    digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % shards
