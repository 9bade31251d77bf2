"""The work that keeps an index quick, beside the searches: files, codes, and the check of what codes find."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import faiss
import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import CrossmodalError, StoreFormat
from crossmodal.index.embedded.candidate_search import CandidateSearch, measure_recall
from crossmodal.index.embedded.codes import (
    UNKNOWN_RECALL,
    Codes,
    CodesFile,
    Recall,
    probes_of,
    train_codes,
    training_size,
)
from crossmodal.index.embedded.compared import EXTRA
from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.options import EXACT, SearchOptions, suitable_tier
from crossmodal.index.embedded.row_view import RowView

__all__ = ["Building", "Maintenance", "Tier"]

_logger = logging.getLogger(__name__)

# A process that answers one query and ends doesn't begin to build.
_GRACE_SECONDS = 3.0
_LOOK_SECONDS = 5.0
_CHECK_SECONDS = 600.0
_END_SECONDS = 1.0

# What could not be written, because the disk is full or another process is writing it, is tried again.
_UNWRITABLE_SECONDS = 600.0

# Rows without a code, each of which every search compares: so many are worth codes.
_FEW_UNCODED = 1024
_SHARE_UNCODED = 0.01

# Rows in memory, and dead ones in the search file: so many are worth another file.
_FEW_UNSAVED = 4096
_SHARE_UNSAVED = 0.125

# Dead rows among the coded ones take the places of candidates.
_SHARE_OF_DEAD = 0.25

# Codes are trained again when those of later vectors are so much worse than those of the vectors they were
# trained on, or when there are so many times as many; judged once a tenth came later.
_DRIFT = 1.5
_GROWTH = 4
_FEW_TO_JUDGE = 1024
_SHARE_TO_JUDGE = 0.1
_DRIFT_SAMPLE = 4096

# What takes the place of a tier that finds too little, and how far each one is widened before.
_SAFER = {"ivf": "coarse", "coarse": "scan", "scan": EXACT}
_LARGEST_RERANK = 64
_LARGEST_SHARE_OF_CELLS = 0.25

_QUERIES_KEPT = 64


@dataclass(frozen=True, slots=True, eq=False)
class Tier:
    """What answers searches instead of exact search: codes of the store ``store_id`` and what they find."""

    store_id: str
    search: CandidateSearch
    recall: Recall


@dataclass(frozen=True, slots=True)
class Building:
    """What is being made, and the share in 0 to 1 that is done."""

    what: str
    done: float


class Maintenance:
    """Makes the tier that suits ``index`` and its ``options``; ``tier`` is the newest one, None for exact.

    ``run`` does all that there is to do. ``start`` has a thread do it, now and whenever the index has changed
    enough, until ``close``. ``codes_file`` keeps the codes for the next time.
    """

    def __init__(self, index: ExactIndex, codes_file: CodesFile | None, options: SearchOptions) -> None:
        self._index = index
        self._file = codes_file
        self._options = options
        self._running = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=_QUERIES_KEPT)
        self._asked_since_check = False
        self._checked_at = time.monotonic()
        # Whether it was said that the tier that was named finds too little: while documents are added, it is
        # measured every few seconds.
        self._warned = False
        # Tiers that found too little, and at how many rows that was.
        self._ruled_out: dict[str, int] = {}
        # The codes, and the commit, for which it was last judged that later vectors are no different.
        self._suited: tuple[Codes, int] | None = None
        self._unwritable_until = time.monotonic()
        # What the file of codes holds, as far as this process knows.
        self._kept: CandidateSearch | None = None
        self.tier: Tier | None = None
        self.building: Building | None = None

    def load(self) -> None:
        """Use the stored codes, if they are whole and what is asked for."""
        view = self._index.view()
        wanted = self._wanted(view)
        if wanted == EXACT or self._file is None or view.dimension is None:
            return
        try:
            codes, recall, rerank, probes = self._file.read(view.store_id, view.sequence)
        except FileNotFoundError:
            return
        except (StoreFormat, OSError) as error:
            _logger.warning("%s is not used (%s); the codes are rebuilt.", self._file.path, error)
            return
        # As in a running index, codes of another tier answer until those of the wanted one are made; those of
        # a tier that was named may find less than ``auto`` asks for.
        good = codes.tier in _SAFER and (recall.value or 0.0) >= self._options.recall
        tier = codes.tier if self._options.index == "auto" and good else wanted
        if codes.fits(tier, self._options, _width(view)):
            options = self._options
            if options.index == "auto":
                # As wide as it turned out to be necessary.
                options = replace(
                    options, rerank=max(rerank, options.rerank), probes=max(probes, options.probes)
                )
            self.tier = Tier(view.store_id, CandidateSearch(codes, options), recall)
            self._kept = self.tier.search

    def remember(self, queries: NDArray[np.float32]) -> None:
        """Keep the last of ``queries`` (n, dimension), to measure with them what is found."""
        self._recent.extend(queries[-_QUERIES_KEPT:].copy())
        self._asked_since_check = True

    def start(self, view: RowView) -> None:
        """Start the thread, if ``view`` gives it anything to do and it doesn't run (any more)."""
        if self._runs() or not self._has_work(view):
            return
        with self._starting:
            if not self._runs() and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run_on, name="search-maintenance", daemon=True)
                self._thread.start()

    def _runs(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def close(self) -> None:
        """End the thread; what it was making is dropped.

        Training and the writing of a file can't be interrupted: the thread may end a while after this has
        returned. The store can be closed all the same.
        """
        self._stop.set()
        with self._starting:
            if self._thread is not None:
                self._thread.join(_END_SECONDS)

    def run(self) -> None:
        """Do now what there is to do: write the search file, make, extend or check the codes."""
        with self._running:
            try:
                self._run()
            finally:
                self.building = None

    def _run_on(self) -> None:
        # Queries have the other cores; faiss keeps this number for each thread.
        faiss.omp_set_num_threads(1)
        logged = ""
        self._stop.wait(_GRACE_SECONDS)
        while not self._stop.is_set():
            try:
                self.run()
            except _Stopped:
                return
            except (CrossmodalError, RuntimeError, MemoryError, OSError) as error:
                if self._stop.is_set():
                    # Its store may have been closed meanwhile.
                    return
                # faiss raises RuntimeError; searches go on as they are, and the next look tries again.
                if str(error) != logged:
                    _logger.warning("The codes of the index cannot be brought up to date: %s", error)
                logged = str(error)
            self._stop.wait(_LOOK_SECONDS)

    def _run(self) -> None:
        view = self._index.view()
        if self._save_is_due(view):
            self.building = Building("search file", 0.0)
            if not self._index.save():
                self._unwritable_until = time.monotonic() + _UNWRITABLE_SECONDS
            view = self._index.view()
        decided = False
        while not decided:
            ruled_out = dict(self._ruled_out)
            self._bring_up_to_date(view)
            # A tier that finds too little is followed by a safer one at once.
            decided = ruled_out == self._ruled_out
        self._keep(view)

    def _bring_up_to_date(self, view: RowView) -> None:
        wanted = self._wanted(view)
        if wanted == EXACT:
            self.tier = None
            return
        codes = None if self.tier is None or self.tier.store_id != view.store_id else self.tier.search.codes
        if codes is None or self._has_to_be_trained(view, codes, wanted):
            self._use(view, self._train(view, wanted))
        elif self._extension_is_due(view, codes):
            self._use(view, self._extend(view, codes))
        elif self._check_is_due():
            self._check(view)

    def _has_work(self, view: RowView) -> bool:
        return self._wanted(view) != EXACT or self._save_is_due(view)

    def _wanted(self, view: RowView) -> str:
        """The tier that the rows of ``view`` should have."""
        tier = suitable_tier(self._options, len(view), view.dimension or 1)
        while tier in self._ruled_out and len(view) < 2 * self._ruled_out[tier]:
            tier = _SAFER[tier]
        return tier

    def _save_is_due(self, view: RowView) -> bool:
        unsaved = len(view.tail) + view.dead
        worth_it = self._index.file_lost or unsaved > max(_FEW_UNSAVED, _SHARE_UNSAVED * len(view))
        return worth_it and self._index.has_file and self._is_writable

    def _train(self, view: RowView, tier: str) -> Codes:
        self.building = Building(f"codes for {tier}", 0.0)
        size = training_size(tier, self._options, len(view))
        chosen = np.random.default_rng(view.sequence).choice(len(view), size, replace=False)
        sample = view.vectors(view.living[np.sort(chosen)])
        return train_codes(
            tier,
            self._options,
            sample,
            view.living_rows,
            view.next_row,
            view.parts(),
            progress=self._progress(f"codes for {tier}"),
        )

    def _extend(self, view: RowView, codes: Codes) -> Codes:
        first = view.position_of(codes.next_row)
        rows = view.living_rows[view.living_below(first) :]
        return codes.extended(
            rows, view.next_row, view.parts(first), progress=self._progress("codes of new vectors")
        )

    def _progress(self, what: str) -> Callable[[float], None]:
        def progress(done: float) -> None:
            if self._stop.is_set():
                raise _Stopped
            self.building = Building(what, done)

        return progress

    def _has_to_be_trained(self, view: RowView, codes: Codes, tier: str) -> bool:
        if not codes.fits(tier, self._options, _width(view)):
            return True
        living = view.living_below(view.position_of(codes.next_row))
        return len(codes) - living > _SHARE_OF_DEAD * len(codes) or self._drifted(view, codes)

    def _drifted(self, view: RowView, codes: Codes) -> bool:
        """Whether the vectors that came after the training are too many or too different for it."""
        since = len(view) - codes.trained_for
        if since > (_GROWTH - 1) * codes.trained_for:
            return True
        if codes.distortion is None or since < max(_FEW_TO_JUDGE, _SHARE_TO_JUDGE * codes.trained_for):
            return False
        if self._suited == (codes, view.sequence):
            return False
        later = view.living[-min(since, _DRIFT_SAMPLE) :]
        distortion = codes.distortion_of(view.vectors(later))
        if distortion is not None and distortion > _DRIFT * codes.distortion:
            return True
        self._suited = codes, view.sequence
        return False

    def _extension_is_due(self, view: RowView, codes: Codes) -> bool:
        uncoded = view.positions - view.position_of(codes.next_row)
        return uncoded > max(_FEW_UNCODED, _SHARE_UNCODED * len(codes))

    def _check_is_due(self) -> bool:
        if self.tier is not None and self.tier.recall.value is None:
            return True
        return self._asked_since_check and time.monotonic() - self._checked_at > _CHECK_SECONDS

    def _use(self, view: RowView, codes: Codes) -> None:
        """Answer searches with ``codes`` once it is known what they find."""
        options = self._options
        if self.tier is not None and self.tier.search.codes.recipe == codes.recipe:
            options = self.tier.search.options
        self._measure(view, Tier(view.store_id, CandidateSearch(codes, options), UNKNOWN_RECALL))

    def _check(self, view: RowView) -> None:
        if self.tier is not None:
            self._measure(view, self.tier)

    def _measure(self, view: RowView, tier: Tier) -> None:
        """Measure what ``tier`` finds, widen it until that is enough, and use it, or rule it out."""
        self.building = Building("self-check", 0.0)
        while True:
            recall = measure_recall(tier.search, view, list(self._recent))
            tier = replace(tier, recall=recall)
            self._asked_since_check, self._checked_at = False, time.monotonic()
            if recall.value is None or recall.value >= self._options.recall:
                self._warned = False
                break
            if self._options.index != "auto":
                if not self._warned:
                    _logger.warning(
                        "--index %s finds %.3f of the best (%s); give it more room with index_options in the "
                        "Flow's YAML, or leave the choice to --index auto.",
                        tier.search.codes.tier,
                        recall.value,
                        recall.measured,
                    )
                self._warned = True
                break
            wider = _widened(tier.search)
            if wider is None:
                name = tier.search.codes.tier
                _logger.warning(
                    "The tier %s finds %.3f of the best (%s); %s takes its place.",
                    name,
                    recall.value,
                    recall.measured,
                    _SAFER[name],
                )
                self._ruled_out[name] = len(view)
                if self.tier is None or self.tier.search.codes.tier == name:
                    self.tier = None
                    self._discard()
                return
            tier = replace(tier, search=wider)
        self.tier = tier

    @property
    def _is_writable(self) -> bool:
        return time.monotonic() >= self._unwritable_until

    def _keep(self, view: RowView) -> None:
        """Write the codes that answer searches, and how they are searched, unless the file holds them."""
        if self.tier is None or self._file is None or not self._is_writable:
            return
        search = self.tier.search
        if search is self._kept:
            return
        try:
            written = self._file.write(
                self.tier.store_id,
                view.sequence,
                search.codes,
                self.tier.recall,
                search.options.rerank,
                search.options.probes,
            )
        except OSError as error:
            written = False
            _logger.warning("%s is not saved (%s); the index works without it.", self._file.path, error)
        if written:
            self._kept = search
        else:
            self._unwritable_until = time.monotonic() + _UNWRITABLE_SECONDS

    def _discard(self) -> None:
        """Removes the stored codes, which the next opening would use, and warn of, again."""
        if self._file is None:
            return
        try:
            self._file.remove()
        except OSError as error:
            _logger.warning("%s cannot be removed (%s).", self._file.path, error)


def _widened(search: CandidateSearch) -> CandidateSearch | None:
    """The same codes with twice the effort; None where the next safer tier is quicker than that."""
    options, codes = search.options, search.codes
    rerank = 2 * options.rerank
    probes = 2 * probes_of(codes, options) if codes.cells else options.probes
    if rerank > _LARGEST_RERANK or (codes.cells and probes > codes.cells * _LARGEST_SHARE_OF_CELLS):
        return None
    return replace(search, options=replace(options, rerank=rerank, probes=probes))


def _width(view: RowView) -> int:
    """How many components of each row are compared, and so coded."""
    return (view.dimension or 1) + EXTRA


class _Stopped(Exception):
    """The index is being closed."""
