"""How far the score of a match can be believed: fitted on one half of the photos, checked on the other.

A score of 0.3 should be right three times in ten. The reliability table says how often it is (DeGroot and
Fienberg, "The Comparison and Evaluation of Forecasters", 1983).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossmodal.errors import DataSetError
from crossmodal.evaluation.encoding import EncodedSet, EncodedSide
from crossmodal.evaluation.gap import half_of
from crossmodal.models.identity import ModelIdentity
from crossmodal.query.calibration import MIN_PAIRS, Calibration
from crossmodal.records import IMAGE, TEXT, Modality

__all__ = ["BIN_EDGES", "CalibrationMeasurement", "measure_calibration", "reliability"]

# Narrow where most pairs are: at a prior of 1 in 100 nearly all scores are near 0.
BIN_EDGES = (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)

_ROWS = 256


@dataclass(frozen=True, slots=True)
class CalibrationMeasurement:
    """A calibration made of ``fitted``, and ``reliability`` on ``scored``, ready for JSON.

    ``reliability`` has the table of ``reliability`` for ``photo_caption``, and for ``two_captions``, which
    the fit has not seen and of which those of one photo count as matching.
    """

    calibration: Calibration
    fitted: EncodedSet
    scored: EncodedSet
    reliability: dict[str, list[dict[str, float | int | None]]]


def measure_calibration(
    encoded: EncodedSet, fitted: set[str], *, model: ModelIdentity, data: str = ""
) -> CalibrationMeasurement:
    """Fits on the photos named in ``fitted`` and their captions, and checks on all others.

    Raises DataSetError where a half has fewer than ``MIN_PAIRS`` captions of its photos.
    """
    halves = [half_of(encoded, fitted, wanted=wanted) for wanted in (True, False)]
    for half in halves:
        known = set(half.photos.photos)
        paired = sum(photo in known for photo in half.captions.photos)
        if paired < MIN_PAIRS or len(known) < 2:
            raise DataSetError(
                "A calibration is fitted on one half of the photos and checked on the other; of "
                f"{len(encoded.photos.ids)} photos one half has {paired} captions, and {MIN_PAIRS} are "
                "needed."
            )
    made_of, scored = halves
    owners = _owners(made_of)
    described = f"{len(made_of.photos.ids)} photos and {len(made_of.captions.ids)} captions"
    calibration = Calibration.fit(
        made_of.photos.vectors,
        made_of.captions.vectors,
        owners.tolist(),
        hubness=_hubness(made_of),
        data=f"{described} of {data}" if data else described,
        model=model,
    )
    found = {
        "photo_caption": reliability(calibration, scored.captions, TEXT, scored.photos, IMAGE),
        "two_captions": reliability(calibration, scored.captions, TEXT, scored.captions, TEXT),
    }
    return CalibrationMeasurement(calibration, made_of, scored, found)


def reliability(
    calibration: Calibration, one: EncodedSide, one_kind: Modality, other: EncodedSide, other_kind: Modality
) -> list[dict[str, float | int | None]]:
    """Scores of all pairs of a row of ``one`` and another row of ``other``, in bins of ``BIN_EDGES``.

    A row of the table has ``from`` and ``to`` (the bin), ``matching`` and ``unrelated`` (how many pairs of
    one photo and of two fell in it), and, with the matching pairs weighted to the calibration's prior,
    ``score`` (the mean of the scores) and ``observed`` (the share that matches); None in an empty bin.
    """
    bins = len(BIN_EDGES) - 1
    counts, totals = np.zeros((2, bins)), np.zeros((2, bins))
    for scores, matching in _scored(calibration, one, one_kind, other, other_kind):
        place = np.clip(np.searchsorted(BIN_EDGES, scores, side="right") - 1, 0, bins - 1)
        for row, chosen in enumerate((~matching, matching)):
            counts[row] += np.bincount(place[chosen], minlength=bins)
            totals[row] += np.bincount(place[chosen], weights=scores[chosen], minlength=bins)
    shares = np.array([1 - calibration.prior, calibration.prior]) / np.maximum(counts.sum(axis=1), 1)
    weight, score = shares @ counts, shares @ totals
    return [
        {
            "from": BIN_EDGES[place],
            "to": BIN_EDGES[place + 1],
            "matching": int(counts[1, place]),
            "unrelated": int(counts[0, place]),
            "score": float(score[place] / weight[place]) if weight[place] else None,
            "observed": float(shares[1] * counts[1, place] / weight[place]) if weight[place] else None,
        }
        for place in range(bins)
    ]


def _scored(
    calibration: Calibration,
    one: EncodedSide,
    one_kind: Modality,
    other: EncodedSide,
    other_kind: Modality,
) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]]:
    """The scores of some rows of ``one`` with all of ``other``, and which pairs are of one photo."""
    numbers = {photo: number for number, photo in enumerate(dict.fromkeys((*one.photos, *other.photos)))}
    one_photos, other_photos = (np.array([numbers[photo] for photo in side.photos]) for side in (one, other))
    for start in range(0, len(one.ids), _ROWS):
        rows = slice(start, start + _ROWS)
        cosines = one.vectors[rows].astype(np.float64) @ other.vectors.astype(np.float64).T
        matching = one_photos[rows, None] == other_photos[None]
        wanted = np.ones_like(matching)
        if one is other:
            # A caption and itself are no pair.
            wanted[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = False
        if other.hubness is not None and one_kind != other_kind:
            cosines -= other.hubness
        scores = calibration.score(calibration.standardised(cosines, one_kind, other_kind))
        yield scores[wanted], matching[wanted]


def _hubness(half: EncodedSet) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
    photos, captions = half.photos.hubness, half.captions.hubness
    return None if photos is None or captions is None else (photos, captions)


def _owners(half: EncodedSet) -> npt.NDArray[np.int64]:
    rows = {photo: row for row, photo in enumerate(half.photos.photos)}
    return np.array([rows.get(photo, -1) for photo in half.captions.photos], np.int64)
