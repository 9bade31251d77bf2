"""What evaluations start with: the protocol, the data, and ranks, from memory or through the Flows."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.cli.local_engine import flows_for
from crossmodal.data_sets import DataSet, Limits, open_data_set
from crossmodal.engine.engine import Engine
from crossmodal.errors import DataSetError, ServiceError
from crossmodal.evaluation import encode_batches
from crossmodal.evaluation.encoding import EncodedSet, encode_records
from crossmodal.evaluation.flow_ranks import Gallery, evaluation_batches, index_gallery, rank_queries
from crossmodal.evaluation.gap import PhotoHalves
from crossmodal.evaluation.protocols import ORIGINAL, PROTOCOLS, WHOLE, Listing, Protocol, list_records
from crossmodal.evaluation.retrieval import Retrieval, Subset, directions, retrieve
from crossmodal.processes import StopSignals
from crossmodal.records import IMAGE, TEXT, Failure, Record
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

if TYPE_CHECKING:
    from crossmodal.cli.present.progress import EvaluationProgress

__all__ = [
    "chosen_protocol",
    "encode_in_halves",
    "open_listed",
    "open_one",
    "retrieve_in_memory",
    "retrieve_through_flows",
]


def chosen_protocol(settings: Settings) -> Protocol:
    """The protocol of ``--protocol``; by default ``original`` with ``-i``, and ``whole`` without."""
    if settings.protocol is not None:
        return PROTOCOLS[settings.protocol]
    return WHOLE if settings.num_indexed is None else ORIGINAL


def open_one(settings: Settings, *, content: bool = True) -> DataSet:
    """The data set of ``settings``, with its photos' bytes or without."""
    return open_data_set(
        settings.data_set,
        data_root=settings.data_root,
        split=settings.split,
        content=content,
        read_as=settings.read_as,
        exclude=settings.exclude,
        limits=Limits.of(settings),
    )


def open_listed(settings: Settings) -> tuple[DataSet, Listing]:
    """The data set, and what is in it; its photos are not read yet."""
    opened = [open_one(settings, content=content) for content in (True, False)]
    return opened[0], list_records(opened[1])


def encode_in_halves(settings: Settings, model: str) -> tuple[DataSet, EncodedSet, set[str]]:
    """The data set, its vectors, and the ids of the half of its photos that a measurement is fitted to."""
    from crossmodal.cli.present.progress import EvaluationProgress

    data_set = open_one(settings)
    halves = PhotoHalves()
    total = data_set.expected(settings.num_docs)
    with EvaluationProgress(total, enabled=not settings.json) as progress:
        encoded = encode_records(
            model,
            halves.watch(islice(data_set, settings.num_docs)),
            cache=settings.model_cache,
            trust_remote_code=settings.trust_remote_code,
            runtime=settings.runtime,
            max_pixels=settings.max_pixels,
            progress=lambda done: progress.advance(added=done - progress.done),
        )
    return data_set, encoded, halves.fitted


def retrieve_in_memory(
    settings: Settings, model: str, data_set: DataSet, folds: Sequence[Subset], listing: Listing
) -> tuple[list[dict[str, Retrieval]], list[Failure]]:
    """What each fold's queries find with the encoders of ``model`` alone, and what could not be used.

    The batches are those of the Flows, so the ranks are the same too.
    """
    from crossmodal.cli.present.progress import EvaluationProgress

    photos = frozenset(listing.photos)
    direction = settings.direction
    used = [fold.searched(direction, photos) | fold.asking(direction, photos) for fold in folds]
    unread: list[Failure] = []
    batches = (
        batch
        for fold, batch in evaluation_batches(data_set, folds, settings.request_size, unread)
        if any(record.id in used[fold] for record in batch)
    )
    with EvaluationProgress(sum(map(len, used)), enabled=not settings.json) as progress:
        encoded = encode_batches(
            model,
            batches,
            cache=settings.model_cache,
            trust_remote_code=settings.trust_remote_code,
            runtime=settings.runtime,
            max_pixels=settings.max_pixels,
            progress=lambda done: progress.advance(added=done - progress.done),
        )
    found = [retrieve(encoded, direction, fold) for fold in folds]
    return found, [*unread, *encoded.failures]


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
                scratch = replace(settings, workspace=Path(folder), keep="path")
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
            rerank_depth=None if self._settings.rerank is None else self._settings.rerank_depth,
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
