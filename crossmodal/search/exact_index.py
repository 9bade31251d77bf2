"""Exact inner-product search over the vectors of one store, held in memory by faiss.

faiss finds candidates in float32; their scores are then computed again in float64, one row at a time,
so that a score depends on the query and the vector alone and not on how many rows lie around them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import DataError, ModelMismatch, StoreFormat
from crossmodal.search.matches import merge_matches
from crossmodal.search.scores import inner_products
from crossmodal.search.search_file import SearchFile, SearchFileContent
from crossmodal.stores import Store, VectorSnapshot

__all__ = ["ExactIndex"]

_logger = logging.getLogger(__name__)

# Candidates beyond top_k that the first pass fetches, so that a second pass is rare.
_SPARE_CANDIDATES = 16

# Half the spacing of float32 at 1: the relative error of one rounding.
_FLOAT32_ROUNDING = 2.0**-24


class ExactIndex:
    """All vectors of ``store`` in memory, following the store as it changes.

    ``search_file`` names the derived file that ``save`` writes and that is read here instead of the store's
    vectors, as far as it is whole and not newer than the store. ``threads`` bounds faiss's threads in a
    search of several queries (None: as many as there are cores). Safe to use from several threads.
    """

    def __init__(self, store: Store, *, search_file: Path | None = None, threads: int | None = None) -> None:
        self._store = store
        self._search_file = None if search_file is None else SearchFile(search_file)
        self._threads = threads
        self._lock = threading.RLock()
        self._saved_sequence: int | None = None
        self._clear("", None)
        self._load()
        self.refresh()

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def sequence(self) -> int:
        """The sequence number of the store's commit that the index shows."""
        return self._sequence

    def refresh(self) -> None:
        """Take over what the store has committed since; only new rows and deaths are read."""
        with self._lock:
            if self._store.sequence == self._sequence:
                return
            with self._store.vector_snapshot() as snapshot:
                died = snapshot.deaths_after(self._sequence) if snapshot.store_id == self._store_id else None
                if died is None:
                    self._clear(snapshot.store_id, snapshot.dimension)
                    died = np.empty(0, np.uint64)
                self._follow(snapshot, died)

    def search(self, queries: NDArray[np.floating[Any]], top_k: int) -> list[list[tuple[str, float]]]:
        """For each row of ``queries`` (n, dimension) the best ``top_k`` (id, inner product in float64).

        The score falls and equal scores are in order of id, so that a smaller ``top_k`` gives the beginning
        of a larger one; all vectors are returned where there are fewer. Raises ``DataError`` for queries of
        another shape or with values that are not finite, ``ModelMismatch`` for another dimension.
        """
        wanted = _checked(queries)
        if top_k < 1:
            raise DataError(f"top_k is {top_k}; it must be at least 1.")
        with self._lock:
            self.refresh()
            if not self._ids:
                return [[] for _ in wanted]
            self._check_dimension(wanted)
            return self._search(wanted, min(top_k, len(self._ids)))

    def scores(self, queries: NDArray[np.floating[Any]]) -> tuple[list[str], NDArray[np.float64]]:
        """The ids of all vectors and each one's score for every row of ``queries``: float64 (n, ids).

        The scores are those that ``search`` gives, to the last bit; the ids are in no particular order.
        Raises as ``search`` does.
        """
        wanted = _checked(queries)
        with self._lock:
            self.refresh()
            if self._ids:
                self._check_dimension(wanted)
            found = np.empty((len(wanted), len(self._ids)), np.float64)
            for row, query in enumerate(wanted):
                found[row] = inner_products(query, self._vectors())
            return list(self._ids), found

    def save(self) -> bool:
        """Write the derived file as of the newest commit; False (and a warning) where that is impossible.

        A full or read-only disk is no error: the file only saves time when the index is opened again.
        """
        with self._lock:
            if self._search_file is None:
                return False
            self.refresh()
            if self._saved_sequence == self._sequence:
                return True
            try:
                written = self._search_file.write(
                    SearchFileContent(
                        self._store_id, self._sequence, self._next_row, self._rows, self._ids, self._vectors()
                    )
                )
            except OSError as error:
                _logger.warning(
                    "%s is not saved (%s); the index works without it.", self._search_file.path, error
                )
                return False
            if written:
                self._saved_sequence = self._sequence
            return written

    def _check_dimension(self, queries: NDArray[np.float32]) -> None:
        if queries.shape[1] != self._faiss.d:
            raise ModelMismatch(
                f"The query has {queries.shape[1]} dimensions, but the index in {self._store.path} has "
                f"{self._faiss.d}. Use the model that built the index (-m)."
            )

    def _clear(self, store_id: str, dimension: int | None) -> None:
        self._store_id = store_id
        self._sequence = -1
        self._next_row = 0
        self._rows: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._ids: list[str] = []
        self._faiss = faiss.IndexFlatIP(dimension or 1)
        # An upper bound of the length of every vector here, for the error bound in _search.
        self._longest = 0.0

    def _load(self) -> None:
        if self._search_file is None:
            return
        try:
            content = self._search_file.read()
        except FileNotFoundError:
            return
        except (StoreFormat, OSError) as error:
            _logger.warning("%s is not used (%s); reading the store instead.", self._search_file.path, error)
            return
        with self._store.vector_snapshot() as snapshot:
            if content.store_id != snapshot.store_id or snapshot.deaths_after(content.sequence) is None:
                return
        self._clear(content.store_id, content.vectors.shape[1])
        self._append(content.rows, content.ids, content.vectors)
        self._sequence = self._saved_sequence = content.sequence
        self._next_row = content.next_row

    def _follow(self, snapshot: VectorSnapshot, died: NDArray[np.uint64]) -> None:
        if self._faiss.d != snapshot.dimension and snapshot.dimension is not None:
            self._clear(snapshot.store_id, snapshot.dimension)
        if len(died):
            self._remove(np.flatnonzero(np.isin(self._rows, died)))
        if not self._ids:
            # Growing by doubling would need up to three times the memory for a moment.
            self._faiss.codes.resize(snapshot.count * self._faiss.code_size)
            self._faiss.codes.resize(0)
        rows = [self._rows]
        for block in snapshot.blocks(self._next_row):
            self._faiss.add(np.ascontiguousarray(block.vectors))
            self._longest = max(self._longest, _longest(block.vectors))
            rows.append(block.rows.astype(np.uint64))
            self._ids.extend(block.ids)
        self._rows = np.concatenate(rows)
        self._sequence = snapshot.sequence
        self._next_row = snapshot.next_row

    def _append(self, rows: NDArray[np.uint64], ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        self._faiss.add(vectors)
        self._longest = max(self._longest, _longest(vectors))
        self._rows = np.concatenate([self._rows, rows])
        self._ids.extend(ids)

    def _remove(self, positions: NDArray[np.intp]) -> None:
        """Drop the rows at ``positions`` by moving the last rows into their places."""
        if not len(positions):
            return
        count = len(self._ids) - len(positions)
        vectors = self._vectors()
        gaps = positions[positions < count]
        movers = np.setdiff1d(np.arange(count, len(self._ids)), positions)
        vectors[gaps] = vectors[movers]
        self._rows[gaps] = self._rows[movers]
        for gap, mover in zip(gaps.tolist(), movers.tolist(), strict=True):
            self._ids[gap] = self._ids[mover]
        del self._ids[count:]
        self._rows = self._rows[:count]
        self._faiss.codes.resize(count * self._faiss.code_size)
        self._faiss.ntotal = count

    def _vectors(self) -> NDArray[np.float32]:
        """The vectors in faiss's own memory, (n, dimension), without a copy."""
        count, dimension = self._faiss.ntotal, self._faiss.d
        if count == 0:
            return np.empty((0, dimension), np.float32)
        view: NDArray[np.float32] = faiss.rev_swig_ptr(self._faiss.get_xb(), count * dimension)
        return view.reshape(count, dimension)

    def _search(self, queries: NDArray[np.float32], top_k: int) -> list[list[tuple[str, float]]]:
        if self._threads is not None:
            faiss.omp_set_num_threads(self._threads)
        fetched = min(top_k + _SPARE_CANDIDATES, len(self._ids))
        rough, positions = self._faiss.search(queries, fetched)
        results = []
        for query, scores, found in zip(queries, rough, positions, strict=True):
            exact = inner_products(query, self._vectors()[found])
            if fetched < len(self._ids):
                # faiss adds d products in float32, in an order of its own; whatever the order, the sum is off
                # by at most d * 2**-24 * |x| * |y| (Higham, Accuracy and Stability of Numerical Algorithms,
                # 3.1; doubled for the terms of second order). Every row that was not fetched has a rough
                # score of at most the last one fetched.
                error = 2 * self._faiss.d * _FLOAT32_ROUNDING * _longest(query[None]) * self._longest
                threshold = float(np.partition(exact, -top_k)[-top_k])
                if float(scores[-1]) + error >= threshold:
                    found = self._all_above(query, threshold - error)
                    exact = inner_products(query, self._vectors()[found])
            matches = zip((self._ids[position] for position in found.tolist()), exact.tolist(), strict=True)
            results.append(merge_matches([matches], top_k))
        return results

    def _all_above(self, query: NDArray[np.float32], radius: float) -> NDArray[np.int64]:
        """The positions of all rows whose rough score is above ``radius``."""
        below = np.nextafter(np.float32(radius), np.float32(-np.inf))
        _, _, positions = self._faiss.range_search(query[None], float(below))
        return np.asarray(positions)


def _checked(queries: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    wanted = np.ascontiguousarray(queries, dtype=np.float32)
    if wanted.ndim != 2:
        raise DataError(f"Queries need the shape (n, dimension), not {wanted.shape}.")
    if not np.isfinite(wanted).all():
        raise DataError("A query vector has a value that is not a finite number.")
    return wanted


def _longest(vectors: NDArray[np.float32]) -> float:
    """The largest Euclidean length of the rows of ``vectors``; 0 if there are none."""
    if not len(vectors):
        return 0.0
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return float(np.sqrt(squares.max()))
