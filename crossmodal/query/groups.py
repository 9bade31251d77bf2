"""Groups of photos on a plane, and the words that tell one from the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["grouped", "names_of"]

Floats = NDArray[np.float32]

_ROUNDS = 20


def grouped(places: Floats, number: int) -> NDArray[np.int64]:
    """The group of each of ``places`` (n, 2), from 0 to ``number`` - 1, by k-means.

    It begins with places that lie far from each other, so that what stands alone is a group. The same for
    the same places.
    """
    centres = [places[np.square(places - places.mean(axis=0)).sum(axis=1).argmax()]]
    apart = np.square(places - centres[0]).sum(axis=1)
    while len(centres) < number:
        centres.append(places[apart.argmax()])
        apart = np.minimum(apart, np.square(places - centres[-1]).sum(axis=1))
    middles = np.stack(centres)
    group = np.zeros(len(places), np.int64)
    for _ in range(_ROUNDS):
        group = np.square(places[:, None] - middles).sum(axis=2).argmin(axis=1)
        for each in range(number):
            if (group == each).any():
                middles[each] = places[group == each].mean(axis=0)
    return group


def names_of(
    photos: Floats, group: NDArray[np.int64], number: int, words: Floats, least: float
) -> dict[int, int]:
    """The number of the word that fits each group best, by the number of the group.

    ``photos`` (n, dimension) and ``words`` (m, dimension) are vectors of one model. Both are compared by how
    they differ from their own mean, as that is what tells groups apart. A word names the group that it fits
    best only, and none that it fits with a cosine below ``least``.
    """
    if not len(words) or not number:
        return {}
    usual = photos.mean(axis=0)
    means = np.stack(
        [photos[group == each].mean(axis=0) if (group == each).any() else usual for each in range(number)]
    )
    cosines = _of_unit_length(means - usual) @ _of_unit_length(words - words.mean(axis=0)).T
    named: dict[int, int] = {}
    for at in np.argsort(-cosines, axis=None):
        each, word = divmod(int(at), len(words))
        if cosines[each, word] < least:
            break
        if each not in named and word not in named.values():
            named[each] = word
    return named


def _of_unit_length(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), np.float32)
