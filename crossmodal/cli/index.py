"""``index``: a data set into the workspace, through the index Flow."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from crossmodal.access.policy import mark_public
from crossmodal.cli.local_engine import engine_for
from crossmodal.cli.output import print_json
from crossmodal.cli.present.progress import IndexProgress
from crossmodal.data_sets import DataSet, open_data_set
from crossmodal.data_sets.data_set import Limits
from crossmodal.data_sets.folder import FolderOfImages
from crossmodal.engine.engine import Engine
from crossmodal.engine.indexing import Indexed
from crossmodal.engine.library import LibraryRun
from crossmodal.engine.opening import resolved_for_writing
from crossmodal.errors import (
    CrossmodalError,
    DataError,
    DataSetError,
    MissingExtra,
    ModelError,
    StoreUnwritable,
)
from crossmodal.index.embedded.writer_lock import wait_for_writer
from crossmodal.models.zoo.suggestion import better_model
from crossmodal.private_files import make_private_folder, private_opener
from crossmodal.processes import StopSignals
from crossmodal.records import IMAGE, Failure, Record
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

REPORT_FILE = "index-report.json"

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
    count. ``notes`` are sentences on what was left out on purpose, ``kept`` one on photos that stay although
    their files are gone. ``started`` is False where the Flow never ran, ``finished`` where the run was
    stopped.
    """

    data_set: str
    workspace: str
    model: str
    photos: ModalityCount = field(default_factory=ModalityCount)
    captions: ModalityCount = field(default_factory=ModalityCount)
    unusable: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kept: str | None = None
    seconds: float = 0.0
    documents_per_second: float = 0.0
    started: bool = False
    finished: bool = False


def run(settings: Settings) -> int:
    """Indexes the data set; returns 0 if nothing failed, 1 if something did, 130 if stopped by a signal."""
    data_set = _opened(settings)
    wait_for_writer(settings.workspace, settings.wait)
    failed: CrossmodalError | None = None
    with StopSignals() as signals, engine_for(settings) as engine:
        if not engine.workspace.exists() and settings.model is None:
            model = resolved_for_writing(settings, engine.workspace).model
            print(better_model(str(model), settings.model_cache), file=sys.stderr)
        report = _report(engine, data_set, settings)
        indexing = _Indexing(engine, data_set, settings, report, signals)
        try:
            indexing.through()
        except CrossmodalError as error:
            failed = error
        report.finished = failed is None and not signals.stopping
        if report.finished:
            indexing.settle()
        report.seconds = indexing.seconds
        if settings.public and report.finished:
            _mark_public(engine, settings)
    if failed is not None and (not report.started or isinstance(failed, ModelError | MissingExtra)):
        # Nothing was begun, so there is nothing to report.
        raise failed
    indexed = sum(count.added + count.replaced for count in (report.photos, report.captions))
    report.documents_per_second = round(indexed / report.seconds, 2) if report.seconds else 0.0
    report.notes = data_set.notes
    unwritable = _write_report(report, settings.workspace)
    _print(report, settings, written=unwritable is None)
    # Of a disk to which the index cannot be written either, the one sentence about that is enough.
    if unwritable is not None and not isinstance(failed, StoreUnwritable):
        print(f"error: {unwritable}", file=sys.stderr)
    if failed is not None:
        raise failed
    if not report.finished:
        print("stopped; run the same command again to go on where it ended", file=sys.stderr)
        return STOPPED_BY_SIGNAL
    if report.kept is not None:
        print(f"warning: {report.kept}", file=sys.stderr)
    return 1 if report.failures or report.kept else 0


def _opened(settings: Settings) -> DataSet:
    """The data set; of a folder that is not there or empty, the error says what becomes of its photos."""
    try:
        return open_data_set(settings.data_set, data_root=settings.data_root, split=settings.split)
    except DataSetError as error:
        folder = os.path.abspath(os.path.expanduser(settings.data_set))  # noqa: PTH100, PTH111
        with Workspace(settings.workspace) as workspace:
            library = workspace.library
            lost = 0 if library is None else library.photos_below(library.folder(folder))
        if not lost:
            raise
        if settings.delete_missing and Path(folder).is_dir():
            return FolderOfImages(settings.data_set, Path(folder), limits=Limits(), content=True)
        raise DataSetError(
            f"{error} Nothing was deleted: {lost:,} photos of it stay in the index. Mount its disk and try "
            "again; where it lies elsewhere now, say so with: crossmodal roots move "
            f"{shlex.quote(folder)} NEW; if it is gone for good: crossmodal roots remove "
            f"{shlex.quote(folder)}"
        ) from None


