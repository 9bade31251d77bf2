"""Losses with a margin: VSE++'s hinges and triplets.

All take unit vectors ``images`` and ``texts``, float (N, dimension), row by row a pair, and ``photos``,
int64 (N,), which photo each row belongs to; they return a scalar, the mean over the N rows. Captions of one
photo may meet in a batch and its row among ``images`` then repeats: they are never each other's negatives.
Similarity s is the cosine.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["MINING", "Mining", "max_of_hinges", "sum_of_hinges", "triplet"]

Mining = Literal["random", "semi-hard", "hardest"]
MINING: tuple[Mining, ...] = ("random", "semi-hard", "hardest")


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


def triplet(images: Tensor, texts: Tensor, photos: Tensor, *, margin: float, mining: Mining) -> Tensor:
    """One hinge [margin + s(a, n) - s(a, p)]+ for each anchor a; photos and captions are anchors in turn.

    ``mining`` chooses the positive p and the negative n in the other modality:

    - ``random``: p is the row's own pair, n any negative, drawn from torch's generator.
    - ``semi-hard`` (Schroff et al. 2015, "FaceNet", section 3.2): p is the row's own pair, n the most similar
      negative that is still less similar than p; where there is none, the least similar negative.
    - ``hardest`` (Hermans et al. 2017, "In Defense of the Triplet Loss", equation 5, "batch hard"): p is the
      least similar caption or photo that belongs to a, n the most similar one that doesn't. With one caption
      of each photo in the batch this is ``max_of_hinges``.
    """
    similarity = images @ texts.T
    positive = photos[:, None] == photos[None, :]
    if bool(positive.all()):
        return (similarity * 0).mean()
    by_image = _mined_hinges(similarity, positive, margin, mining)
    by_text = _mined_hinges(similarity.T, positive, margin, mining)
    return (by_image + by_text).mean()


def _hinges(images: Tensor, texts: Tensor, photos: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Hinges (N, N) of photo (row) and caption (column): against the row's pair, and the column's pair."""
    similarity = images @ texts.T
    paired = similarity.diagonal()
    positive = photos[:, None] == photos[None, :]
    by_image = (margin + similarity - paired[:, None]).clamp(min=0).masked_fill(positive, 0)
    by_text = (margin + similarity - paired[None, :]).clamp(min=0).masked_fill(positive, 0)
    return by_image, by_text


def _mined_hinges(similarity: Tensor, positive: Tensor, margin: float, mining: Mining) -> Tensor:
    """The hinge of each anchor, (N,): anchors are the rows of ``similarity``; every row has a negative."""
    chosen = similarity.diagonal()
    if mining == "random":
        column = torch.multinomial((~positive).to(similarity.dtype), 1).squeeze(1)
        negative = similarity.gather(1, column[:, None]).squeeze(1)
    elif mining == "hardest":
        chosen = similarity.masked_fill(~positive, torch.inf).amin(dim=1)
        negative = similarity.masked_fill(positive, -torch.inf).amax(dim=1)
    else:
        farther = ~positive & (similarity < chosen[:, None])
        semi_hard = similarity.masked_fill(~farther, -torch.inf).amax(dim=1)
        easiest = similarity.masked_fill(positive, torch.inf).amin(dim=1)
        negative = torch.where(farther.any(dim=1), semi_hard, easiest)
    return (margin + negative - chosen).clamp(min=0)
