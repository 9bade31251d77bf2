"""How well a model retrieves, measured with its encoders and an exact ranking in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crossmodal.errors import DataSetError
from crossmodal.evaluation.encoding import EncodedSet, encode_records
from crossmodal.evaluation.retrieval import Direction, Subset, report, retrieve
from crossmodal.records import Failure, Record

__all__ = ["evaluate", "evaluate_encoded"]


def evaluate(
    model: str,
    records: Iterable[Record | Failure],
    *,
    direction: Direction = "both",
    threads: int | None = None,
    cache: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Retrieve each caption's photo among all photos and each photo's captions among all captions.

    ``records`` holds photos with ``content`` and captions with ``photo_id``; relevance goes by that id.
    Photos and captions without a counterpart stay in the gallery and are no queries. ``progress`` is called
    with the number of records that have been encoded. Returns and raises as ``evaluate_encoded`` does.
    """
    encoded = encode_records(model, records, threads=threads, cache=cache, progress=progress)
    return evaluate_encoded(encoded, direction)


def evaluate_encoded(
    encoded: EncodedSet, direction: Direction = "both", subsets: Sequence[Subset | None] = (None,)
) -> dict[str, Any]:
    """The same of vectors that are there already, over everything or over ``subsets``, the folds.

    Returns, ready for JSON, what ``retrieval.report`` says; ``model``; and ``failures``, the records that
    could not be used. Raises DataSetError where no caption belongs to any photo.
    """
    if not set(encoded.photos.photos) & set(encoded.captions.photos):
        raise DataSetError(
            f"There is nothing to evaluate: of {len(encoded.captions.ids)} captions none belongs to one of "
            f"the {len(encoded.photos.ids)} photos."
        )
    return {
        "model": encoded.model,
        **report([retrieve(encoded, direction, subset) for subset in subsets]),
        "failures": [asdict(failure) for failure in encoded.failures],
    }