def index_data_set(
    engine: Engine, data_set: DataSet, settings: Settings, signals: StopSignals
) -> IndexReport:
    """Brings a data set into an index that is open; returns what became of it. Raises as ``Engine.index``."""
    report = _report(engine, data_set, settings)
    indexing = _Indexing(engine, data_set, settings, report, signals)
    indexing.through()
    if not signals.stopping:
        indexing.settle()
    return report


def _report(engine: Engine, data_set: DataSet, settings: Settings) -> IndexReport:
    model = resolved_for_writing(settings, engine.workspace).model
    return IndexReport(data_set.name, str(settings.workspace), str(model))


def _mark_public(engine: Engine, settings: Settings) -> None:
    """Lets everybody read what is indexed now; raises StoreUnwritable where that cannot be noted."""
    if (state := engine.workspace.state()) is not None:
        mark_public(settings.workspace, state)


class _Indexing:
    """One run: hands the data set's records to the engine, and counts what became of each."""

    def __init__(
        self,
        engine: Engine,
        data_set: DataSet,
        settings: Settings,
        report: IndexReport,
        signals: StopSignals,
    ) -> None:
        self._data_set = data_set
        self._run = LibraryRun(engine, data_set, settings.delete_missing, settings.verify)
        self._settings = settings
        self._report = report
        self._signals = signals
        self._started = 0.0

    @property
    def seconds(self) -> float:
        """How long the Flow has been at work."""
        return round(time.monotonic() - self._started, 3) if self._report.started else 0.0

    def through(self) -> None:
        """Indexes everything; raises DataError at the first failure where the settings are strict."""
        expected = self._data_set.expected(self._settings.num_docs)
        indexed = self._run.index(size=self._settings.request_size, take=self._taken)
        with (
            IndexProgress(expected, enabled=not self._settings.json) as progress,
            # However this ends, what is under way is finished before the engine closes.
            closing(indexed),
        ):
            for item in indexed:
                outcome, failure = self._count(item)
                shown = outcome if outcome in ("added", "replaced", "failed") else "unchanged"
                progress.advance(**{shown: 1})
                if failure is not None:
                    self._fail(failure)

    def settle(self) -> None:
        """Takes out of the index what isn't there any more, where all of the data set was to be indexed."""
        if self._settings.num_docs is None and self._settings.split is None:
            settled = self._run.settle()
            self._report.photos.deleted, self._report.captions.deleted = settled.photos, settled.captions
            self._report.kept = settled.kept

    def _taken(self, items: Iterable[Record | Failure]) -> Iterator[Record | Failure]:
        """The items, until there are as many documents as asked for or a signal comes."""
        # It is read when the Flow is there, and not before.
        self._report.started, self._started = True, time.monotonic()
        taken = 0
        for item in items:
            if self._signals.stopping or taken == self._settings.num_docs:
                return
            taken += isinstance(item, Record)
            yield item

    def _count(self, item: Indexed | Failure) -> tuple[str, Failure | None]:
        if isinstance(item, Failure):
            self._report.unusable += 1
            return "failed", item
        outcome = "failed" if item.error is not None else str(item.outcome)
        counted = self._report.photos if item.modality == IMAGE else self._report.captions
        setattr(counted, outcome, getattr(counted, outcome) + 1)
        return outcome, item.failure

    def _fail(self, failure: Failure) -> None:
        self._report.failures.append(asdict(failure))
        if self._settings.strict:
            raise DataError(f"{failure.source}: {failure.reason} (--strict stops at the first failure)")


def _write_report(report: IndexReport, workspace: Path) -> str | None:
    """Writes the report; a sentence where that is impossible."""
    path = workspace / REPORT_FILE
    temporary = path.with_suffix(".tmp")
    text = json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n"
    try:
        make_private_folder(workspace)
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape", opener=private_opener) as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        return f"The report {path} cannot be written: {error.strerror}."
    return None


def _print(report: IndexReport, settings: Settings, *, written: bool) -> None:
    if settings.json:
        print_json(asdict(report))
        return
    from crossmodal.cli.present.tables import print_index_report

    print_index_report(asdict(report), report_file=settings.workspace / REPORT_FILE if written else None)
