"""``-t index``: a data set into the workspace, through the index Flow."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event

from crossmodal.workspace import Workspace

from crossmodal.data_sets import DataSet, open_data_set
from crossmodal.errors import CrossmodalError, DataError, StoreUnwritable
from crossmodal.models import identify_model
from crossmodal.records import IMAGE, Failure, Record
from crossmodal.settings import Settings

REPORT_FILE = "index-report.json"

# A person reads the first few; all of them are in the report.
_FAILURES_SHOWN = 20


@dataclass
class ModalityCount:
    """How many documents of one modality were indexed (new or changed), already there, and failed."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    failed: int = 0


@dataclass
class IndexReport:
    """What one run of indexing did; also the contents of ``index-report.json``."""

    data_set: str
    workspace: str
    model: str
    photos: ModalityCount = field(default_factory=ModalityCount)
    captions: ModalityCount = field(default_factory=ModalityCount)
    failures: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    documents_per_second: float = 0.0
    finished: bool = False

    def count(self, modality: str | None, outcome: str) -> None:
        """Counts one document."""
        counted = self.photos if modality == IMAGE else self.captions
        setattr(counted, outcome, getattr(counted, outcome) + 1)


def run(settings: Settings) -> int:
    """Indexes the data set; returns 0 if nothing failed, 1 if something did, 130 if stopped by a signal."""
    workspace = Workspace(settings.workspace)
    model = resolve_model(settings, workspace)
    workspace.check_shards(settings.shards)
    data_set = open_data_set(settings.data_set, data_root=settings.data_root, split=settings.split)
    workspace.require_writable()
    report = IndexReport(data_set.name, str(settings.workspace), model)

    # Only now: importing jina takes a second or two.
    from flows.service import FlowService, stop_on_signals

    started = time.monotonic()
    failed: CrossmodalError | None = None
    with stop_on_signals() as stopping:
        try:
            with FlowService("index", settings, model) as service:
                started = time.monotonic()
                asyncio.run(_index(service, data_set, workspace, settings, report, stopping))
        except CrossmodalError as error:
            failed = error
        report.seconds = round(time.monotonic() - started, 3)
        done = sum(c.added + c.replaced for c in (report.photos, report.captions))
        report.documents_per_second = round(done / report.seconds, 2) if report.seconds else 0.0
        report.finished = failed is None and not stopping.is_set()
        _write_report(report, settings.workspace)
        _tell(report, settings)
        if failed is not None:
            raise failed
        if stopping.is_set():
            print("stopped; run the same command again to go on where it ended", file=sys.stderr)
            return 130
    return 1 if report.failures else 0


def resolve_model(settings: Settings, workspace: Workspace) -> str:
    """The model to use: the one asked for, else the one that built the index, else ``vse``.

    Raises ModelMismatch where another model than the one asked for built the index.
    """
    built_by = workspace.identity()
    model = settings.model or (built_by.name if built_by else "vse")
    workspace.check_model(identify_model(model, cache=settings.model_cache.expanduser()))
    return model


async def _index(
    service: object,
    data_set: DataSet,
    workspace: Workspace,
    settings: Settings,
    report: IndexReport,
    stopping: Event,
) -> None:
    from commands.present.progress import IndexProgress
    from executors.steps import ABORTED
    from flows.client import batched, index_batches

    total = data_set.len_hint()
    if settings.num_docs is not None:
        total = settings.num_docs if total is None else min(total, settings.num_docs)
    with IndexProgress(total, enabled=not settings.json) as progress:

        def fail(failure: Failure, modality: str | None) -> None:
            report.failures.append(asdict(failure))
            report.count(modality, "failed")
            progress.advance(failed=1)
            if settings.strict:
                raise DataError(f"{failure.source}: {failure.reason} (--strict stops at the first failure)")

        def new_or_changed() -> Iterator[Record]:
            for batch in batched(_records(data_set, settings, stopping, fail), settings.request_size):
                known = workspace.unchanged(batch)
                for record in batch:
                    if record.id in known:
                        report.count(record.modality, "unchanged")
                progress.advance(unchanged=len(known))
                yield from (record for record in batch if record.id not in known)

        # Where a document came from, for as long as it is under way.
        sources: dict[str, str] = {}

        def batches() -> Iterator[list[Record]]:
            for batch in batched(new_or_changed(), settings.request_size):
                sources.update((record.id, _source(record)) for record in batch)
                yield batch

        async for docs in index_batches(service, batches()):  # type: ignore[arg-type]
            for doc in docs:
                source = sources.pop(str(doc.id), str(doc.id))
                if doc.error is None:
                    report.count(doc.modality, str(doc.outcome))
                    progress.advance(**{str(doc.outcome): 1})
                elif doc.outcome == ABORTED:
                    raise StoreUnwritable(doc.error)
                else:
                    fail(Failure(source, doc.error), doc.modality)
    report.notes.extend(data_set.notes())


def _records(data_set: DataSet, settings: Settings, stopping: Event, fail: object) -> Iterator[Record]:
    taken = 0
    for item in data_set:
        if stopping.is_set() or (settings.num_docs is not None and taken >= settings.num_docs):
            return
        if isinstance(item, Failure):
            fail(item, IMAGE)  # type: ignore[operator]
        else:
            taken += 1
            yield item


def _source(record: Record) -> str:
    if record.modality == IMAGE:
        return record.uri or record.id
    return f"{record.uri or record.id}: caption {record.text!r:.60}"


def _write_report(report: IndexReport, workspace: Path) -> None:
    path = workspace / REPORT_FILE
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(
            json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        temporary.replace(path)
    except OSError as error:
        raise StoreUnwritable(f"The report {path} cannot be written: {error.strerror}.") from None


def _tell(report: IndexReport, settings: Settings) -> None:
    if settings.json:
        print(json.dumps(asdict(report), ensure_ascii=False))
        return
    from commands.present.tables import print_index_report

    print_index_report(
        asdict(report), failures_shown=_FAILURES_SHOWN, report_file=settings.workspace / REPORT_FILE
    )
