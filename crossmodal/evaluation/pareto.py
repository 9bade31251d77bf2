"""Which of several models are worth choosing at all."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["pareto_optimal"]


def pareto_optimal(points: Sequence[Sequence[float]]) -> list[bool]:
    """For each point whether no other is at least as large in every coordinate and larger in one.

    Larger is better in every coordinate; equal points are optimal together.
    """
    return [not any(_dominates(other, point) for other in points) for point in points]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return tuple(one) != tuple(other) and all(a >= b for a, b in zip(one, other, strict=True))
