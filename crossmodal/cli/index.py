"""``-t index``: a data set into the workspace, through the index Flow."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from crossmodal.cli.opening import open_for_writing
from crossmodal.data_sets import DataSet, open_data_set
from crossmodal.errors import CrossmodalError, DataError, StoreUnwritable
from crossmodal.records import IMAGE, Failure, Record
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

if TYPE_CHECKING:
    from flows.service import FlowService

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
    count. ``notes`` are sentences on what was passed over on purpose. ``started`` is False where the Flow
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
    workspace = Workspace(settings.workspace)
    settings = open_for_writing(settings, workspace)
    report = IndexReport(data_set.name, str(settings.workspace), str(settings.model))

    # Only now: importing jina takes a second or two.
    from flows.service import FlowService, stop_on_signals

    failed: CrossmodalError | None = None
    with stop_on_signals() as stopping:
        try:
            with FlowService("index", settings) as service:
                started = time.monotonic()
                report.started = True
                try:
                    asyncio.run(_Indexing(data_set, workspace, settings, report, stopping).through(service))
                finally:
                    report.seconds = round(time.monotonic() - started, 3)
        except CrossmodalError as error:
            failed = error
        report.finished = failed is None and not stopping.is_set()
    if failed is not None and not report.started:
        raise failed
    indexed = sum(count.added + count.replaced for count in (report.photos, report.captions))
    report.documents_per_second = round(indexed / report.seconds, 2) if report.seconds else 0.0
    report.notes = data_set.notes
    _write_report(report, settings.workspace)
    _tell(report, settings)
    if failed is not None:
        raise failed
    if not report.finished:
        print("stopped; run the same command again to go on where it ended", file=sys.stderr)
        return STOPPED_BY_SIGNAL
    return 1 if report.failures else 0


class _Indexing:
    """One run: reads the data set in a thread, sends it through the Flow, counts what comes back."""

    def __init__(
        self,
        data_set: DataSet,
        workspace: Workspace,
        settings: Settings,
        report: IndexReport,
        stopping: Event,
    ) -> None:
        self._data_set = data_set
        self._workspace = workspace
        self._settings = settings
        self._report = report
        self._stopping = stopping
        # Reading happens in a thread, counting of answers in the event loop.
        self._lock = Lock()
        self._advance: Callable[..., Any] = lambda **counts: None
        # Where a document came from, for as long as it is under way.
        self._sources: dict[str, str] = {}

    async def through(self, service: FlowService) -> None:
        """Indexes everything; raises on the first failure where the settings are strict."""
        from crossmodal.cli.present.progress import IndexProgress
        from flows.client import index_batches
        from crossmodal.flow.batches import batched_by_modality

        batches = batched_by_modality(self._new_or_changed(), self._settings.request_size)
        with IndexProgress(self._expected(), enabled=not self._settings.json) as progress:
            self._advance = progress.advance
            async for docs in index_batches(service, self._with_sources(batches)):
                for doc in docs:
                    with self._lock:
                        source = self._sources.pop(str(doc.id), str(doc.id))
                    if doc.error is None:
                        self._count(doc.modality, str(doc.outcome))
                    elif doc.aborted:
                        raise StoreUnwritable(doc.error)
                    else:
                        self._count(doc.modality, "failed")
                        self._fail(Failure(source, doc.error))

    def _expected(self) -> int | None:
        hint, limit = self._data_set.len_hint(), self._settings.num_docs
        return min(hint, limit) if hint is not None and limit is not None else hint or limit

    def _records(self) -> Iterator[Record]:
        taken = 0
        for item in self._data_set:
            if self._stopping.is_set() or taken == self._settings.num_docs:
                return
            if isinstance(item, Failure):
                with self._lock:
                    self._report.unusable += 1
                    self._advance(failed=1)
                self._fail(item)
            else:
                taken += 1
                yield item

    def _new_or_changed(self) -> Iterator[Record]:
        from crossmodal.flow.batches import batched

        for batch in batched(self._records(), self._settings.request_size):
            known = self._workspace.unchanged(batch, originals=self._settings.keep == "original")
            for record in batch:
                if record.id in known:
                    self._count(record.modality, "unchanged")
                else:
                    yield record

    def _with_sources(self, batches: Iterator[list[Record]]) -> Iterator[list[Record]]:
        for batch in batches:
            with self._lock:
                self._sources.update((record.id, _source(record)) for record in batch)
            yield batch

    def _count(self, modality: str | None, outcome: str) -> None:
        counted = self._report.photos if modality == IMAGE else self._report.captions
        with self._lock:
            setattr(counted, outcome, getattr(counted, outcome) + 1)
            self._advance(**{outcome: 1})

    def _fail(self, failure: Failure) -> None:
        with self._lock:
            self._report.failures.append(asdict(failure))
        if self._settings.strict:
            raise DataError(f"{failure.source}: {failure.reason} (--strict stops at the first failure)")


def _source(record: Record) -> str:
    if record.modality == IMAGE:
        return record.uri or record.id
    return f"{record.uri or record.photo_id or record.id}: the caption {(record.text or '')[:60]!r}"


def _write_report(report: IndexReport, workspace: Path) -> None:
    path = workspace / REPORT_FILE
    text = json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n"
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
        temporary.replace(path)
    except OSError as error:
        print(f"error: The report {path} cannot be written: {error.strerror}.", file=sys.stderr)


def _tell(report: IndexReport, settings: Settings) -> None:
    if settings.json:
        print(json.dumps(asdict(report)))
        return
    from crossmodal.cli.present.tables import print_index_report

    print_index_report(asdict(report), report_file=settings.workspace / REPORT_FILE)
