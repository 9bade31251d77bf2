"""``index``: data sets into the workspace, through the index Flow."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.access.policy import mark_public
from crossmodal.addresses import is_address
from crossmodal.cli.index_run import STOPPED_BY_SIGNAL, IndexReport, IndexRun, say_stopped
from crossmodal.cli.local_engine import engine_for
from crossmodal.cli.output import print_json
from crossmodal.cli.text_reading import read_waiting_texts
from crossmodal.cli.vectors import index_vectors
from crossmodal.data_sets import DataSet, Limits, open_data_sets
from crossmodal.data_sets.folder import FolderOfImages
from crossmodal.engine.engine import Engine
from crossmodal.engine.opening import resolved_for_writing
from crossmodal.errors import (
    CrossmodalError,
    DataSetError,
    MissingExtra,
    ModelError,
    StoreUnwritable,
)
from crossmodal.index.embedded.writer_lock import wait_for_writer
from crossmodal.models.recommendation import better_model
from crossmodal.private_files import make_private_folder, private_opener
from crossmodal.processes import StopSignals
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

if TYPE_CHECKING:
    from crossmodal.bulk.on_ray import RayReader

REPORT_FILE = "index-report.json"


def run(settings: Settings) -> int:
    """Indexes the data sets; returns 0 if nothing failed, 1 if something did, 130 if stopped by a signal."""
    if settings.embeddings is not None:
        return _index_vectors(settings, settings.embeddings)
    data_sets, missing = open_all(settings)
    wait_for_writer(settings.workspace, settings.wait)
    failed: CrossmodalError | None = None
    with StopSignals() as signals, engine_for(settings) as engine:
        indexing = IndexRun(engine, data_sets, settings, signals)
        reader = _reader(settings, engine, data_sets) if settings.on == "ray" else None
        report = indexing.report
        report.kept += missing
        if settings.model is None and not engine.workspace.exists():
            print(better_model(report.model, settings.model_cache), file=sys.stderr)
        try:
            indexing.through()
        except CrossmodalError as error:
            failed = error
        finally:
            if reader is not None:
                reader.close()
        if settings.public and report.finished:
            _mark_public(engine, settings)
    if failed is not None and (not report.started or isinstance(failed, ModelError | MissingExtra)):
        # Nothing was begun, so there is nothing to report.
        raise failed
    unwritable = _write_report(report, settings.workspace)
    _print(report, settings, written=unwritable is None)
    # Of a disk to which the index cannot be written either, the one sentence about that is enough.
    if unwritable is not None and not isinstance(failed, StoreUnwritable):
        print(f"error: {unwritable}", file=sys.stderr)
    if failed is not None:
        raise failed
    if not report.finished:
        return say_stopped()
    for sentence in report.kept:
        print(f"warning: {sentence}", file=sys.stderr)
    if indexing.taken == 0 and not report.failures and not report.photos.deleted:
        raise DataSetError(f"There was nothing to index in {report.data_set}: no photo and no caption.")
    if not read_waiting_texts(settings):
        print("stopped; the next `index` goes on with the text in photos", file=sys.stderr)
        return STOPPED_BY_SIGNAL
    return 1 if report.failures or report.kept else 0


def _reader(settings: Settings, engine: Engine, data_sets: Sequence[DataSet]) -> RayReader:
    """Has the data sets read and encoded by Ray."""
    from crossmodal.bulk.on_ray import RayReader

    library = engine.workspace.library
    reader = RayReader(
        resolved_for_writing(settings, engine.workspace),
        () if library is None else library.digests(),
        originals=engine.keeps_originals,
    )
    for data_set in data_sets:
        data_set.reader = reader
    return reader


def _index_vectors(settings: Settings, path: Path) -> int:
    """Indexes vectors that are there, as the files at ``path`` have them; returns as ``run``."""
    wait_for_writer(settings.workspace, settings.wait)
    with StopSignals() as signals:
        report = index_vectors(settings, path, signals)
    unwritable = _write_report(report, settings.workspace)
    _print(report, settings, written=unwritable is None)
    if unwritable is not None:
        print(f"error: {unwritable}", file=sys.stderr)
    if not report.finished:
        return say_stopped()
    return 1 if report.failures else 0


class _FolderMissing(DataSetError):
    """A folder that was indexed before is not there, or has nothing."""


def open_all(settings: Settings) -> tuple[list[DataSet], list[str]]:
    """The data sets, and a sentence on each folder of the index that isn't there while others are.

    Says what was guessed of each, before anything is read. Raises DataSetError.
    """
    opened, missing = [], list[str]()
    for name in dict.fromkeys(settings.data_sets):
        try:
            opened.append(_open(name, settings))
        except _FolderMissing as error:
            missing.append(str(error))
    if not opened:
        raise DataSetError(" ".join(missing))
    for data_set in opened:
        if data_set.guess is not None:
            print(data_set.guess, file=sys.stderr)
    return opened, missing


def _open(name: str, settings: Settings) -> DataSet:
    """One data set; of a folder that is not there or empty, the error says what becomes of its photos."""
    try:
        (opened,) = open_data_sets(
            (name,),
            data_root=settings.data_root,
            stdin=sys.stdin.buffer,
            split=settings.split,
            read_as=settings.read_as,
            exclude=settings.exclude,
            null=settings.null,
            limits=Limits.of(settings),
        )
        return opened
    except DataSetError as error:
        folder = name.rstrip("/") if is_address(name) else os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111
        with Workspace(settings.workspace) as workspace:
            library = workspace.library
            root = None if library is None else library.folder(folder)
            lost = 0 if library is None or root is None else library.photos_below(root)
        if not lost:
            raise
        if settings.delete_missing and Path(folder).is_dir():
            limits = Limits.of(settings)
            return FolderOfImages(name, Path(folder), limits=limits, content=True, exclude=settings.exclude)
        raise _FolderMissing(
            f"{error} Nothing was deleted: {lost:,} photos of it stay in the index. Mount its disk and try "
            "again; where it lies elsewhere now, say so with: crossmodal roots move "
            f"{shlex.quote(folder)} NEW; if it is gone for good: crossmodal roots remove "
            f"{shlex.quote(folder)}"
        ) from None


def _mark_public(engine: Engine, settings: Settings) -> None:
    """Lets everybody read what is indexed now; raises StoreUnwritable where that cannot be noted."""
    if (state := engine.workspace.state()) is not None:
        mark_public(settings.workspace, state)


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
