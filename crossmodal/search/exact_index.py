"""Exact inner-product search over the vectors of one store, held in memory by faiss.

faiss finds candidates in float32; their scores are then computed again in float64, one row at a time,
so that a score depends on the query and the vector alone and not on how many rows lie around them.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import DataError, ModelMismatch, StoreFormat
from crossmodal.filters import Filter
from crossmodal.search.matches import merge_matches
from crossmodal.search.scores import inner_products
from crossmodal.search.search_file import SearchFile, SearchFileContent
from crossmodal.search.tag_fields import TagField
from crossmodal.search.tag_index import TagIndex
from crossmodal.stores import Store, VectorSnapshot

__all__ = ["ExactIndex"]

_logger = logging.getLogger(__name__)

# Candidates beyond top_k that the first pass fetches, so that a second pass is rare.
_SPARE_CANDIDATES = 16

# Up to this many selected rows, scoring each in float64 is faster than faiss testing every row of the index
# (measured at 100,000 rows of 512 dimensions).
_FEW_ROWS = 1024

# Filters whose rows are remembered: those of a page that is looked at. Each takes a bit a row.
_FILTERS_KEPT = 16

# Half the spacing of float32 at 1: the relative error of one rounding.
_FLOAT32_ROUNDING = 2.0**-24


@dataclass(frozen=True, slots=True)
class _Selection:
    """The rows that match a filter: a bit for each position, the lowest first, and their number."""

    bits: NDArray[np.uint8]
    count: int

    def positions(self) -> NDArray[np.intp]:
        """The positions of the rows, ascending."""
        return np.flatnonzero(np.unpackbits(self.bits, bitorder="little"))

    def parameters(self) -> Any:
        """What tells faiss to look at these rows only."""
        # faiss's annotations don't know the constructors that its Python layer replaces.
        library: Any = faiss
        return library.SearchParameters(sel=library.IDSelectorBitmap(self.bits))


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
        self._loading_tags = threading.Lock()
        self._tags: TagIndex | None = None
        self._selections: OrderedDict[Filter, _Selection] = OrderedDict()
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
            self._refresh(None)

    def _refresh(self, tags: TagIndex | None) -> None:
        """Take over the newest commit, and let ``tags`` do so as well: both then show the same one."""
        sequence = self._store.sequence
        if self._sequence == sequence and (tags is None or tags.sequence == sequence):
            return
        with self._store.vector_snapshot() as snapshot:
            if (snapshot.store_id, snapshot.sequence) != (self._store_id, self._sequence):
                died = snapshot.deaths_after(self._sequence) if snapshot.store_id == self._store_id else None
                if died is None:
                    self._clear(snapshot.store_id, snapshot.dimension)
                    died = np.empty(0, np.uint64)
                self._selections.clear()
                self._follow(snapshot, died)
            if tags is not None:
                tags.follow(snapshot)

    def search(
        self, queries: NDArray[np.floating[Any]], top_k: int, filter: Filter | None = None
    ) -> list[list[tuple[str, float]]]:
        """For each row of ``queries`` (n, dimension) the best ``top_k`` (id, inner product in float64).

        With ``filter`` the best among the documents that match it, with the same scores and in the same order
        as without. The score falls and equal scores are in order of id, so that a smaller ``top_k`` gives the
        beginning of a larger one; all (matching) vectors are returned where there are fewer. The first filter
        reads the tags of all documents. Raises ``DataError`` for queries of another shape or with values that
        are not finite, ``ModelMismatch`` for another dimension.
        """
        wanted = _checked(queries)
        if top_k < 1:
            raise DataError(f"top_k is {top_k}; it must be at least 1.")
        tags = None if filter is None else self._loaded_tags()
        with self._lock:
            self._refresh(tags)
            if not self._ids:
                return [[] for _ in wanted]
            self._check_dimension(wanted)
            if filter is None or tags is None:
                return self._search(wanted, min(top_k, len(self._ids)), None)
            selected = self._select(filter, tags)
            if selected.count > _FEW_ROWS:
                return self._search(wanted, min(top_k, selected.count), selected)
            positions = selected.positions()
            vectors = self._vectors()[positions]
            return [self._best(positions, inner_products(query, vectors), top_k) for query in wanted]

    def tag_fields(self, limit_values: int | None = 50) -> list[TagField]:
        """The tags that the documents with a vector have; see ``TagIndex.fields``."""
        tags = self._loaded_tags()
        with self._lock:
            self._refresh(tags)
            return tags.fields(limit_values)

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

    def _loaded_tags(self) -> TagIndex:
        """The index of tags, made at the first call, without keeping other searches waiting for it."""
        with self._loading_tags:
            if self._tags is None:
                tags = TagIndex()
                with self._store.vector_snapshot() as snapshot:
                    tags.follow(snapshot)
                self._tags = tags
            return self._tags

    def _select(self, filter: Filter, tags: TagIndex) -> _Selection:
        selection = self._selections.pop(filter, None)
        if selection is None:
            mask = tags.mask(filter, self._rows)
            selection = _Selection(np.packbits(mask, bitorder="little"), int(np.count_nonzero(mask)))
        self._selections[filter] = selection
        if len(self._selections) > _FILTERS_KEPT:
            self._selections.popitem(last=False)
        return selection

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

    def _search(
        self, queries: NDArray[np.float32], top_k: int, selected: _Selection | None
    ) -> list[list[tuple[str, float]]]:
        """The best ``top_k``, at most as many as there are, of all rows or of the selected ones."""
        if self._threads is not None:
            faiss.omp_set_num_threads(self._threads)
        count = len(self._ids)
        parameters = None
        if selected is not None:
            count = selected.count
            parameters = selected.parameters()
        fetched = min(top_k + _SPARE_CANDIDATES, count)
        rough, positions = self._faiss.search(queries, fetched, params=parameters)
        results = []
        for query, scores, found in zip(queries, rough, positions, strict=True):
            exact = inner_products(query, self._vectors()[found])
            if fetched < count:
                # faiss adds d products in float32, in an order of its own; whatever the order, the sum is off
                # by at most d * 2**-24 * |x| * |y| (Higham, Accuracy and Stability of Numerical Algorithms,
                # 3.1; doubled for the terms of second order). Every row that was not fetched has a rough
                # score of at most the last one fetched.
                error = 2 * self._faiss.d * _FLOAT32_ROUNDING * _longest(query[None]) * self._longest
                threshold = float(np.partition(exact, -top_k)[-top_k])
                if float(scores[-1]) + error >= threshold:
                    found = self._all_above(query, threshold - error, parameters)
                    exact = inner_products(query, self._vectors()[found])
            results.append(self._best(found, exact, top_k))
        return results

    def _best(
        self, positions: NDArray[np.integer[Any]], scores: NDArray[np.float64], top_k: int
    ) -> list[tuple[str, float]]:
        """The best ``top_k`` of the rows at ``positions`` (n,) with ``scores`` (n,)."""
        if len(scores) > top_k:
            reaching = scores >= np.partition(scores, -top_k)[-top_k]
            positions, scores = positions[reaching], scores[reaching]
        matches = zip((self._ids[position] for position in positions.tolist()), scores.tolist(), strict=True)
        return merge_matches([matches], top_k)

    def _all_above(self, query: NDArray[np.float32], radius: float, parameters: Any) -> NDArray[np.int64]:
        """The positions of all rows (that ``parameters`` select) whose rough score is above ``radius``."""
        below = np.nextafter(np.float32(radius), np.float32(-np.inf))
        _, _, positions = self._faiss.range_search(query[None], float(below), params=parameters)
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
