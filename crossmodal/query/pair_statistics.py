"""What the cosines of unrelated pairs of vectors are like, without a matrix of all pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossmodal.errors import DataError

__all__ = ["PairStatistics", "all_pairs", "sums", "unrelated_statistics", "within_photos"]

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairStatistics:
    """Mean and standard deviation of the cosines of unrelated pairs of one kind; ``std`` is above 0."""

    mean: float
    std: float


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
