"""Losses over all pairs of a batch: InfoNCE, multiple negatives ranking, and SigLIP's sigmoid loss.

Arguments are those of the losses in ``hinges``; ``scale`` multiplies cosines (it is 1 / temperature).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["infonce", "multiple_negatives_ranking", "sigmoid"]


def infonce(images: Tensor, texts: Tensor, photos: Tensor, *, scale: Tensor | float) -> Tensor:
    """CLIP's loss (Radford et al. 2021, figure 3): cross entropy over photos and over captions, averaged.

    Other captions of a row's own photo are left out of its denominator.
    """
    logits = _without_other_positives(scale * images @ texts.T, photos)
    pairs = torch.arange(len(photos), device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def multiple_negatives_ranking(images: Tensor, texts: Tensor, photos: Tensor, *, scale: float) -> Tensor:
    """Cross entropy in one direction: captions are the queries, the batch's photos the candidates.

    Henderson et al. 2017, "Efficient Natural Language Response Suggestion for Smart Reply", section 4.4, with
    scaled cosines as sentence-transformers' MultipleNegativesRankingLoss has it.
    """
    logits = _without_other_positives(scale * texts @ images.T, photos)
    return F.cross_entropy(logits, torch.arange(len(photos), device=logits.device))


def sigmoid(
    images: Tensor, texts: Tensor, photos: Tensor, *, scale: Tensor | float, bias: Tensor | float
) -> Tensor:
    """SigLIP's loss (Zhai et al. 2023, equation 1): each cell of the batch is judged by itself.

    -sum log sigmoid(z * (scale * s + bias)) / N with z = 1 where photo and caption belong together and -1
    where not. All captions of a photo belong to it here, not just the row's own.
    """
    logits = scale * images @ texts.T + bias
    belongs = photos[:, None] == photos[None, :]
    return -F.logsigmoid(torch.where(belongs, logits, -logits)).sum() / len(photos)


def _without_other_positives(logits: Tensor, photos: Tensor) -> Tensor:
    """Logits (N, N) with -inf where row and column belong to one photo without being a pair."""
    same = photos[:, None] == photos[None, :]
    same.fill_diagonal_(False)
    return logits.masked_fill(same, -torch.inf)
