"""Exact search over the vectors of one store, filtered or not, following the store as it changes."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import DataError, ModelMismatch, StoreFormat
from crossmodal.filters import (
    And,
    EqualsCaseless,
    Exists,
    Filter,
    Identified,
    Near,
    Not,
    OneOf,
    Or,
    Period,
    Range,
    tag_name,
)
from crossmodal.index.embedded.compared import EXTRA, Hit, asking, hubness_in, score
from crossmodal.index.embedded.exact_search import search_exactly
from crossmodal.index.embedded.row_follower import RowFollower
from crossmodal.index.embedded.row_view import RowView
from crossmodal.index.embedded.search_file import FileState, SearchFile, SearchFileSource
from crossmodal.index.embedded.vector_source import VectorSnapshot, VectorSource

__all__ = ["ExactIndex", "checked_queries", "matching_rows"]

_logger = logging.getLogger(__name__)

# Filters whose rows are remembered: those of a page that is looked at. Each takes a bit a row.
_FILTERS_CACHED = 16


class ExactIndex:
    """All vectors of ``source``, following it as it changes.

    ``search_file`` names the derived file that ``save`` writes, and that is mapped into memory here as far as
    it is whole and not newer than the store; all else is held in memory. ``threads`` bounds faiss's threads
    in a search of several queries (None: as many as there are cores). Safe to use from several threads,
    which search at the same time.
    """

    def __init__(
        self, source: VectorSource, *, search_file: Path | None = None, threads: int | None = None
    ) -> None:
        self._source = source
        self._search_file = None if search_file is None else SearchFile(search_file)
        self._threads = threads
        # Held while the store is followed and while a filter is looked up, not while vectors are compared.
        self._lock = threading.RLock()
        self._follower = RowFollower()
        self._saved: SearchFileSource | None = None
        # What tells that the mapped file was altered in place, which nothing here does.
        self._mapped: FileState | None = None
        self._file_lost = False
        self._selections: OrderedDict[Filter, NDArray[np.uint8]] = OrderedDict()
        self._load()
        self.refresh()

    def __len__(self) -> int:
        return len(self._follower.view)

    @property
    def sequence(self) -> int:
        """The sequence number of the store's commit that the index shows."""
        return self._follower.view.sequence

    @property
    def has_file(self) -> bool:
        """Whether a derived file was named."""
        return self._search_file is not None

    @property
    def file_lost(self) -> bool:
        """Whether the derived file was damaged and has to be written again."""
        return self._file_lost

    def refresh(self) -> None:
        """Take over what the store has committed since; only new rows and tombstones are read."""
        self.view()

    def view(self) -> RowView:
        """All rows as of the store's newest commit."""
        with self._lock:
            return self._refresh()

    def search(
        self,
        queries: NDArray[np.floating[Any]],
        top_k: int,
        filter: Filter | None = None,
        *,
        corrected: NDArray[np.bool_] | None = None,
        view: RowView | None = None,
    ) -> list[list[Hit]]:
        """For each row of ``queries`` (n, dimension) the best ``top_k``, with inner products in float64.

        Of the queries that are ``corrected`` (n,) the hubness of each document is taken off its score. With
        ``filter`` the best among the documents that match it, with the same scores and in the same order as
        without. The score falls and equal scores are in order of id, so that a smaller ``top_k`` gives the
        beginning of a larger one; all (matching) vectors are returned where there are fewer. ``view`` is that
        of the caller, None for the newest; with ``filter`` it is always the newest. Raises ``DataError`` for
        queries of another shape or with values that are not finite, ``ModelMismatch`` for another dimension.
        """
        wanted = asking(checked_queries(queries, top_k), corrected)
        selected = None
        if filter is not None:
            view, selected = self._select(filter)
        elif view is None:
            view = self.view()
        if not len(view):
            return [[] for _ in wanted]
        self.check_dimension(wanted, view)
        return search_exactly(view, wanted, top_k, selected, threads=self._threads)

    def cosines(
        self, queries: NDArray[np.floating[Any]]
    ) -> tuple[list[str], NDArray[np.float64], NDArray[np.float32]]:
        """The ids of all vectors, the cosine of each and every row of ``queries``, and each one's hubness.

        Cosines float64 (n, ids) and hubness float32 (ids,) are those that ``search`` ranks by, to the last
        bit; the ids are in no particular order. Raises as ``search`` does.
        """
        wanted = asking(checked_queries(queries))
        view = self.view()
        if len(view):
            self.check_dimension(wanted, view)
        found = np.empty((len(wanted), view.positions), np.float64)
        for row, query in enumerate(wanted):
            for first, segment in view.segments:
                found[row, first : first + len(segment)] = score(query, segment.vectors).cosines
        hubness = np.concatenate([hubness_in(segment.vectors) for _, segment in view.segments])
        if view.alive is not None:
            found, hubness = found[:, view.alive], hubness[view.alive]
        return view.ids(view.living), found, hubness

    def save(self) -> bool:
        """Write the derived file as of the newest commit, and use it from now on; as ``SearchFile.save``."""
        if self._search_file is None:
            return False
        saved = self._saved
        current = saved is not None and saved.sequence == self._source.sequence == self.view().sequence
        if current and not self._file_lost:
            return True
        with self._source.snapshot() as snapshot:
            written = self._search_file.save(snapshot)
        if written:
            self._file_lost = False
            self._load()
        return written

    def check_dimension(self, queries: NDArray[np.float32], view: RowView) -> None:
        """Raise ``ModelMismatch`` if ``queries`` (n, dimension + EXTRA) don't fit the vectors."""
        dimension = queries.shape[1] - EXTRA
        if dimension != view.dimension:
            raise ModelMismatch(
                f"The query has {dimension} dimensions, but the index in {self._source.folder} has "
                f"{view.dimension}. Use the model that built the index (-m)."
            )

    def _refresh(self) -> RowView:
        """Take over the newest commit, and let go of a file that is not what was mapped."""
        if self._mapped is not None and self._search_file is not None:
            now = self._search_file.state()
            if now is not None and now.number == self._mapped.number and now != self._mapped:
                _logger.warning(
                    "%s was altered while it was in use; reading the store instead.", self._search_file.path
                )
                self._let_go_of_file()
                self._follower = RowFollower()
                self._selections.clear()
        if self._follower.view.sequence != self._source.sequence:
            with self._source.snapshot() as snapshot:
                self._follow(snapshot)
        return self._follower.view

    def _follow(self, snapshot: VectorSnapshot) -> RowView:
        view = self._follower.view
        if (snapshot.store_id, snapshot.sequence) != (view.store_id, view.sequence):
            self._selections.clear()
            self._follower.follow(snapshot)
        return self._follower.view

    def _select(self, filter: Filter) -> tuple[RowView, NDArray[np.bool_]]:
        """The newest rows, and which of them are alive and match: bool (positions,)."""
        with self._lock:
            view = self._refresh()
            bits = self._selections.pop(filter, None)
            if bits is None:
                with self._source.snapshot() as snapshot:
                    view = self._follow(snapshot)
                    selected = matching_rows(filter, view, snapshot)
                bits = np.packbits(selected, bitorder="little")
            self._selections[filter] = bits
            if len(self._selections) > _FILTERS_CACHED:
                self._selections.popitem(last=False)
        return view, np.unpackbits(bits, count=view.positions, bitorder="little").view(np.bool_)

    def _let_go_of_file(self) -> None:
        assert self._search_file is not None
        self._search_file.remove()
        self._saved = self._mapped = None
        self._file_lost = True

    def _load(self) -> None:
        """Use the derived file if it is whole and of this store."""
        if self._search_file is None:
            return
        before = self._search_file.state()
        try:
            content = self._search_file.read()
        except FileNotFoundError:
            return
        except (StoreFormat, OSError) as error:
            _logger.warning("%s is not used (%s); reading the store instead.", self._search_file.path, error)
            if isinstance(error, StoreFormat):
                self._let_go_of_file()
            return
        source = content.source
        with self._lock:
            with self._source.snapshot() as snapshot:
                if source.store_id != snapshot.store_id or snapshot.rows_removed(source.sequence) is None:
                    return
                if self._follower.view.store_id == source.store_id:
                    self._follower.follow(snapshot)
            self._selections.clear()
            self._follower.adopt(content)
            self._saved = source
            # Another process may have replaced it meanwhile.
            self._mapped = before if before == self._search_file.state() else None


