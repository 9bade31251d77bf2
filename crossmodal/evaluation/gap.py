"""The modality gap: photos and captions lie in two separate cones, and centring brings them together.

Liang et al., "Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive Representation
Learning" (2022), measure it as the distance between the centroids of the two modalities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from crossmodal.errors import DataSetError
from crossmodal.evaluation.encoding import EncodedSet, EncodedSide, with_hubness
from crossmodal.evaluation.metrics import CUTOFFS
from crossmodal.evaluation.retrieval import evaluate_encoded
from crossmodal.models.adaptation import adapt_vectors
from crossmodal.records import IMAGE, TEXT, Failure, Record

__all__ = [
    "GapMeasurement",
    "PhotoHalves",
    "geometry",
    "half_of",
    "measure_gap",
    "mixed_results",
    "principal_plane",
    "result_skewness",
    "same_modality",
]

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


Vectors = npt.NDArray[np.float32]


class PhotoHalves:
    """Splits photos into two halves by their bytes: the means are made of one and everything is scored on the
    other, so that the effect of centring isn't fitted to what it is measured on.

    The bytes decide, and not the path, so that the halves are the same wherever the data lies and two copies
    of a photo are in the same half.
    """

    def __init__(self) -> None:
        self.fitted: set[str] = set()

    def watch(self, records: Iterable[Record | Failure]) -> Iterator[Record | Failure]:
        """Passes ``records`` on and notes in ``fitted`` the ids of photos that the means are made of."""
        for record in records:
            photo = record if isinstance(record, Record) and record.modality == IMAGE else None
            if photo is not None and sha256(photo.content or b"").digest()[0] & 1:
                self.fitted.add(photo.id)
            yield record


@dataclass(frozen=True, slots=True)
class GapMeasurement:
    """What ``measure_gap`` found.

    ``image`` and ``text`` are the means, float32 (dimension,), made of the vectors in ``fitted``; ``before``
    and ``after`` hold the numbers of ``scored`` and of ``centred``, the same vectors with the means
    subtracted, ready for JSON.
    """

    image: Vectors
    text: Vectors
    fitted: EncodedSet
    scored: EncodedSet
    centred: EncodedSet
    before: dict[str, Any]
    after: dict[str, Any]


def measure_gap(encoded: EncodedSet, fitted: set[str]) -> GapMeasurement:
    """Makes the means of the photos named in ``fitted`` and of their captions, and measures on all others.

    ``before`` and ``after`` have the numbers of ``geometry``; under ``hubness`` those of ``result_skewness``;
    under ``text2image`` and ``image2text`` those of ``evaluate_encoded``; under ``text2text`` those of
    ``same_modality``; under ``mixed`` those of ``mixed_results``.

    Raises DataSetError where a half has fewer than two photos with captions.
    """
    halves = [half_of(encoded, fitted, wanted=wanted) for wanted in (True, False)]
    for half in halves:
        paired = len(set(half.photos.photos) & set(half.captions.photos))
        if paired < 2:
            raise DataSetError(
                "The modality gap is measured on one half of the photos and corrected by the other; of "
                f"{len(encoded.photos.ids)} photos one half has {paired} with captions, and 2 are needed."
            )
    means_of, scored = halves
    image, text = (_mean(side.vectors) for side in (means_of.photos, means_of.captions))
    banks = None if encoded.banks is None else encoded.banks.adapted(len(image), image, text)
    centred = replace(
        scored,
        photos=with_hubness(_centred(scored.photos, image), banks, IMAGE),
        captions=with_hubness(_centred(scored.captions, text), banks, TEXT),
        banks=banks,
    )
    return GapMeasurement(image, text, means_of, scored, centred, _measure(scored), _measure(centred))


def geometry(photos: EncodedSide, captions: EncodedSide) -> dict[str, Any]:
    """How the two modalities lie to each other; all vectors have unit length.

    ``gap`` is the Euclidean distance between the centroids, the means of each modality's vectors. ``cone``
    holds for ``image`` and ``text`` the mean cosine of two different vectors of that modality: 0 where they
    point everywhere, near 1 where they fill a narrow cone. ``matching`` is the mean cosine of a photo and its
    own caption, ``others`` that of a photo and a caption of another.
    """
    image, text = photos.vectors.astype(np.float64), captions.vectors.astype(np.float64)
    rows = {photo: row for row, photo in enumerate(photos.photos)}
    pairs = [(rows[photo], row) for row, photo in enumerate(captions.photos) if photo in rows]
    matched = np.array([image[photo] @ text[caption] for photo, caption in pairs])
    everything = len(image) * len(text) * float(image.mean(axis=0) @ text.mean(axis=0))
    others = len(image) * len(text) - len(matched)
    return {
        "gap": float(np.linalg.norm(image.mean(axis=0) - text.mean(axis=0))),
        "cone": {"image": _mean_cosine(image), "text": _mean_cosine(text)},
        "matching": float(matched.mean()),
        "others": (everything - float(matched.sum())) / others,
    }


def result_skewness(photos: EncodedSide, captions: EncodedSide) -> dict[str, dict[str, float | None]]:
    """Whether some documents are among the nearest of very many queries, in each direction.

    ``by_cosine`` is the skewness of how often a document is among the ten best of all queries (Radovanović et
    al., "Hubs in Space", 2010): 0 where all are as often, large where a few are everywhere. ``corrected`` is
    the same with hubness taken off, None for a model without banks.
    """
    return {
        "text2image": _skews(captions.vectors, photos),
        "image2text": _skews(photos.vectors, captions),
    }


def _skews(queries: Vectors, documents: EncodedSide) -> dict[str, float | None]:
    corrected = None if documents.hubness is None else _skewness(queries, documents, documents.hubness)
    return {"by_cosine": _skewness(queries, documents, 0.0), "corrected": corrected}


def _skewness(queries: Vectors, documents: EncodedSide, hubness: Vectors | float) -> float:
    count = min(_TOP, len(documents.ids))
    columns = documents.vectors.astype(np.float64).T
    times = np.zeros(len(documents.ids))
    size = max(1, _SCORES // len(documents.ids))
    for start in range(0, len(queries), size):
        values = queries[start : start + size].astype(np.float64) @ columns - hubness
        np.add.at(times, np.argpartition(-values, count - 1, axis=1)[:, :count].ravel(), 1)
    away = times - times.mean()
    spread = float(np.sqrt(np.mean(away**2)))
    return float(np.mean(away**3)) / spread**3 if spread else 0.0


def principal_plane(vectors: Vectors) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The coordinates (N, 2) of ``vectors`` (N, dimension) on their first two principal components.

    Also the share (2,) of the variance that each explains. The sign of a component, which is arbitrary, is
    such that its largest entry is positive.
    """
    rows = vectors.astype(np.float64)
    rows -= rows.mean(axis=0)
    _, lengths, components = np.linalg.svd(rows, full_matrices=False)
    components = components[:2]
    largest = np.abs(components).argmax(axis=1)
    components *= np.sign(components[np.arange(len(components)), largest])[:, None]
    return rows @ components.T, lengths[:2] ** 2 / np.sum(lengths**2)


