"""``index``: a data set into the workspace, through the index Flow."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from crossmodal.access.policy import mark_public
from crossmodal.cli.local_engine import engine_for
from crossmodal.cli.output import print_json
from crossmodal.cli.present.progress import IndexProgress
from crossmodal.data_sets import DataSet, open_data_set
from crossmodal.engine.engine import Engine
from crossmodal.engine.indexing import Indexed
from crossmodal.engine.opening import resolved_for_writing
from crossmodal.errors import CrossmodalError, DataError, MissingExtra, ModelError, StoreUnwritable
from crossmodal.index.embedded.writer_lock import wait_for_writer
from crossmodal.models.zoo.suggestion import better_model
from crossmodal.private_files import make_private_folder, private_opener
from crossmodal.processes import StopSignals
from crossmodal.records import IMAGE, Failure, Record
from crossmodal.settings import Settings

REPORT_FILE = "index-report.json"

STOPPED_BY_SIGNAL = 130


@dataclass
class ModalityCount:
    """How many documents of one modality were new, changed, already there, and failed in the Flow."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    failed: int = 0


@dataclass
class IndexReport:
    """What one run of indexing did; also the contents of ``index-report.json``.

    ``unusable`` counts files and rows that gave no document at all. ``failures`` holds every failure with
    ``source`` and ``reason``: those, and the documents that ``photos.failed`` and ``captions.failed``
    count. ``notes`` are sentences on what was left out on purpose. ``started`` is False where the Flow
    never ran, ``finished`` where the run was stopped.
    """

    data_set: str
    workspace: str
    model: str
    photos: ModalityCount = field(default_factory=ModalityCount)
    captions: ModalityCount = field(default_factory=ModalityCount)
    unusable: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    documents_per_second: float = 0.0
    started: bool = False
    finished: bool = False


def run(settings: Settings) -> int:
    """Indexes the data set; returns 0 if nothing failed, 1 if something did, 130 if stopped by a signal."""
    data_set = open_data_set(settings.data_set, data_root=settings.data_root, split=settings.split)
    wait_for_writer(settings.workspace, settings.wait)
    failed: CrossmodalError | None = None
    with StopSignals() as signals, engine_for(settings) as engine:
        new = not engine.workspace.exists()
        model = resolved_for_writing(settings, engine.workspace).model
        if new and settings.model is None:
            print(better_model(str(model), settings.model_cache), file=sys.stderr)
        report = IndexReport(data_set.name, str(settings.workspace), str(model))
        indexing = _Indexing(data_set, settings, report, signals)
        try:
            indexing.through(engine)
        except CrossmodalError as error:
            failed = error
        report.seconds = indexing.seconds
        report.finished = failed is None and not signals.stopping
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
    return 1 if report.failures else 0


def _mark_public(engine: Engine, settings: Settings) -> None:
    """Lets everybody read what is indexed now; raises StoreUnwritable where that cannot be noted."""
    if (state := engine.workspace.state()) is not None:
        mark_public(settings.workspace, state)


class _Indexing:
    """One run: hands the data set's records to the engine, and counts what became of each."""

    def __init__(
        self, data_set: DataSet, settings: Settings, report: IndexReport, signals: StopSignals
    ) -> None:
        self._data_set = data_set
        self._settings = settings
        self._report = report
        self._signals = signals
        self._started = 0.0

    @property
    def seconds(self) -> float:
        """How long the Flow has been at work."""
        return round(time.monotonic() - self._started, 3) if self._report.started else 0.0

    def through(self, engine: Engine) -> None:
        """Indexes everything; raises DataError at the first failure where the settings are strict."""
        expected = self._data_set.expected(self._settings.num_docs)
        indexed = engine.index(self._items(), size=self._settings.request_size)
        with (
            IndexProgress(expected, enabled=not self._settings.json) as progress,
            # However this ends, what is under way is finished before the engine closes.
            closing(indexed),
        ):
            for item in indexed:
                outcome, failure = self._count(item)
                progress.advance(**{outcome: 1})
                if failure is not None:
                    self._fail(failure)

    def _items(self) -> Iterator[Record | Failure]:
        """The data set, until there are as many documents as asked for or a signal comes."""
        # It is read when the Flow is there, and not before.
        self._report.started, self._started = True, time.monotonic()
        taken = 0
        for item in self._data_set:
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