def checked_queries(queries: NDArray[np.floating[Any]], top_k: int = 1) -> NDArray[np.float32]:
    """``queries`` as float32 (n, dimension); raises ``DataError`` for those, or a ``top_k``, of no use."""
    wanted = np.ascontiguousarray(queries, dtype=np.float32)
    if wanted.ndim != 2:
        raise DataError(f"Queries need the shape (n, dimension), not {wanted.shape}.")
    if not np.isfinite(wanted).all():
        raise DataError("A query vector has a value that is not a finite number.")
    if top_k < 1:
        raise DataError(f"top_k is {top_k}; it must be at least 1.")
    return wanted


def matching_rows(wanted: Filter, view: RowView, snapshot: VectorSnapshot) -> NDArray[np.bool_]:
    """Which positions of ``view``, which is as of ``snapshot``, are alive and match: bool (positions,)."""
    mask = _holds(wanted, view, snapshot)
    return mask if view.alive is None else mask & view.alive


def _holds(wanted: Filter, view: RowView, snapshot: VectorSnapshot) -> NDArray[np.bool_]:
    mask = np.zeros(view.positions, np.bool_)
    match wanted:
        case And(parts):
            mask[:] = True
            for part in parts:
                mask &= _holds(part, view, snapshot)
        case Or(parts):
            for part in parts:
                mask |= _holds(part, view, snapshot)
        case Not(part):
            mask = ~_holds(part, view, snapshot)
        case OneOf() | EqualsCaseless() | Range() | Exists() if tag_name(wanted.field) is None:
            mask[:] = wanted.matches(snapshot.source.modality, {})
        case OneOf() | EqualsCaseless() | Range() | Period() | Near() | Exists() | Identified():
            places = view.find(snapshot.matching(wanted))
            mask[places[places >= 0]] = True
        case _:
            raise TypeError(f"{type(wanted).__name__} is no filter that parse_filter makes")
    return mask
