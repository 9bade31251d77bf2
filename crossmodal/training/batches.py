"""Which captions meet in which batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["batches_of", "number_of_batches"]

Rows = npt.NDArray[np.int64]


def number_of_batches(photos: Rows, batch_size: int, captions_per_photo: int) -> int:
    """How many batches ``batches_of`` makes of captions whose photos are ``photos``, int64 (captions,)."""
    _, counts = np.unique(photos, return_counts=True)
    groups = int(np.sum(-(-counts // captions_per_photo)))
    return max(1, groups // (batch_size // captions_per_photo))


def batches_of(
    photos: Rows, batch_size: int, captions_per_photo: int, rng: np.random.Generator
) -> list[Rows]:
    """One epoch: rows of captions in random order, each in at most one batch.

    A photo's captions come in groups of ``captions_per_photo`` (its last group may be smaller), and a batch
    holds batch_size // captions_per_photo groups. Groups that don't fill a last batch are left out of the
    epoch, unless they are all there is.
    """
    shuffled = rng.permutation(len(photos))
    by_photo = shuffled[np.argsort(photos[shuffled], kind="stable")]
    ordered = photos[by_photo]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    place = np.arange(len(photos)) - np.repeat(starts, np.diff(np.r_[starts, len(photos)]))
    groups = np.split(by_photo, np.flatnonzero(place % captions_per_photo == 0)[1:])
    order = rng.permutation(len(groups))
    size = batch_size // captions_per_photo
    count = max(1, len(groups) // size)
    return [
        np.concatenate([groups[number] for number in order[start * size : (start + 1) * size]])
        for start in range(count)
    ]
