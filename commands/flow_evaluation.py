"""The ranks of an evaluation through both Flows, over an index that is made for it and then removed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from commands.opening import open_for_reading, open_for_writing
from crossmodal.data_sets import DataSet
from crossmodal.errors import ServiceError
from crossmodal.evaluation import Direction, Retrieval, Subset
from crossmodal.evaluation.retrieval import directions
from crossmodal.records import IMAGE, TEXT, Failure, Modality, Record
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

if TYPE_CHECKING:
    from commands.present.evaluation import EvaluationProgress
    from flows.evaluation import Gallery

__all__ = ["documents_expected", "retrieve_through_flows"]

# What each direction searches, and what asks.
_SEARCHED: dict[str, Modality] = {"text2image": IMAGE, "image2text": TEXT}
_ASKING: dict[str, Modality] = {"text2image": TEXT, "image2text": IMAGE}


def retrieve_through_flows(
    settings: Settings, data_set: DataSet, folds: Sequence[Subset], progress: EvaluationProgress
) -> tuple[list[dict[str, Retrieval]], list[Failure]]:
    """Indexes each fold's gallery into a scratch workspace of its own, and asks its queries there.

    The workspace is a temporary folder and is removed however this ends. Raises KeyboardInterrupt after
    SIGINT or SIGTERM, and what the Flows raise.
    """
    from flows.service import stop_on_signals

    found: list[dict[str, Retrieval]] = []
    failures: dict[tuple[str, str], Failure] = {}
    with stop_on_signals() as stopping:
        for number in range(len(folds)):
            with tempfile.TemporaryDirectory(prefix="crossmodal-evaluate-") as folder:
                # Nobody looks at the photos of this index.
                scratch = replace(settings, workspace=Path(folder), keep="uri")
                fold = _Fold(scratch, data_set, folds, number, stopping, progress)
                ranked, failed = fold.run()
            found.append(ranked)
            # A photo that cannot be used fails in the index, and again as a query.
            failures |= {(failure.source, failure.reason): failure for failure in failed}
    return found, list(failures.values())


def documents_expected(folds: Sequence[Subset], photos: frozenset[str], direction: Direction) -> int:
    """How many documents go through the two Flows together; ``photos`` are the ids of all photos."""
    total = 0
    for name in directions(direction):
        for fold in folds:
            searched = len(fold.gallery & photos)
            asking = len(fold.queries & photos)
            total += searched if _SEARCHED[name] == IMAGE else len(fold.gallery) - searched
            total += asking if _ASKING[name] == IMAGE else len(fold.queries) - asking
    return total


class _Fold:
    """One fold: an index Flow over its gallery, then a query Flow over its queries."""

    def __init__(
        self,
        settings: Settings,
        data_set: DataSet,
        folds: Sequence[Subset],
        number: int,
        stopping: Event,
        progress: EvaluationProgress,
    ) -> None:
        self._settings = settings
        self._data_set = data_set
        self._folds = folds
        self._number = number
        self._stopping = stopping
        self._progress = progress
        names = directions(settings.direction)  # type: ignore[arg-type]  # as the parser checks
        self._searched = [_SEARCHED[name] for name in names]
        self._asking = [_ASKING[name] for name in names]
        self._unread: list[Failure] = []

    def run(self) -> tuple[dict[str, Retrieval], list[Failure]]:
        """What the queries found, and the failures on the way."""
        from flows.evaluation import index_gallery, rank_queries
        from flows.service import FlowService

        workspace = Workspace(self._settings.workspace)
        fold = self._folds[self._number]
        settings = open_for_writing(self._settings, workspace)
        self._progress.stage = "indexing"
        with FlowService("index", settings) as service:
            gallery, failures = asyncio.run(
                index_gallery(service, self._batches(self._searched, fold.gallery), progress=self._advance)
            )
        self._require_whole(workspace, gallery)
        settings = open_for_reading(settings, workspace)
        self._progress.stage = "asking"
        with FlowService("query", settings) as service:
            found, more = asyncio.run(
                rank_queries(
                    service,
                    self._batches(self._asking, fold.queries),
                    gallery,
                    fold.queries,
                    asking=self._asking,
                    progress=self._advance,
                )
            )
        self._raise_if_stopped()
        return found, [*self._unread, *failures, *more]

    def _batches(self, modalities: Sequence[Modality], ids: frozenset[str]) -> Iterator[list[Record]]:
        """The batches of these modalities that hold any of ``ids``."""
        from flows.evaluation import evaluation_batches

        self._unread.clear()
        size = self._settings.request_size
        for number, batch in evaluation_batches(self._data_set, self._folds, size, self._unread):
            if self._stopping.is_set():
                return
            wanted = number == self._number and batch[0].modality in modalities
            if wanted and any(record.id in ids for record in batch):
                yield batch

    def _advance(self, done: int, failed: int) -> None:
        self._progress.advance(added=done, failed=failed)

    def _require_whole(self, workspace: Workspace, gallery: Gallery) -> None:
        """Raises ServiceError where the index holds something that it never acknowledged."""
        self._raise_if_stopped()
        held = workspace.status()["modalities"]
        for modality, side in ((IMAGE, gallery.photos), (TEXT, gallery.captions)):
            acknowledged = sum(map(len, side.values()))
            if held[modality]["vectors"] != acknowledged:
                raise ServiceError(
                    f"The index holds {held[modality]['vectors']:,} vectors of the modality {modality}, but "
                    f"{acknowledged:,} were acknowledged, so the ranks would be wrong. Use --direct."
                )

    def _raise_if_stopped(self) -> None:
        if self._stopping.is_set():
            raise KeyboardInterrupt
