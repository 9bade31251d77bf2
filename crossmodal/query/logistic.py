"""Logistic regression of one variable, on histograms of two classes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["fit_line", "fit_logistic", "logistic", "logit"]

Doubles = npt.NDArray[np.float64]

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
