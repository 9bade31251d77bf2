"""What scores are calibrated by: a sample of vectors, cosines of unrelated pairs, and a logistic fit."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from crossmodal.errors import DataError
from crossmodal.records import IMAGE, TEXT, Modality
from crossmodal.workspace import Workspace

__all__ = [
    "MAX_SAMPLE",
    "PairStatistics",
    "VectorSample",
    "all_pairs",
    "fit_line",
    "fit_logistic",
    "logistic",
    "logit",
    "sample_vectors",
    "sums",
    "unrelated_statistics",
    "within_photos",
]

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairStatistics:
    """What unrelated pairs of one kind are like: ``mean`` is that of their cosines.

    ``hubness`` is the mean hubness of what is searched, 0 where none is taken off; ``std``, above 0, the
    standard deviation of cosines minus hubness.
    """

    mean: float
    std: float
    hubness: float = 0.0


def sums(values: Doubles) -> tuple[float, float, float]:
    """Number, sum and sum of squares of ``values``."""
    return float(len(values)), float(values.sum()), float(values @ values)


def all_pairs(one: Doubles, other: Doubles) -> tuple[float, float, float]:
    """The same of the cosines of every row of ``one`` with every row of ``other``.

    The squares add up to the inner product of the two second moments, so that no (n, m) matrix is made.
    """
    total = float(one.sum(axis=0) @ other.sum(axis=0))
    squares = float(np.sum((one.T @ one) * (other.T @ other)))
    return float(len(one) * len(other)), total, squares


def within_photos(texts: Doubles, owners: npt.NDArray[np.int64]) -> tuple[float, float, float]:
    """The same for pairs of texts of one photo, each with itself included.

    ``owners`` has the photo of each text; a text with a negative one has a photo of its own.
    """
    groups: dict[int, list[int]] = {}
    for row, owner in enumerate(owners.tolist()):
        groups.setdefault(owner if owner >= 0 else -1 - row, []).append(row)
    parts = [sums((texts[rows] @ texts[rows].T).ravel()) for rows in groups.values()]
    count, total, squares = (math.fsum(part) for part in zip(*parts, strict=True))
    return count, total, squares


def unrelated_statistics(
    kind: str, everything: tuple[float, float, float], related: tuple[float, float, float]
) -> PairStatistics:
    """Mean and standard deviation of what is left of all pairs without the related ones."""
    count, total, squares = (whole - part for whole, part in zip(everything, related, strict=True))
    mean = total / count if count else 0.0
    variance = squares / count - mean * mean if count else 0.0
    # The subtraction leaves rounding errors of about 1e-16 where all cosines are equal.
    if variance <= 1e-12:
        raise DataError(f"A calibration needs unrelated pairs of {kind} that differ in their cosine.")
    return PairStatistics(mean, math.sqrt(variance))


# A mean of 2,000 x 2,000 cosines is known to a thousandth of their spread, whatever the index's size.
MAX_SAMPLE = 2000


@dataclass(frozen=True, slots=True)
class VectorSample:
    """``images`` (n, dimension) and ``texts`` (m, dimension), float32, with what belongs together.

    ``photo_of_text`` has for each text the row of its photo in ``images``, or -1. ``hubness`` is that of the
    images, float64 (n,), and that of the texts, (m,).
    """

    images: npt.NDArray[np.float32]
    texts: npt.NDArray[np.float32]
    photo_of_text: tuple[int, ...]
    hubness: tuple[Doubles, Doubles]


def sample_vectors(workspace: Workspace, limit: int = MAX_SAMPLE) -> VectorSample:
    """Up to ``limit`` captions of the index, their photos, and other photos up to ``limit``.

    The hash of its id decides what is taken. All ids are read, but of the vectors only those that are taken.
    """
    captions = _smallest(workspace.ids(TEXT), limit)
    described = {
        id: record.photo_id for id, record in workspace.records(captions, TEXT).items() if record.photo_id
    }
    photos = [*described.values(), *_smallest(workspace.ids(IMAGE), limit)]
    # The photo of a caption may have been deleted, so that others take its place.
    images = dict(islice(workspace.vectors(photos, IMAGE).items(), limit))
    texts = workspace.vectors(captions, TEXT)
    row = {id: number for number, id in enumerate(images)}
    return VectorSample(
        _stacked(images.values()),
        _stacked(texts.values()),
        tuple(row.get(described.get(id, ""), -1) for id in texts),
        (_hubness(workspace, images, IMAGE), _hubness(workspace, texts, TEXT)),
    )


def _hubness(workspace: Workspace, ids: Iterable[str], modality: Modality) -> Doubles:
    wanted = list(ids)
    found = workspace.hubness(wanted, modality)
    return np.array([found.get(id, 0.0) for id in wanted], np.float64)


def _smallest(ids: Iterable[str], limit: int) -> list[str]:
    def order(id: str) -> tuple[bytes, str]:
        return hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), id

    return heapq.nsmallest(limit, ids, key=order)


def _stacked(vectors: Iterable[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    rows = list(vectors)
    return np.stack(rows) if rows else np.empty((0, 0), np.float32)


# The histograms' bins: 0.005 wide.
_BINS = 12_000
_EDGE = 30.0

# Newton's method needs about ten.
_ITERATIONS = 50


def logistic(values: Doubles) -> Doubles:
    """1 / (1 + exp(-x)), to full accuracy on either side and without overflow."""
    return np.exp(-np.logaddexp(0, -values))


def logit(probability: float) -> float:
    """The reverse of ``logistic`` for a probability in (0, 1)."""
    return math.log(probability / (1 - probability))


def fit_line(positives: Doubles, everything: Iterable[Doubles], prior: float) -> tuple[float, float] | None:
    """Slope and intercept that separate ``positives`` from all of ``everything``, of which they are part.

    Both are standardised; what lies beyond 30 counts as 30. Otherwise as ``fit_logistic``.
    """
    edges = np.linspace(-_EDGE, _EDGE, _BINS + 1)
    found = _histogram(positives, edges)
    others = -found
    for part in everything:
        others += _histogram(part, edges)
    # The two were perhaps multiplied in another order, and may fall on two sides of an edge.
    return fit_logistic((edges[:-1] + edges[1:]) / 2, found, np.maximum(others, 0), prior)


def fit_logistic(
    centres: Doubles, positives: Doubles, negatives: Doubles, prior: float
) -> tuple[float, float] | None:
    """Slope and intercept of the logistic regression on two histograms; None where the slope isn't above 0.

    Positives are weighted to the share ``prior`` of all. The targets are smoothed as Platt does
    ("Probabilistic outputs for support vector machines", 1999), so that classes that can be separated have
    a finite slope. Solved by Newton's method.
    """
    found, others = positives.sum(), negatives.sum()
    if not found or not others:
        return None
    upper, lower = (found + 1) / (found + 2), 1 / (others + 2)
    weights = prior * positives / found + (1 - prior) * negatives / others
    targets = (prior * upper * positives / found + (1 - prior) * lower * negatives / others) / np.where(
        weights > 0, weights, 1
    )
    design = np.stack([centres, np.ones_like(centres)])
    line = np.array([0.0, logit(prior)])

    def loss(candidate: Doubles) -> float:
        values = candidate @ design
        return float(weights @ (np.logaddexp(0, values) - targets * values))

    for _ in range(_ITERATIONS):
        predicted = logistic(line @ design)
        gradient = design @ (weights * (predicted - targets))
        curvature = (design * (weights * predicted * (1 - predicted))) @ design.T
        step = np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient)
        before, share = loss(line), 1.0
        # A full Newton step may overshoot where the classes are nearly separated.
        while loss(line - share * step) > before and share > 1e-6:
            share /= 2
        line = line - share * step
        if np.abs(share * step).max() < 1e-10:
            break
    return (float(line[0]), float(line[1])) if line[0] > 0 else None


def _histogram(values: Doubles, edges: Doubles) -> Doubles:
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].astype(np.float64)
