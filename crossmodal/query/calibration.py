"""From the cosine of two vectors to a score that means the same for every pair of modalities.

Photos and sentences lie in different cones of the space (see ``evaluation.gap``), so that a cosine of 0.3 is
much for a photo and a sentence and nothing for two sentences. A cosine, minus the document's hubness where
query and document are of two modalities, is therefore first standardised by the mean and the spread of
unrelated pairs of its kind, ``z = (value - mean) / std``, and then mapped by a logistic function, ``score = 1
/ (1 + exp(-(slope * z + intercept)))``, that was fitted on photos with their captions against photos with
captions of others.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossmodal.errors import DataError, ModelError
from crossmodal.models.adaptation import parse_adaptation
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.registry import find_native, identify_model
from crossmodal.query.pair_statistics import (
    PairStatistics,
    all_pairs,
    fit_line,
    logistic,
    logit,
    sample_vectors,
    sums,
    unrelated_statistics,
    within_photos,
)
from crossmodal.records import IMAGE, TEXT, Modality
from crossmodal.workspace import Workspace

__all__ = [
    "CALIBRATION_FILE",
    "FALLBACK_LINE",
    "MIN_PAIRS",
    "PRIOR",
    "Calibration",
    "PairStatistics",
    "calibration_of",
    "estimate_calibration",
    "stored_calibration",
]

# Beside the weights of a model of our own.
CALIBRATION_FILE = "calibration.json"

_logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_FORMAT = "calibration 2"
_PAIRS = ("image_image", "image_text", "text_image", "text_text")

# Before anything is known of the two, one photo in a hundred is taken to fit a sentence.
PRIOR = 0.01

# Pairs of a photo and its caption below which slope and intercept are not fitted: two numbers from fewer
# depend on single pairs.
MIN_PAIRS = 100

# Slope and intercept where there are fewer: those of ``clip-mini`` on Flickr8k's dev split, rounded. In units
# of the spread of unrelated pairs the models that were measured differ little (docs/scores.md).
FALLBACK_LINE = (2.5, -8.8)

# Texts whose cosines with all photos are computed at once.
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a model's cosines are standardised, and mapped to a score in 0..1.

    ``image_image``, ``image_text`` (a photo looks for captions), ``text_image`` (a sentence looks for photos)
    and ``text_text`` describe unrelated pairs. ``slope`` is above 0. ``prior`` is the share of matching pairs
    that the score assumes. ``data`` says in words what it was made from, and ``model`` which model's vectors,
    None where that is not known.
    """

    image_image: PairStatistics
    image_text: PairStatistics
    text_image: PairStatistics
    text_text: PairStatistics
    slope: float
    intercept: float
    prior: float = PRIOR
    data: str = ""
    model: ModelIdentity | None = None

    def pair(self, one: Modality, other: Modality) -> PairStatistics:
        """What unrelated pairs of a query of modality ``one`` and a document of ``other`` are like."""
        if one != other:
            return self.image_text if one == IMAGE else self.text_image
        return self.image_image if one == IMAGE else self.text_text

    def standardised(self, values: npt.ArrayLike, one: Modality, other: Modality) -> Doubles:
        """z of what documents are ranked by: how many standard deviations above unrelated pairs each is."""
        pair = self.pair(one, other)
        return (np.asarray(values, np.float64) - (pair.mean - pair.hubness)) / pair.std

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
        hubness: tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]] | None = None,
        prior: float = PRIOR,
        data: str = "",
        model: ModelIdentity | None = None,
    ) -> Calibration:
        """The calibration of unit vectors (n, dimension) and (m, dimension); deterministic.

        ``photo_of_text`` has, for each text, the row of the photo that it describes, or -1. ``hubness`` is
        that of the photos (n,) and of the texts (m,), where documents are ranked with it. Unrelated pairs
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
        images_alone = sums(np.einsum("ij,ij->i", images, images))
        image_image = unrelated_statistics("two photos", all_pairs(images, images), images_alone)
        text_text = unrelated_statistics(
            "two captions", all_pairs(texts, texts), within_photos(texts, owners)
        )
        photos = owners[paired]
        if hubness is None:
            ways = [_Way.of(texts, images, paired, photos, None)]
        else:
            of_images, of_texts = (each.astype(np.float64) for each in hubness)
            ways = [
                _Way.of(texts, images, paired, photos, of_images),
                _Way.of(images, texts, photos, paired, of_texts),
            ]
        slope, intercept = FALLBACK_LINE[0], FALLBACK_LINE[1] + logit(prior) - logit(PRIOR)
        if len(paired) >= MIN_PAIRS:
            line = fit_line(
                np.concatenate([way.matched for way in ways]),
                (block for way in ways for block in way.everything()),
                prior,
            )
            slope, intercept = line or (slope, intercept)
        text_image, image_text = ways[0].statistics, ways[-1].statistics
        return cls(image_image, image_text, text_image, text_text, slope, intercept, prior, data, model)

    def to_json(self) -> dict[str, Any]:
        """The calibration as a JSON object with a ``format``."""
        value: dict[str, Any] = {"format": _FORMAT}
        for name in _PAIRS:
            pair: PairStatistics = getattr(self, name)
            value[name] = {"mean": pair.mean, "std": pair.std, "hubness": pair.hubness}
        value |= {"slope": self.slope, "intercept": self.intercept, "prior": self.prior, "data": self.data}
        return value | {"model": None if self.model is None else self.model.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibration:
        """The reverse of ``to_json``. Raises ModelError where a field is missing or cannot be used."""
        try:
            if value["format"] != _FORMAT:
                raise ValueError(f"its format is {value['format']!r}, not {_FORMAT!r}")
            found = [
                PairStatistics(
                    _finite(value[name]["mean"]),
                    _positive(value[name]["std"]),
                    _finite(value[name]["hubness"]),
                )
                for name in _PAIRS
            ]
            image_image, image_text, text_image, text_text = found
            prior = _positive(value["prior"])
            if prior >= 1:
                raise ValueError(f"its prior is {prior:g}, not below 1")
            return cls(
                image_image,
                image_text,
                text_image,
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
                "`crossmodal evaluate --calibrate -d DATA`."
            ) from error


@dataclass(frozen=True, slots=True)
class _Way:
    """Queries of one modality against documents of the other: rows of float64 vectors.

    ``matched`` are the standardised values of the pairs that belong together. A document's vector ends in its
    negative hubness and a query's in 1, so that their products are what is ranked by.
    """

    queries: Doubles
    documents: Doubles
    statistics: PairStatistics
    matched: Doubles

    @classmethod
    def of(
        cls,
        queries: Doubles,
        documents: Doubles,
        asking: npt.NDArray[np.int64],
        wanted: npt.NDArray[np.int64],
        hubness: Doubles | None,
    ) -> _Way:
        """``asking`` and ``wanted`` are the rows that belong together."""
        usual = 0.0
        if hubness is not None:
            usual = float(hubness.mean())
            queries = np.column_stack([queries, np.ones(len(queries))])
            documents = np.column_stack([documents, -hubness])
        matched = np.einsum("ij,ij->i", queries[asking], documents[wanted])
        found = unrelated_statistics("a photo and a caption", all_pairs(queries, documents), sums(matched))
        statistics = PairStatistics(found.mean + usual, found.std, usual)
        return cls(queries, documents, statistics, (matched - found.mean) / found.std)

    def everything(self) -> Iterator[Doubles]:
        """The standardised values of all pairs, some at a time."""
        mean = self.statistics.mean - self.statistics.hubness
        for start in range(0, len(self.queries), _BLOCK):
            yield (self.queries[start : start + _BLOCK] @ self.documents.T - mean) / self.statistics.std


def calibration_of(model_name: str, model_cache: Path | None, workspace: Workspace) -> Calibration | None:
    """The calibration that lies beside the model's weights, else one of the vectors of the index.

    The latter reads up to 2,000 vectors of each modality, which takes some seconds, and stays right while
    what is indexed stays alike. None where the index hasn't two photos and two captions. ``model_cache`` is
    that of ``identify_model``. Raises ModelError where the model is not known.
    """
    stored = stored_calibration(model_name, cache=model_cache)
    if stored is not None and stored.model is not None:
        # An index that was converted without its model, or made by an earlier one, may rank otherwise.
        banks = workspace.banks_fingerprint
        if banks is None or banks == stored.model.hubness:
            return stored
    return estimate_calibration(workspace)


def stored_calibration(model_name: str, *, cache: Path | None = None) -> Calibration | None:
    """The calibration beside the weights of the model; None where there is none for exactly these vectors.

    Options in the name (``?dim=``, ``?centering=``) make other vectors, which have other cosines. A file that
    cannot be read, or was made before the model was trained again, is skipped with a warning.
    """
    checkpoint = None if parse_adaptation(model_name) else find_native(model_name)
    if checkpoint is None or not (path := checkpoint.folder / CALIBRATION_FILE).is_file():
        return None
    try:
        calibration = Calibration.load(path)
    except ModelError as error:
        _logger.warning("%s Scores are estimated from the index instead.", error)
        return None
    identity = identify_model(model_name, cache=cache)
    known = calibration.model
    if known is None or (known, known.hubness) != (identity, identity.hubness):
        _logger.warning(
            "%s was made for %s, but the model is %s; scores are estimated from the index instead.",
            path,
            calibration.model,
            identity,
        )
        return None
    return calibration


def estimate_calibration(workspace: Workspace) -> Calibration | None:
    """A calibration of a sample of the index's own vectors; it doesn't depend on shards.

    None where there are fewer than two photos or captions, or where they can't be distinguished.
    """
    # Asked at every search of an index without captions, which may hold a million photos.
    if min(workspace.vector_count(modality) for modality in (IMAGE, TEXT)) < 2:
        return None
    sample = sample_vectors(workspace)
    try:
        return Calibration.fit(
            sample.images,
            sample.texts,
            sample.photo_of_text,
            hubness=sample.hubness if any(map(np.any, sample.hubness)) else None,
            data=f"{len(sample.images)} photos and {len(sample.texts)} captions of the index",
            model=workspace.identity(),
        )
    except DataError:
        # Documented above: an index that is too small has no scores, which is no error of a search.
        return None


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
