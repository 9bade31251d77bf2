"""Models side by side: one number for quality, one for speed, and which models are worth choosing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from crossmodal.errors import DataSetError
from crossmodal.evaluation.metrics import SEED, bootstrap, intervals, summarize
from crossmodal.evaluation.retrieval import Retrieval
from crossmodal.models import ImageEncoder, load_image_encoder, load_text_encoder

__all__ = [
    "CAPTIONS",
    "PARETO_RULE",
    "PHOTOS",
    "QUALITY",
    "ROUNDS",
    "Speed",
    "mark_pareto",
    "measure_speeds",
    "pareto_optimal",
    "quality_of",
]

PHOTOS = 32
CAPTIONS = 128
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Speed:
    """Items a second in each round, in the order of the rounds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.rounds)

    def to_json(self) -> dict[str, Any]:
        """``median``, ``min``, ``max`` and ``rounds``."""
        return {
            "median": self.median,
            "min": min(self.rounds),
            "max": max(self.rounds),
            "rounds": list(self.rounds),
        }


def measure_speeds(
    models: Sequence[str],
    photos: Sequence[bytes],
    captions: Sequence[str],
    *,
    rounds: int = ROUNDS,
    cache: Path | None = None,
    trust_remote_code: bool = False,
    runtime: str = "auto",
) -> dict[str, Any]:
    """Encodes the same ``photos`` (the bytes of files) and ``captions`` with every model, one after the
    other, ``rounds`` times over, on one thread.

    A photo's time begins with its bytes and so includes decoding and resizing. A first round that isn't
    counted warms each model up. Networks use one thread; numpy does if the process was started with
    ``OPENBLAS_NUM_THREADS=1`` and ``OMP_NUM_THREADS=1``, which cannot be changed later.

    Returns, ready for JSON, under ``models`` for each name ``photos_per_second`` and ``captions_per_second``
    as ``Speed.to_json`` describes them; ``photos``, ``captions``, ``rounds`` and ``threads``; and
    ``load_average``, of the last minute, at the beginning and at the end.

    Raises ModelError where a model cannot be loaded and DataSetError where there is nothing to encode.
    """
    if not photos or not captions:
        lacking = "captions" if photos else "photos"
        raise DataSetError(f"Speed is measured on photos and captions, and the data lacks {lacking}.")
    loads = [os.getloadavg()[0]]
    calls: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {}
    for name in models:
        loading: dict[str, Any] = {
            "threads": 1,
            "cache": cache,
            "trust_remote_code": trust_remote_code,
            "runtime": runtime,
        }
        images, texts = load_image_encoder(name, **loading), load_text_encoder(name, **loading)
        calls[name] = (_encoding_photos(images, photos), _encoding_captions(texts.encode, captions))
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in models}
    for number in range(rounds + 1):
        for name, (of_photos, of_captions) in calls.items():
            taken = _seconds(of_photos), _seconds(of_captions)
            if number:
                seconds[name][0].append(taken[0])
                seconds[name][1].append(taken[1])
    loads.append(os.getloadavg()[0])
    return {
        "models": {
            name: {
                "photos_per_second": Speed(tuple(len(photos) / value for value in on_photos)).to_json(),
                "captions_per_second": Speed(tuple(len(captions) / value for value in on_captions)).to_json(),
            }
            for name, (on_photos, on_captions) in seconds.items()
        },
        "photos": len(photos),
        "captions": len(captions),
        "rounds": rounds,
        "threads": 1,
        "load_average": loads,
    }


def _encoding_photos(encoder: ImageEncoder, photos: Sequence[bytes]) -> Callable[[], object]:
    def encode() -> object:
        inputs = [encoder.preprocessing.model_input(photo) for photo in photos]
        return encoder.encode(np.stack(inputs))

    return encode


def _encoding_captions(
    encode: Callable[[Sequence[str]], object], captions: Sequence[str]
) -> Callable[[], object]:
    return lambda: encode(captions)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


_METRIC = "hit@10"
QUALITY = f"the mean {_METRIC} of the directions"
PARETO_RULE = (
    f"Pareto-optimal: no other model here has at least the quality ({QUALITY}) and at least the photos a "
    "second, and more of one of them."
)


def quality_of(folds: Sequence[Mapping[str, Retrieval]]) -> dict[str, Any]:
    """The one number that models are compared by: ``value``, and its 95% ``interval``.

    It is the mean over directions and folds. The interval comes from the same resampled photos in both
    directions, because a photo that is easy to find is usually found in both.
    """
    parts = [(number, retrieval) for number, fold in enumerate(folds) for retrieval in fold.values()]
    values = [summarize(retrieval.ranks)[_METRIC] for _, retrieval in parts]
    samples = [
        bootstrap(retrieval.ranks, retrieval.photos, seed=SEED + number)[_METRIC]
        for number, retrieval in parts
    ]
    interval = intervals({_METRIC: np.mean(samples, axis=0)})[_METRIC]
    return {"value": float(np.mean(values)), "interval": interval}


def mark_pareto(models: Sequence[dict[str, Any]]) -> None:
    """Write ``pareto_optimal`` into each of ``models`` by its ``quality`` and ``photos_per_second``."""
    points = [(model["quality"]["value"], model["photos_per_second"]["median"]) for model in models]
    for model, optimal in zip(models, pareto_optimal(points), strict=True):
        model["pareto_optimal"] = optimal


def pareto_optimal(points: Sequence[Sequence[float]]) -> list[bool]:
    """For each point whether no other is at least as large in every coordinate and larger in one.

    Larger is better in every coordinate; equal points are optimal together.
    """
    return [not any(_dominates(other, point) for other in points) for point in points]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return tuple(one) != tuple(other) and all(a >= b for a, b in zip(one, other, strict=True))