def _measure(half: EncodedSet) -> dict[str, Any]:
    retrieved = evaluate_encoded(half)
    return {
        **geometry(half.photos, half.captions),
        "hubness": result_skewness(half.photos, half.captions),
        "text2image": retrieved["text2image"],
        "image2text": retrieved["image2text"],
        "text2text": same_modality(half.captions),
        "mixed": mixed_results(half.photos, half.captions),
    }


def half_of(encoded: EncodedSet, fitted: set[str], *, wanted: bool) -> EncodedSet:
    """What belongs to photos in ``fitted``, or with ``wanted`` False to all others."""
    photos, captions = (_side(side, fitted, wanted) for side in (encoded.photos, encoded.captions))
    return replace(encoded, photos=photos, captions=captions)


def _side(side: EncodedSide, fitted: set[str], wanted: bool) -> EncodedSide:
    return side.rows([row for row, photo in enumerate(side.photos) if (photo in fitted) == wanted])


def _mean(vectors: Vectors) -> Vectors:
    return np.asarray(vectors.mean(axis=0, dtype=np.float64), np.float32)


def _centred(side: EncodedSide, mean: Vectors) -> EncodedSide:
    return replace(side, vectors=adapt_vectors(side.vectors, len(mean), mean))


def _mean_cosine(rows: npt.NDArray[np.float64]) -> float:
    """Over all pairs of two different rows: the squared length of their sum holds each pair twice and each
    row with itself once."""
    count = len(rows)
    return float((np.sum(rows.sum(axis=0) ** 2) - np.sum(rows**2)) / (count * (count - 1)))
