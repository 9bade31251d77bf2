"""From the cosine of two vectors to a score that means the same for every pair of modalities.

Photos and sentences lie in different cones of the space (see ``evaluation.gap``), so that a cosine of 0.3 is
much for a photo and a sentence and nothing for two sentences. A cosine is therefore first standardised by
the mean and the spread of unrelated pairs of its kind, ``z = (cosine - mean) / std``, and then mapped by a
logistic function, ``score = 1 / (1 + exp(-(slope * z + intercept)))``, that was fitted on photos with their
captions against photos with captions of others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossmodal.errors import DataError, ModelError
from crossmodal.models.identity import ModelIdentity
from crossmodal.query.logistic import fit_logistic, logistic, logit
from crossmodal.records import IMAGE, Modality

__all__ = ["FALLBACK_LINE", "MIN_PAIRS", "PRIOR", "Calibration", "PairStatistics"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_FORMAT = "calibration 1"
_PAIRS = ("image_image", "image_text", "text_text")

# Before anything is known of the two, one photo in a hundred is taken to fit a sentence.
PRIOR = 0.01

# Pairs of a photo and its caption below which slope and intercept are not fitted: two numbers from fewer
# depend on single pairs.
MIN_PAIRS = 100

# Slope and intercept where there are fewer: those of ``clip-mini`` on Flickr8k's dev split, rounded. In units
# of the spread of unrelated pairs the models that were measured differ little (docs/scores.md).
FALLBACK_LINE = (2.0, -7.0)

# The histogram of standardised cosines that the logistic function is fitted on: 0.005 a bin.
_BINS = 12_000
_EDGE = 30.0


@dataclass(frozen=True, slots=True)
class PairStatistics:
    """Mean and standard deviation of the cosines of unrelated pairs of one kind; ``std`` is above 0."""

    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a model's cosines are standardised, and mapped to a score in 0..1.

    ``image_image``, ``image_text`` (either way round) and ``text_text`` describe unrelated pairs. ``slope``
    is above 0. ``prior`` is the share of matching pairs that the score assumes. ``data`` says in words what
    it was made from, and ``model`` which model's vectors, None where that is not known.
    """

    image_image: PairStatistics
    image_text: PairStatistics
    text_text: PairStatistics
    slope: float
    intercept: float
    prior: float = PRIOR
    data: str = ""
    model: ModelIdentity | None = None

    def pair(self, one: Modality, other: Modality) -> PairStatistics:
        """What unrelated pairs of these two modalities are like."""
        if one != other:
            return self.image_text
        return self.image_image if one == IMAGE else self.text_text

    def standardised(self, cosines: npt.ArrayLike, one: Modality, other: Modality) -> Doubles:
        """z of each cosine: how many standard deviations it lies above unrelated pairs of its kind."""
        pair = self.pair(one, other)
        return (np.asarray(cosines, np.float64) - pair.mean) / pair.std

    def score(self, standardised: npt.ArrayLike) -> Doubles:
        """The score in 0..1 of each z; it grows with z."""
        return logistic(self.slope * np.asarray(standardised, np.float64) + self.intercept)

    @classmethod
    def fit(
        cls,
        image_vectors: Floats,
        text_vectors: Floats,
        photo_of_text: Sequence[int],
        *,
        prior: float = PRIOR,
        data: str = "",
        model: ModelIdentity | None = None,
    ) -> Calibration:
        """The calibration of unit vectors (n, dimension) and (m, dimension); deterministic.

        ``photo_of_text`` has, for each text, the row of the photo that it describes, or -1. Unrelated pairs
        are all pairs of different photos, of texts of different photos, and of a photo and a text of another;
        a text without a photo counts as one of a photo of its own. With fewer than ``MIN_PAIRS`` texts that
        have their photo here, or where those are no nearer to it than others are, slope and intercept are
        those of ``FALLBACK_LINE``, moved to ``prior``.

        Raises DataError where a modality has no two unrelated vectors, or all their cosines are equal.
        """
        owners = np.asarray(photo_of_text, np.int64)
        if len(image_vectors) < 2 or len(text_vectors) < 2:
            raise DataError(
                f"A calibration needs at least 2 photos and 2 captions, not {len(image_vectors)} and "
                f"{len(text_vectors)}."
            )
        images, texts = image_vectors.astype(np.float64), text_vectors.astype(np.float64)
        paired = np.flatnonzero(owners >= 0)
        matched = np.einsum("ij,ij->i", texts[paired], images[owners[paired]])
        images_alone = _sums(np.einsum("ij,ij->i", images, images))
        image_image = _statistics("two photos", _all_pairs(images, images), images_alone)
        image_text = _statistics("a photo and a caption", _all_pairs(images, texts), _sums(matched))
        text_text = _statistics("two captions", _all_pairs(texts, texts), _within_photos(texts, owners))
        slope, intercept = _fit_line(images, texts, matched, image_text, prior)
        return cls(image_image, image_text, text_text, slope, intercept, prior, data, model)

    def to_json(self) -> dict[str, Any]:
        """The calibration as a JSON object with a ``format``."""
        value: dict[str, Any] = {"format": _FORMAT}
        for name in _PAIRS:
            pair: PairStatistics = getattr(self, name)
            value[name] = {"mean": pair.mean, "std": pair.std}
        value |= {"slope": self.slope, "intercept": self.intercept, "prior": self.prior, "data": self.data}
        return value | {"model": None if self.model is None else self.model.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibration:
        """The reverse of ``to_json``. Raises ModelError where a field is missing or cannot be used."""
        try:
            if value["format"] != _FORMAT:
                raise ValueError(f"its format is {value['format']!r}, not {_FORMAT!r}")
            image_image, image_text, text_text = (
                PairStatistics(_finite(value[name]["mean"]), _positive(value[name]["std"])) for name in _PAIRS
            )
            prior = _positive(value["prior"])
            if prior >= 1:
                raise ValueError(f"its prior is {prior:g}, not below 1")
            return cls(
                image_image,
                image_text,
                text_text,
                slope=_positive(value["slope"]),
                intercept=_finite(value["intercept"]),
                prior=prior,
                data=str(value["data"]),
                model=None if value["model"] is None else ModelIdentity.from_json(value["model"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"This is not a calibration that can be used: {error!r}.") from error

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all. Raises ModelError where that is impossible."""
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            temporary.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            raise ModelError(f"The calibration {path} cannot be written: {error.strerror}.") from error

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a file that ``save`` made. Raises ModelError where it is missing, damaged or another file."""
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, ModelError) as error:
            raise ModelError(
                f"The calibration {path} cannot be used: {error} Make one with "
                "`python app.py -t evaluate --calibrate -d DATA`."
            ) from error


def _sums(values: Doubles) -> tuple[float, float, float]:
    return float(len(values)), float(values.sum()), float(values @ values)


def _all_pairs(one: Doubles, other: Doubles) -> tuple[float, float, float]:
    """Number, sum and sum of squares of the cosines of every row of ``one`` with every row of ``other``.

    The squares add up to the inner product of the two second moments, so that no (n, m) matrix is made.
    """
    total = float(one.sum(axis=0) @ other.sum(axis=0))
    squares = float(np.sum((one.T @ one) * (other.T @ other)))
    return float(len(one) * len(other)), total, squares


def _within_photos(texts: Doubles, owners: npt.NDArray[np.int64]) -> tuple[float, float, float]:
    """The same for pairs of texts of one photo, each with itself included."""
    groups: dict[int, list[int]] = {}
    for row, owner in enumerate(owners.tolist()):
        groups.setdefault(owner if owner >= 0 else -1 - row, []).append(row)
    sums = [_all_pairs(texts[rows], texts[rows]) for rows in groups.values()]
    count, total, squares = (math.fsum(parts) for parts in zip(*sums, strict=True))
    return count, total, squares


def _statistics(
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


def _fit_line(
    images: Doubles, texts: Doubles, matched: Doubles, pair: PairStatistics, prior: float
) -> tuple[float, float]:
    fallback = (FALLBACK_LINE[0], FALLBACK_LINE[1] + logit(prior) - logit(PRIOR))
    if len(matched) < MIN_PAIRS:
        return fallback
    edges = np.linspace(-_EDGE, _EDGE, _BINS + 1)
    positives = _histogram((matched - pair.mean) / pair.std, edges)
    everything = sum(
        _histogram((texts[start : start + 256] @ images.T - pair.mean) / pair.std, edges)
        for start in range(0, len(texts), 256)
    )
    line = fit_logistic((edges[:-1] + edges[1:]) / 2, positives, np.maximum(everything - positives, 0), prior)
    return fallback if line is None else line


def _histogram(values: Doubles, edges: Doubles) -> Doubles:
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].astype(np.float64)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not a finite number")
    return number


def _positive(value: Any) -> float:
    number = _finite(value)
    if number <= 0:
        raise ValueError(f"{number:g} is not above 0")
    return number
