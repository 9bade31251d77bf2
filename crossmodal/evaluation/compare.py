"""Models side by side: one number for quality, one for speed, and which models are worth choosing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossmodal.evaluation.bootstrap import SEED, bootstrap, intervals
from crossmodal.evaluation.metrics import summarize
from crossmodal.evaluation.retrieval import Retrieval

__all__ = ["PARETO_RULE", "QUALITY", "mark_pareto", "pareto_optimal", "quality_of"]

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
