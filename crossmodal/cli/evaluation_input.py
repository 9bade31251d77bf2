"""What evaluations start with: the protocol, the data, and vectors or ranks in memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from crossmodal.data_sets import DataSet, open_data_set
from crossmodal.evaluation import Subset, encode_batches
from crossmodal.evaluation.encoding import EncodedSet, encode_records
from crossmodal.evaluation.flow_ranks import evaluation_batches
from crossmodal.evaluation.gap import PhotoHalves
from crossmodal.evaluation.protocols import ORIGINAL, PROTOCOLS, WHOLE, Listing, Protocol, list_records
from crossmodal.evaluation.retrieval import Retrieval, retrieve
from crossmodal.records import Failure
from crossmodal.settings import Settings

__all__ = ["chosen_protocol", "encode_in_halves", "open_listed", "retrieve_in_memory"]


def chosen_protocol(settings: Settings) -> Protocol:
    """The protocol of ``--protocol``; by default ``original`` with ``-i``, and ``whole`` without."""
    if settings.protocol is not None:
        return PROTOCOLS[settings.protocol]
    return WHOLE if settings.num_indexed is None else ORIGINAL


def open_listed(settings: Settings) -> tuple[DataSet, Listing]:
    """The data set, and what is in it; its photos are not read yet."""
    opened = [
        open_data_set(settings.data_set, data_root=settings.data_root, split=settings.split, content=content)
        for content in (True, False)
    ]
    return opened[0], list_records(opened[1])


def encode_in_halves(settings: Settings, model: str) -> tuple[DataSet, EncodedSet, set[str]]:
    """The data set, its vectors, and the ids of the half of its photos that a measurement is fitted to."""
    from crossmodal.cli.present.progress import EvaluationProgress

    data_set = open_data_set(settings.data_set, data_root=settings.data_root, split=settings.split)
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
