"""Exact top-k over the rows of a view: the reference that every faster way is held against.

faiss finds candidates in float32; their scores are then computed again in float64, one row at a time,
so that a score depends on the query and the vector alone and not on how many rows lie around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from crossmodal.index.embedded.compared import Hit, Scored, merge_matches, score
from crossmodal.index.embedded.row_view import RowView
from crossmodal.index.embedded.scores import float32_error

__all__ = ["best_of", "search_exactly"]

# Candidates beyond top_k that the first pass fetches, so that a second pass is rare.
_SPARE_CANDIDATES = 16

# Up to this many selected rows, scoring each in float64 is faster than faiss testing every row of the index
# (measured at 100,000 rows of 512 dimensions).
_FEW_ROWS = 1024

# Rows that the second pass multiplies at once.
_ROWS_AT_ONCE = 1 << 16


def search_exactly(
    view: RowView,
    queries: NDArray[np.float32],
    top_k: int,
    selected: NDArray[np.bool_] | None = None,
    *,
    threads: int | None = None,
) -> list[list[Hit]]:
    """For each row of ``queries`` the best ``top_k`` of the living rows, or of all there are.

    ``queries`` (n, dimension + EXTRA) are those of ``compared.asking``. ``selected`` bool (positions,)
    selects among the rows and must leave out the dead ones. ``threads`` bounds the threads over which faiss
    spreads several queries.
    """
    if threads is not None:
        faiss.omp_set_num_threads(threads)
    mask = view.alive if selected is None else selected
    if selected is not None and int(np.count_nonzero(selected)) <= _FEW_ROWS:
        positions = np.flatnonzero(selected)
        vectors = view.vectors(positions)
        return [best_of(view, positions, score(query, vectors), top_k) for query in queries]
    parts = [part for part in _parts(view, mask) if part.count]
    top_k = min(top_k, sum(part.count for part in parts))
    if not top_k:
        return [[] for _ in queries]
    fetched = [part.search(queries, min(top_k + _SPARE_CANDIDATES, part.count)) for part in parts]
    results = []
    for number, query in enumerate(queries):
        positions = np.concatenate([found[number] for _, found in fetched])
        scored = score(query, view.vectors(positions))
        threshold = float(np.partition(scored.scores, -top_k)[-top_k])
        error = float32_error(query, view.longest)
        # Every row that was not fetched has a rough score of at most the last one fetched of its part.
        reaching = [
            rough.shape[1] < part.count and float(rough[number, -1]) + error >= threshold
            for part, (rough, _) in zip(parts, fetched, strict=True)
        ]
        if any(reaching):
            positions = np.concatenate(
                [
                    part.all_above(query, threshold - error) if again else found[number]
                    for part, again, (_, found) in zip(parts, reaching, fetched, strict=True)
                ]
            )
            scored = score(query, view.vectors(positions))
        results.append(best_of(view, positions, scored, top_k))
    return results


def best_of(view: RowView, positions: NDArray[np.integer[Any]], scored: Scored, top_k: int) -> list[Hit]:
    """The best ``top_k`` of the rows at ``positions`` (n,), in the order of matches."""
    if len(positions) > top_k:
        reaching = scored.scores >= np.partition(scored.scores, -top_k)[-top_k]
        positions, scored = positions[reaching], scored.at(reaching)
    hits = map(Hit, view.ids(positions), scored.scores.tolist(), scored.cosines.tolist())
    return merge_matches([hits], top_k)


@dataclass(frozen=True, slots=True)
class _Part:
    """The vectors of one segment from position ``first`` on, and which ``count`` of them are wanted."""

    first: int
    vectors: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    count: int

    def search(
        self, queries: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and positions of the best ``count`` rows of each query, in float32: (n, count) each."""
        scores = np.empty((len(queries), count), np.float32)
        labels = np.empty((len(queries), count), np.int64)
        # faiss's annotations don't know the functions that its Python layer replaces.
        library: Any = faiss
        selector = None
        if self.mask is not None:
            bits = np.packbits(self.mask, bitorder="little")
            selector = library.IDSelectorBitmap(bits)
        library.knn_inner_product(
            library.swig_ptr(queries),
            library.swig_ptr(self.vectors),
            self.vectors.shape[1],
            len(queries),
            len(self.vectors),
            count,
            library.swig_ptr(scores),
            library.swig_ptr(labels),
            selector,
        )
        labels += self.first
        return scores, labels

    def all_above(self, query: NDArray[np.float32], radius: float) -> NDArray[np.int64]:
        """The positions of all wanted rows whose score in float32 is ``radius`` or more."""
        found = [np.empty(0, np.int64)]
        for start in range(0, len(self.vectors), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            above = self.vectors[rows] @ query >= np.float32(np.nextafter(np.float32(radius), -np.inf))
            if self.mask is not None:
                above &= self.mask[rows]
            found.append(np.flatnonzero(above) + start + self.first)
        return np.concatenate(found)


def _parts(view: RowView, mask: NDArray[np.bool_] | None) -> Sequence[_Part]:
    parts = []
    for first, segment in view.segments:
        inside = None if mask is None else mask[first : first + len(segment)]
        count = len(segment) if inside is None else int(np.count_nonzero(inside))
        if inside is not None and count == len(segment):
            inside = None
        parts.append(_Part(first, segment.vectors, inside, count))
    return parts
