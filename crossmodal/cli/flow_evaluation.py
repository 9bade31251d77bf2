"""The ranks of an evaluation through an engine, over an index that is made for it and then removed."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.cli.engine_of import flows_for
from crossmodal.data_sets import DataSet
from crossmodal.engine.engine import Engine
from crossmodal.errors import DataSetError, ServiceError
from crossmodal.evaluation.flow_ranks import Gallery, evaluation_batches, index_gallery, rank_queries
from crossmodal.evaluation.retrieval import Retrieval, Subset, directions
from crossmodal.processes import StopSignals
from crossmodal.records import IMAGE, TEXT, Failure, Record
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

if TYPE_CHECKING:
    from crossmodal.cli.present.progress import EvaluationProgress

__all__ = ["retrieve_through_flows"]


def retrieve_through_flows(
    settings: Settings,
    data_set: DataSet,
    photos: Collection[str],
    folds: Sequence[Subset],
    progress: EvaluationProgress,
) -> tuple[list[dict[str, Retrieval]], list[Failure]]:
    """Indexes each fold's gallery into a scratch workspace of its own, and asks its queries there.

    ``photos`` are the ids of all photos, and ``settings.direction`` says what is searched and what asks. The
    workspace is a temporary folder and is removed however this ends. Raises KeyboardInterrupt after
    SIGINT or SIGTERM, and what the Flows raise.
    """
    # One for all folds, so that the model is loaded once.
    open_flow = flows_for(settings)
    found: list[dict[str, Retrieval]] = []
    failures: dict[tuple[str, str], Failure] = {}
    with StopSignals() as signals:
        for number in range(len(folds)):
            with tempfile.TemporaryDirectory(prefix="crossmodal-evaluate-") as folder:
                # No photo of this index is ever shown.
                scratch = replace(settings, workspace=Path(folder), keep="uri")
                with Engine(scratch, open_flow=open_flow) as engine:
                    fold = _Fold(engine, scratch, data_set, photos, folds, number, signals, progress)
                    ranked, failed = fold.run()
            found.append(ranked)
            # A photo that cannot be used fails in the index, and again as a query.
            failures |= {(failure.source, failure.reason): failure for failure in failed}
    return found, list(failures.values())


class _Fold:
    """One fold: its gallery is indexed, then its queries ask."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        data_set: DataSet,
        photos: Collection[str],
        folds: Sequence[Subset],
        number: int,
        signals: StopSignals,
        progress: EvaluationProgress,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._data_set = data_set
        self._folds = folds
        self._number = number
        self._signals = signals
        self._progress = progress
        self._directions = directions(settings.direction)
        self._searched = folds[number].searched(settings.direction, photos)
        self._asking = folds[number].asking(settings.direction, photos)
        self._unread: list[Failure] = []

    def run(self) -> tuple[dict[str, Retrieval], list[Failure]]:
        """What the queries found, and the failures on the way."""
        self._progress.stage = "indexing"
        gallery, failures = index_gallery(self._engine, self._batches(self._searched), progress=self._advance)
        self._raise_if_stopped()
        if not gallery.photos and not gallery.captions:
            raise DataSetError(_nothing_indexed([*self._unread, *failures]))
        _require_whole(self._engine.workspace, gallery)
        self._progress.stage = "asking"
        found, more = rank_queries(
            self._engine,
            self._batches(self._asking),
            gallery,
            self._asking,
            directions=self._directions,
            progress=self._advance,
        )
        self._raise_if_stopped()
        return found, [*self._unread, *failures, *more]

    def _batches(self, ids: frozenset[str]) -> Iterator[list[Record]]:
        """The fold's batches that hold any of ``ids``, until a signal comes."""
        self._unread.clear()
        size = self._settings.request_size
        for number, batch in evaluation_batches(self._data_set, self._folds, size, self._unread):
            if self._signals.stopping:
                return
            if number == self._number and any(record.id in ids for record in batch):
                yield batch

    def _advance(self, done: int, failed: int) -> None:
        self._progress.advance(added=done, failed=failed)

    def _raise_if_stopped(self) -> None:
        if self._signals.stopping:
            raise KeyboardInterrupt


def _nothing_indexed(failures: Sequence[Failure]) -> str:
    first = f" The first failure: {failures[0].source}: {failures[0].reason}" if failures else ""
    return f"There is nothing to evaluate: no document could be indexed.{first}"


def _require_whole(workspace: Workspace, gallery: Gallery) -> None:
    """Raises ServiceError where the index holds something that it never acknowledged."""
    held = workspace.status()["modalities"]
    for modality, side in ((IMAGE, gallery.photos), (TEXT, gallery.captions)):
        acknowledged = sum(map(len, side.values()))
        vectors = held[modality]["vectors"]
        if vectors != acknowledged:
            raise ServiceError(
                f"The index holds {vectors:,} vectors of the modality {modality}, but {acknowledged:,} were "
                "acknowledged, so ranks would be counted wrongly. Use --direct."
            )
