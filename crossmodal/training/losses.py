"""Losses over a batch of pairs of one photo and one caption each.

All of them take unit vectors ``images`` and ``texts``, float (N, dimension), row by row a pair, and
``photos``, int64 (N,), which photo each row belongs to. Two captions of one photo may meet in a batch: they
are never each other's negatives.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["max_of_hinges", "sum_of_hinges"]


def max_of_hinges(images: Tensor, texts: Tensor, photos: Tensor, *, margin: float) -> Tensor:
    """VSE++ (Faghri et al. 2018, equation 6): only the hardest negative of each photo and caption counts.

    The mean over the batch of max_n [margin + s(i, t_n) - s(i, t)]+ + max_n [margin + s(i_n, t) - s(i, t)]+.
    """
    by_image, by_text = _hinges(images, texts, photos, margin)
    return (by_image.amax(dim=1) + by_text.amax(dim=0)).mean()


def sum_of_hinges(images: Tensor, texts: Tensor, photos: Tensor, *, margin: float) -> Tensor:
    """The loss before VSE++ (the same paper, equation 5): all negatives count.

    The mean over the batch of the sums over negatives. Its gradient doesn't depend on a single negative, so
    it is what a fresh model starts with: under the hardest negatives alone all vectors may collapse into one.
    """
    by_image, by_text = _hinges(images, texts, photos, margin)
    return (by_image.sum(dim=1) + by_text.sum(dim=0)).mean()


def _hinges(images: Tensor, texts: Tensor, photos: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Hinges (N, N) of photo (row) and caption (column): against the row's pair, and the column's pair."""
    similarity = images @ texts.T
    paired = similarity.diagonal()
    positive = photos[:, None] == photos[None, :]
    by_image = (margin + similarity - paired[:, None]).clamp(min=0).masked_fill(positive, 0)
    by_text = (margin + similarity - paired[None, :]).clamp(min=0).masked_fill(positive, 0)
    return by_image, by_text
