"""How well a model retrieves, from its embeddings in memory, and the report over any ranks.

The ranks come from embeddings in memory (``retrieve``) or from an index (``flow_ranks``). The metrics are
made of them in one place, so that both ways give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crossmodal.errors import DataSetError
from crossmodal.evaluation.encoding import EncodedSet, EncodedSide, encode_records
from crossmodal.evaluation.metrics import (
    LEVEL,
    ROUNDS,
    SEED,
    TIE_RULE,
    Ranks,
    bootstrap,
    intervals,
    ranks_of_relevant,
    summarize,
)
from crossmodal.records import Failure, Record
from crossmodal.settings import DIRECTIONS, Direction

__all__ = [
    "DIRECTIONS",
    "Direction",
    "Retrieval",
    "Subset",
    "directions",
    "evaluate",
    "evaluate_encoded",
    "report",
    "retrieve",
]


@dataclass(frozen=True, slots=True)
class Subset:
    """The ids of the photos and captions that are searched (``gallery``), and of the queries."""

    gallery: frozenset[str]
    queries: frozenset[str]

    def searched(self, direction: Direction, photos: Collection[str]) -> frozenset[str]:
        """What ``direction`` searches, where ``photos`` are the ids of all photos."""
        return _of_direction(self.gallery, direction, photos, photos_in="text2image")

    def asking(self, direction: Direction, photos: Collection[str]) -> frozenset[str]:
        """The queries in ``direction``."""
        return _of_direction(self.queries, direction, photos, photos_in="image2text")


@dataclass(frozen=True, slots=True)
class Retrieval:
    """One direction over one gallery of ``gallery`` items.

    ``ranks`` holds for each query that has a relevant item in the gallery the ranks of those, ascending;
    ``photos`` the id of each query's photo; both in the order of the queries' ids. ``plain`` are the ranks by
    cosine alone, None where no hubness is taken off.
    """

    gallery: int
    ranks: tuple[Ranks, ...]
    photos: tuple[str, ...]
    plain: tuple[Ranks, ...] | None = None


def _of_direction(
    ids: frozenset[str], direction: Direction, photos: Collection[str], *, photos_in: str
) -> frozenset[str]:
    if direction == "both":
        return ids
    return frozenset(id for id in ids if (id in photos) == (direction == photos_in))


def directions(direction: Direction) -> tuple[str, ...]:
    """``both`` as its two parts, any other as itself."""
    return ("text2image", "image2text") if direction == "both" else (direction,)


def retrieve(
    encoded: EncodedSet, direction: Direction = "both", subset: Subset | None = None
) -> dict[str, Retrieval]:
    """Ranks each caption's photo among the photos, and each photo's captions among the captions, exactly.

    Without a ``subset`` everything is gallery and query. What has no counterpart in the gallery
    stays in the gallery and is no query.
    """
    found = {}
    for name in directions(direction):
        asking, searched = (
            (encoded.captions, encoded.photos) if name == "text2image" else (encoded.photos, encoded.captions)
        )
        if subset is not None:
            asking, searched = _among(asking, subset.queries), _among(searched, subset.gallery)
        asking = _answerable(asking, frozenset(searched.photos))
        plain = None
        if searched.hubness is not None:
            plain = tuple(_ranks(asking, replace(searched, hubness=None)))
        found[name] = Retrieval(len(searched.ids), tuple(_ranks(asking, searched)), asking.photos, plain)
    return found


def _ranks(asking: EncodedSide, searched: EncodedSide) -> list[Ranks]:
    if not asking.ids:
        return []
    return ranks_of_relevant(
        asking.vectors, searched.vectors, asking.photos, searched.photos, searched.hubness
    )


def report(folds: Sequence[Mapping[str, Retrieval]]) -> dict[str, Any]:
    """The metrics of ``metrics.summarize`` for each direction, ready for JSON; over several folds their mean.

    Each direction has 95% bootstrap intervals (``bootstrap``) under ``intervals``, and with several folds
    each one's metrics under ``folds``. ``gallery`` says how many items were searched in each direction (in
    the largest fold), ``queries`` how many queries there were (in all folds); ``tie_rule`` and ``bootstrap``
    how it was done. ``by_cosine`` has the metrics of each direction by cosine alone, where hubness is taken
    off.

    Raises DataSetError where a direction has no query with a relevant item.
    """
    result: dict[str, Any] = {}
    for name in folds[0]:
        parts = [fold[name] for fold in folds]
        for part in parts:
            if not part.ranks:
                raise DataSetError(
                    f"There is nothing to evaluate {name} with: no query has its counterpart among the "
                    f"{part.gallery:,} that are searched."
                )
        result[name] = _direction(parts)
    plain = {name: _plain([fold[name] for fold in folds]) for name in folds[0]}
    if any(plain.values()):
        result["by_cosine"] = plain
    return {
        **result,
        "gallery": {name: max(fold[name].gallery for fold in folds) for name in folds[0]},
        "queries": {name: sum(len(fold[name].ranks) for fold in folds) for name in folds[0]},
        "tie_rule": TIE_RULE,
        "bootstrap": {"rounds": ROUNDS, "level": LEVEL, "seed": SEED, "resampled": "photos"},
    }


def _direction(parts: Sequence[Retrieval]) -> dict[str, Any]:
    each = [summarize(part.ranks) for part in parts]
    # A seed of its own for each: folds are drawn independently of each other.
    samples = [bootstrap(part.ranks, part.photos, seed=SEED + number) for number, part in enumerate(parts)]
    means = {metric: float(np.mean([fold[metric] for fold in each])) for metric in each[0]}
    drawn = {metric: np.mean([sample[metric] for sample in samples], axis=0) for metric in each[0]}
    per_fold = {"folds": each} if len(parts) > 1 else {}
    return {**means, "intervals": intervals(drawn), **per_fold}


def _plain(parts: Sequence[Retrieval]) -> dict[str, Any] | None:
    """The metrics by cosine alone; None where that is all there is."""
    if any(part.plain is None for part in parts):
        return None
    return _direction([replace(part, ranks=part.plain or (), plain=None) for part in parts])


def _among(side: EncodedSide, ids: Collection[str]) -> EncodedSide:
    return side.rows([row for row, id in enumerate(side.ids) if id in ids])


def _answerable(side: EncodedSide, photos: Collection[str]) -> EncodedSide:
    return side.rows([row for row, photo in enumerate(side.photos) if photo in photos])


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
