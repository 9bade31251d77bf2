"""What vectors find among their own kind, and in one gallery of photos and captions together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from crossmodal.evaluation.encoding import EncodedSide
from crossmodal.evaluation.metrics import CUTOFFS

__all__ = ["mixed_results", "same_modality"]

_TOP = 10

# Scores that are held at once: 2 million are 16 MB.
_SCORES = 2_000_000

# Scores are compared in steps of 1e-10: far below any difference that matters, far above the rounding of a
# matrix product in float64, which may score equal vectors unequally.
_STEPS = 1e10

# The key of what is never found; its negative is an int64 too.
_LAST = -np.iinfo(np.int64).max

Keys = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def same_modality(captions: EncodedSide) -> dict[str, Any]:
    """Each caption searches for the other captions of its photo among all captions but itself.

    Returns ``mrr`` and ``hit@1``, ``hit@5``, ``hit@10`` of the best one, over the captions whose photo has
    another, whose number is ``queries``; ``gallery`` is the number of captions that each one searches.
    """
    photos = _numbers(captions.photos)
    ranks: list[npt.NDArray[np.int64]] = []
    for rows, keys in _ranked(captions.vectors, captions.vectors, np.arange(len(photos))):
        relevant = photos[rows, None] == photos[None, :]
        relevant[np.arange(len(rows)), rows] = False
        judged = relevant.any(axis=1)
        ranks.append(_best_ranks(keys[judged], relevant[judged]))
    best = np.concatenate(ranks) if ranks else np.empty(0, np.int64)
    return {**_summary(best), "queries": len(best), "gallery": max(0, len(photos) - 1)}


def mixed_results(photos: EncodedSide, captions: EncodedSide) -> dict[str, dict[str, Any]]:
    """Captions (``text``) and photos (``image``) search one gallery that holds both, except themselves.

    For each kind of query ``own_modality@10`` is the share of the first ten results that are of the query's
    own modality and ``own_modality_in_gallery`` its share in the gallery, which results would have that
    prefer none; ``hit@10`` is the share of queries with their counterpart of the other modality, a caption's
    photo or one of a photo's captions, among the first ten; ``queries`` is how many have a counterpart.
    """
    gallery = np.concatenate([photos.vectors, captions.vectors])
    numbers = _numbers((*photos.photos, *captions.photos))
    is_photo = np.arange(len(gallery)) < len(photos.ids)
    return {
        "text": _mixed(gallery, numbers, is_photo, np.flatnonzero(~is_photo)),
        "image": _mixed(gallery, numbers, is_photo, np.flatnonzero(is_photo)),
    }


def _mixed(
    gallery: npt.NDArray[np.float32], photos: npt.NDArray[np.int64], is_photo: Mask, queries: Keys
) -> dict[str, Any]:
    own = is_photo == is_photo[queries[0]]
    # A query doesn't find itself.
    count = min(_TOP, len(gallery) - 1)
    found: list[npt.NDArray[np.float64]] = []
    ranks: list[npt.NDArray[np.int64]] = []
    for rows, keys in _ranked(gallery[queries], gallery, queries):
        top = np.argpartition(-keys, count - 1, axis=1)[:, :count]
        found.append(own[top].mean(axis=1))
        relevant = (photos[queries[rows], None] == photos[None, :]) & ~own
        judged = relevant.any(axis=1)
        ranks.append(_best_ranks(keys[judged], relevant[judged]))
    best = np.concatenate(ranks)
    return {
        "own_modality@10": float(np.concatenate(found).mean()),
        "own_modality_in_gallery": float((own.sum() - 1) / (len(gallery) - 1)),
        "hit@10": float(np.mean(best <= _TOP)),
        "queries": len(best),
    }


def _ranked(
    queries: npt.NDArray[np.float32], gallery: npt.NDArray[np.float32], own: Keys
) -> Iterator[tuple[Keys, Keys]]:
    """Block by block the rows of ``queries`` and a key for each item of the gallery, larger for a better one.

    Keys are in order of score, and of position where scores are equal, so no two are. The item at ``own``,
    which is the query itself, comes last.
    """
    columns = gallery.astype(np.float64).T
    behind = np.arange(len(gallery), dtype=np.int64)[::-1]
    size = max(1, _SCORES // len(gallery))
    for start in range(0, len(queries), size):
        rows = np.arange(start, min(start + size, len(queries)))
        scores = queries[rows].astype(np.float64) @ columns
        # Below 1e10 * 1e8 = 1e18 for galleries of up to a hundred million, so int64 holds it.
        keys = np.rint(scores * _STEPS).astype(np.int64) * len(gallery) + behind
        keys[np.arange(len(rows)), own[rows]] = _LAST
        yield rows, keys


def _best_ranks(keys: Keys, relevant: Mask) -> npt.NDArray[np.int64]:
    """The rank (1 is the best) of each row's best relevant item; every row needs one."""
    best = np.where(relevant, keys, _LAST).max(axis=1, initial=_LAST)
    return np.asarray(np.count_nonzero(keys >= best[:, None], axis=1), np.int64)


def _summary(ranks: npt.NDArray[np.int64]) -> dict[str, float | None]:
    if not len(ranks):
        return {"mrr": None, **{f"hit@{k}": None for k in CUTOFFS}}
    hits = {f"hit@{k}": float(np.mean(ranks <= k)) for k in CUTOFFS}
    return {"mrr": float(np.mean(1 / ranks)), **hits}


def _numbers(names: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.asarray(np.unique(np.array(names), return_inverse=True)[1], np.int64)
