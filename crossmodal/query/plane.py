"""Vectors laid out on a plane, so that what is alike lies together: for a map of all photos.

Each photo is drawn to its nearest neighbours and pushed away from others that are picked at random, as
LargeVis (Tang et al. 2016) and UMAP (McInnes et al. 2018) do; here all photos move at the same time, which
numpy computes quickly. It begins at the two directions in which the vectors spread most, so that neighbours
of clusters stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["laid_out", "reduced"]

Floats = NDArray[np.float32]

# Fewer have no clusters to show.
_LEAST = 16

# So many are laid out; further ones lie between those that they are most like.
_MOST = 20_000
_BETWEEN = 3

_DIRECTIONS = 32
_NEIGHBOURS = 12
_EPOCHS = 200
_PUSHES = 5
# The spread of the beginning, in which the forces have the distance 1.
_SPREAD = 10.0
# No step is longer, whatever the forces come to.
_LONGEST_STEP = 1.0
_AT_ONCE = 1024


def laid_out(reduced: Floats, still_wanted: Callable[[], bool] = lambda: True) -> Floats | None:
    """A place from 0 to 1 in both directions, float32 (n, 2), for each vector that is ``reduced``.

    The same for the same vectors. None where ``still_wanted`` says no meanwhile.
    """
    count = len(reduced)
    if count < _LEAST:
        return _between_0_and_1(reduced[:, :2])
    random = np.random.default_rng(0)
    chosen = np.arange(count) if count <= _MOST else np.sort(random.choice(count, _MOST, replace=False))
    landmarks = reduced[chosen]
    places = _moved(landmarks, random, still_wanted)
    if places is None:
        return None
    if len(chosen) < count:
        all_places = np.empty((count, 2), np.float32)
        for start in range(0, count, _AT_ONCE):
            if not still_wanted():
                return None
            nearest, cosines = _nearest(reduced[start : start + _AT_ONCE], landmarks, _BETWEEN)
            weights = np.exp(8.0 * (cosines - cosines.max(axis=1, keepdims=True)))
            weights /= weights.sum(axis=1, keepdims=True)
            all_places[start : start + _AT_ONCE] = np.einsum("nk,nkd->nd", weights, places[nearest])
        all_places[chosen] = places
        places = all_places
    return _between_0_and_1(places)


def reduced(blocks: Callable[[], Iterable[Floats]]) -> Floats:
    """Vectors by the directions in which they spread most, those first: float32 (n, 2 to 32).

    ``blocks`` gives them twice, (any number, dimension) at a time, so that never all of them are in memory.
    """
    count, total, products = 0, np.zeros(1), np.zeros((1, 1))
    for block in blocks():
        count += len(block)
        total = total + block.sum(axis=0, dtype=np.float64)
        products = products + (block.T @ block)
    if not count:
        return np.empty((0, 2), np.float32)
    mean = total / count
    _, directions = np.linalg.eigh(products - count * np.outer(mean, mean))
    # Which way a direction points is arbitrary.
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], 0)
    kept = (directions * np.where(largest < 0, -1, 1))[:, ::-1][:, :_DIRECTIONS]
    if kept.shape[1] < 2:
        kept = np.pad(kept, ((0, 0), (0, 2 - kept.shape[1])))
    return np.concatenate([((block - mean) @ kept).astype(np.float32) for block in blocks()])


def _moved(points: Floats, random: np.random.Generator, still_wanted: Callable[[], bool]) -> Floats | None:
    count = len(points)
    places = points[:, :2] * (_SPREAD / max(float(points[:, :2].std()), 1e-6))
    places = (places + random.normal(0, 1e-2, places.shape)).astype(np.float32)
    sources, targets, weights = _edges(points, still_wanted)
    if not len(sources):
        return None
    for epoch in range(_EPOCHS):
        if not still_wanted():
            return None
        taken = random.random(len(weights), np.float32) < weights
        one, other = sources[taken], targets[taken]
        apart = places[one] - places[other]
        pull = -2.0 * apart / (1.0 + np.square(apart).sum(axis=1, keepdims=True))
        step = _summed(one, pull, count) - _summed(other, pull, count)
        pushed = np.repeat(one, _PUSHES)
        apart = places[pushed] - places[random.integers(count, size=len(pushed))]
        squared = np.square(apart).sum(axis=1, keepdims=True)
        step += _summed(pushed, 2.0 * apart / ((0.01 + squared) * (1.0 + squared)), count)
        step *= 0.3 * (1.0 - epoch / _EPOCHS)
        length = np.sqrt(np.square(step).sum(axis=1, keepdims=True))
        places += step * np.minimum(1.0, _LONGEST_STEP / np.maximum(length, 1e-9))
    return places


def _edges(
    points: Floats, still_wanted: Callable[[], bool]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Which is drawn to which, and in how large a share of the steps; nothing where that isn't wanted."""
    nearest, weights = [], []
    for start in range(0, len(points), _AT_ONCE):
        if not still_wanted():
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        found, cosines = _nearest(points[start : start + _AT_ONCE], points, _NEIGHBOURS + 1)
        # The nearest is the photo itself, or a copy of it.
        apart = 1.0 - cosines[:, 1:]
        beyond = apart - apart[:, :1]
        nearest.append(found[:, 1:])
        weights.append(np.exp(-beyond / np.maximum(beyond.mean(axis=1, keepdims=True), 1e-6)))
    sources = np.repeat(np.arange(len(points)), _NEIGHBOURS)
    return sources, np.concatenate(nearest).ravel(), np.concatenate(weights).ravel().astype(np.float32)


def _nearest(points: Floats, others: Floats, number: int) -> tuple[NDArray[np.int64], Floats]:
    """The ``number`` of ``others`` with the largest cosines to each point, the largest first, and these."""
    cosines = _of_unit_length(points) @ _of_unit_length(others).T
    found = np.argpartition(cosines, -number, axis=1)[:, -number:]
    of_found = np.take_along_axis(cosines, found, 1)
    order = np.argsort(-of_found, axis=1, kind="stable")
    return np.take_along_axis(found, order, 1), np.take_along_axis(of_found, order, 1)


def _of_unit_length(points: Floats) -> Floats:
    return np.asarray(points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9), np.float32)


def _summed(rows: NDArray[np.int64], values: Floats, count: int) -> Floats:
    """The sums of ``values`` (m, 2) by row: float32 (count, 2)."""
    return np.stack([np.bincount(rows, values[:, axis], count) for axis in (0, 1)], axis=1).astype(np.float32)


def _between_0_and_1(places: Floats) -> Floats:
    """The places, the longer side of what they cover from 0 to 1 and the other in the middle."""
    if not len(places):
        return np.empty((0, 2), np.float32)
    low, high = places.min(axis=0), places.max(axis=0)
    size = max(float((high - low).max()), 1e-9)
    return np.asarray(0.5 + (places - (low + high) / 2) / size, np.float32)
