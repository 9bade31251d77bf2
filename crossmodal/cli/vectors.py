"""Vectors out and in: ``embed`` writes them to files, ``index --embeddings`` indexes such files."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import asdict
from itertools import chain, islice, takewhile
from pathlib import Path

from crossmodal.cli.index_run import IndexReport, expected_documents, say_stopped
from crossmodal.cli.output import print_json
from crossmodal.cli.present.console import counted
from crossmodal.cli.present.progress import IndexProgress
from crossmodal.data_sets import Limits, open_data_sets
from crossmodal.engine.vectors import embed_records, model_to_embed
from crossmodal.engine.vectors import index_vectors as stored_vectors
from crossmodal.errors import DataSetError, SettingsError
from crossmodal.processes import StopSignals
from crossmodal.settings import Settings
from crossmodal.vector_files import open_vector_files
from crossmodal.videos.formats import reads_videos
from crossmodal.workspace import Workspace

__all__ = ["embed", "index_vectors"]

# Failures that are named; all of them are in what --json prints.
_SHOWN = 10


def index_vectors(settings: Settings, path: Path, signals: StopSignals) -> IndexReport:
    """Makes documents of the index of the vectors at ``path``; returns what became of each.

    Raises as ``open_vector_files`` and ``engine.vectors.index_vectors``, and DataError at the first failure
    where the settings are strict.
    """
    files = open_vector_files(path)
    report = IndexReport(str(path), str(settings.workspace), "", started=True)
    started = time.monotonic()
    with (
        Workspace(settings.workspace) as workspace,
        IndexProgress(files.rows, enabled=not settings.json) as progress,
        closing(stored_vectors(settings, workspace, files)) as indexed,
    ):
        for item in indexed:
            outcome, failure = report.count(item)
            progress.advance(**{outcome: 1})
            if failure is not None:
                report.fail(failure, strict=settings.strict)
            if signals.stopping:
                break
        built_by = workspace.identity()
    report.model = "" if built_by is None else built_by.name
    report.end(time.monotonic() - started)
    report.finished = not signals.stopping
    return report


def embed(settings: Settings) -> int:
    """Writes the vectors of the data sets; returns 0, 1 where something failed, 130 if stopped by a signal.

    What an earlier run wrote into the same folder stays, and isn't encoded again.
    """
    if (output := settings.output) is None:
        raise SettingsError("crossmodal embed needs a folder for the vectors: --output FOLDER.")
    data_sets = open_data_sets(
        settings.data_sets,
        data_root=settings.data_root,
        stdin=sys.stdin.buffer,
        split=settings.split,
        read_as=settings.read_as,
        exclude=settings.exclude,
        limits=Limits.of(settings),
    )
    for data_set in data_sets:
        data_set.moments = settings.moments if reads_videos() else 0
        if data_set.guess is not None:
            print(data_set.guess, file=sys.stderr)
    settings = model_to_embed(settings)
    names = ", ".join(data_set.name for data_set in data_sets)
    report = IndexReport(names, str(settings.output), str(settings.model), started=True)
    expected = expected_documents(data_sets, settings.num_docs)
    started = time.monotonic()
    with StopSignals() as signals:
        items = chain.from_iterable(data_sets)
        taken = takewhile(lambda _: not signals.stopping, islice(items, settings.num_docs))
        with (
            IndexProgress(expected, enabled=not settings.json) as progress,
            closing(embed_records(settings, taken, output, settings.format)) as embedded,
        ):
            for item in embedded:
                outcome, failure = report.count(item)
                progress.advance(**{outcome: 1})
                if failure is not None:
                    report.fail(failure)
        report.finished = not signals.stopping
    report.end(time.monotonic() - started)
    return _told(report, settings)


def _told(report: IndexReport, settings: Settings) -> int:
    counts = report.photos, report.captions
    if settings.json:
        names = ("data_set", "model", "photos", "captions", "failures", "seconds", "finished")
        whole = asdict(report)
        print_json({"output": report.workspace, **{name: whole[name] for name in names}})
    else:
        photos, captions = (each.added for each in counts)
        there = sum(each.unchanged for each in counts)
        print(
            f"Wrote the vectors of {counted(photos, 'photo')} and {counted(captions, 'caption')} by "
            f"{report.model} to {report.workspace}; {there:,} were there already."
        )
        for failure in report.failures[:_SHOWN]:
            print(f"{failure['source']}: {failure['reason']}", file=sys.stderr)
        if len(report.failures) > _SHOWN:
            print(f"and {len(report.failures) - _SHOWN:,} more, which --json lists", file=sys.stderr)
    if not report.finished:
        return say_stopped()
    if not report.failures and not any(each.added + each.unchanged for each in counts):
        raise DataSetError(f"There was nothing to embed in {report.data_set}: no photo and no caption.")
    return 1 if report.failures else 0
