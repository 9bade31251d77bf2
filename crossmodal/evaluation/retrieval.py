"""What one direction of a search found, and the numbers that follow from it.

The ranks come from vectors in memory here (``retrieve``) or from an index (``flow_ranks``); the
metrics are made of them in one place, so that both ways give the same numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossmodal.errors import DataSetError
from crossmodal.evaluation.bootstrap import LEVEL, ROUNDS, SEED, bootstrap, intervals
from crossmodal.evaluation.encoding import EncodedSet, EncodedSide
from crossmodal.evaluation.metrics import TIE_RULE, Ranks, ranks_of_relevant, summarize
from crossmodal.settings import DIRECTIONS, Direction

__all__ = ["DIRECTIONS", "Direction", "Retrieval", "Subset", "directions", "report", "retrieve"]


@dataclass(frozen=True, slots=True)
class Subset:
    """The ids of the photos and captions that are searched (``gallery``), and of those that ask."""

    gallery: frozenset[str]
    queries: frozenset[str]

    def searched(self, direction: Direction, photos: Collection[str]) -> frozenset[str]:
        """What ``direction`` searches, where ``photos`` are the ids of all photos."""
        return _of_direction(self.gallery, direction, photos, photos_in="text2image")

    def asking(self, direction: Direction, photos: Collection[str]) -> frozenset[str]:
        """What asks in ``direction``."""
        return _of_direction(self.queries, direction, photos, photos_in="image2text")


@dataclass(frozen=True, slots=True)
class Retrieval:
    """One direction over one gallery of ``gallery`` items.

    ``ranks`` holds for each query that has a relevant item in the gallery the ranks of those, ascending;
    ``photos`` the id of each query's photo; both in the order of the queries' ids.
    """

    gallery: int
    ranks: tuple[Ranks, ...]
    photos: tuple[str, ...]


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

    Without a ``subset`` everything is searched and everything asks. What has no counterpart in the gallery
    stays in the gallery and asks nothing.
    """
    found = {}
    for name in directions(direction):
        asking, searched = (
            (encoded.captions, encoded.photos) if name == "text2image" else (encoded.photos, encoded.captions)
        )
        if subset is not None:
            asking, searched = _among(asking, subset.queries), _among(searched, subset.gallery)
        asking = _answerable(asking, frozenset(searched.photos))
        ranks = (
            ranks_of_relevant(asking.vectors, searched.vectors, asking.photos, searched.photos)
            if asking.ids
            else []
        )
        found[name] = Retrieval(len(searched.ids), tuple(ranks), asking.photos)
    return found


def report(folds: Sequence[Mapping[str, Retrieval]]) -> dict[str, Any]:
    """The metrics of ``metrics.summarize`` for each direction, ready for JSON; over several folds their mean.

    Each direction has 95% bootstrap intervals (``bootstrap``) under ``intervals``, and with several folds
    each one's metrics under ``folds``. ``gallery`` says how many items were searched in each direction (in
    the largest fold), ``queries`` how many asked (in all folds); ``tie_rule`` and ``bootstrap`` how it was
    done.

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


def _among(side: EncodedSide, ids: Collection[str]) -> EncodedSide:
    return _rows(side, [row for row, id in enumerate(side.ids) if id in ids])


def _answerable(side: EncodedSide, photos: Collection[str]) -> EncodedSide:
    return _rows(side, [row for row, photo in enumerate(side.photos) if photo in photos])


def _rows(side: EncodedSide, rows: Sequence[int]) -> EncodedSide:
    if len(rows) == len(side.ids):
        return side
    return EncodedSide(
        tuple(side.ids[row] for row in rows),
        tuple(side.photos[row] for row in rows),
        side.vectors[rows],
        side.seconds,
    )
