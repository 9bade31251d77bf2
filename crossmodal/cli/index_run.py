"""One run of indexing: data sets through the engine, and what became of each document."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field

from crossmodal.cli.present.progress import IndexProgress
from crossmodal.data_sets import DataSet
from crossmodal.engine.engine import Engine
from crossmodal.engine.indexing import Indexed
from crossmodal.engine.library import LibraryRun
from crossmodal.engine.opening import resolved_for_writing
from crossmodal.errors import DataError
from crossmodal.processes import StopSignals
from crossmodal.records import IMAGE, Failure, Record
from crossmodal.settings import Settings

__all__ = [
    "STOPPED_BY_SIGNAL",
    "IndexReport",
    "IndexRun",
    "ModalityCount",
    "expected_documents",
    "say_stopped",
]

STOPPED_BY_SIGNAL = 130


@dataclass
class ModalityCount:
    """How many documents of one modality were new, changed, already there, and failed in the Flow.

    Of photos also those that lay in another file before, that lie in one more, that are back from the trash,
    and that went there; of captions those that their file doesn't give any more.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    moved: int = 0
    copied: int = 0
    restored: int = 0
    deleted: int = 0
    failed: int = 0


@dataclass
class IndexReport:
    """What one run of indexing did; also the contents of ``index-report.json``.

    ``unusable`` counts files and rows that gave no document at all. ``failures`` holds every failure with
    ``source`` and ``reason``: those, and the documents that ``photos.failed`` and ``captions.failed``
    count. ``warnings``, of the same form, are photos that are used although something of them could not be
    read. ``notes`` are sentences on what was left out on purpose, ``kept`` those on photos that stay
    although their files are gone. ``started`` is False where the Flow never ran, ``finished`` where the run
    was stopped.
    """

    data_set: str
    workspace: str
    model: str
    photos: ModalityCount = field(default_factory=ModalityCount)
    captions: ModalityCount = field(default_factory=ModalityCount)
    unusable: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    seconds: float = 0.0
    documents_per_second: float = 0.0
    started: bool = False
    finished: bool = False

    def count(self, item: Indexed | Failure) -> tuple[str, Failure | None]:
        """Counts what became of one document; returns its outcome, "failed" too, and the failure, if any."""
        if isinstance(item, Failure):
            self.unusable += 1
            return "failed", item
        outcome = "failed" if item.error is not None else str(item.outcome)
        counted = self.photos if item.modality == IMAGE else self.captions
        setattr(counted, outcome, getattr(counted, outcome) + 1)
        if item.warning is not None and item.error is None:
            self.warnings.append({"source": item.source, "reason": item.warning})
        return outcome, item.failure

    def fail(self, failure: Failure, *, strict: bool = False) -> None:
        """Notes a failure; raises DataError where the settings are strict."""
        self.failures.append(asdict(failure))
        if strict:
            raise DataError(f"{failure.source}: {failure.reason} (--strict stops at the first failure)")

    def end(self, seconds: float) -> None:
        """Notes how long it took."""
        self.seconds = round(seconds, 3)
        indexed = sum(each.added + each.replaced for each in (self.photos, self.captions))
        self.documents_per_second = round(indexed / (self.seconds or 1.0), 2)


def expected_documents(data_sets: Sequence[DataSet], most: int | None) -> int | None:
    """How many documents data sets give, each at most ``most``; None where one doesn't know."""
    hints = [data_set.expected(most) for data_set in data_sets]
    return None if None in hints else sum(hint for hint in hints if hint is not None)


def say_stopped() -> int:
    """Says that a signal has ended it, and how to go on; returns the exit code."""
    print("stopped; run the same command again to go on where it ended", file=sys.stderr)
    return STOPPED_BY_SIGNAL


class IndexRun:
    """Hands the data sets' records to the engine, and counts what became of each.

    ``report`` says what came of it, as far as it is; ``taken`` counts records.
    """

    def __init__(
        self, engine: Engine, data_sets: Sequence[DataSet], settings: Settings, signals: StopSignals
    ) -> None:
        self._engine = engine
        self._data_sets = data_sets
        self._settings = settings
        self._signals = signals
        model = resolved_for_writing(settings, engine.workspace).model
        names = ", ".join(data_set.name for data_set in data_sets)
        self.report = IndexReport(names, str(settings.workspace), str(model))
        self.taken = 0
        self._started = 0.0

    def through(self, *, quiet: bool = False) -> None:
        """Indexes everything; raises DataError at the first failure where the settings are strict.

        What of a data set isn't there any more leaves the index, where all of it was to be indexed.
        """
        expected = None if quiet else expected_documents(self._data_sets, self._settings.num_docs)
        try:
            with (
                IndexProgress(expected, enabled=not (quiet or self._settings.json)) as progress,
                # One opening of the Flow for all of it.
                self._engine.writing(),
            ):
                # What moved from one to another is seen before anything of the first is missed.
                runs = [self._index(data_set, progress) for data_set in self._data_sets]
                if not self._signals.stopping and self._settings.num_docs is None:
                    self._settle(runs)
        finally:
            # Without what opening the Flow took.
            self.report.end(time.monotonic() - self._started if self.report.started else 0.0)
            self.report.warnings += [
                asdict(warning) for data_set in self._data_sets for warning in data_set.warnings
            ]
            self.report.notes = [note for data_set in self._data_sets for note in data_set.notes]
        self.report.finished = not self._signals.stopping

    def _index(self, data_set: DataSet, progress: IndexProgress) -> LibraryRun:
        run = LibraryRun(self._engine, data_set, self._settings.delete_missing, self._settings.verify)
        # However this ends, what is under way is finished before the engine closes.
        with closing(run.index(size=self._settings.request_size, take=self._taken)) as indexed:
            for item in indexed:
                outcome, failure = self.report.count(item)
                shown = outcome if outcome in ("added", "replaced", "failed") else "unchanged"
                progress.advance(**{shown: 1})
                if failure is not None:
                    self.report.fail(failure, strict=self._settings.strict)
        return run

    def _settle(self, runs: Sequence[LibraryRun]) -> None:
        for run in runs:
            settled = run.settle()
            self.report.photos.deleted += settled.photos
            self.report.captions.deleted += settled.captions
            self.report.kept += settled.kept

    def _taken(self, items: Iterable[Record | Failure]) -> Iterator[Record | Failure]:
        """The items, until there are as many documents as asked for or a signal comes."""
        # It is read when the Flow is there, and not before.
        if not self.report.started:
            self.report.started, self._started = True, time.monotonic()
        for item in items:
            if self._signals.stopping or self.taken == self._settings.num_docs:
                return
            self.taken += isinstance(item, Record)
            yield item
