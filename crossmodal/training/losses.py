"""Losses over the pairs of a batch, and what a student learns from a teacher.

Losses over pairs take unit vectors ``images`` and ``texts``, float (N, dimension), row by row a pair, and
``photos``, int64 (N,), which photo each row belongs to; they return a scalar, the mean over the N rows.
Several captions of a photo may be in a batch, where its row among ``images`` then repeats; they are never
negatives of each other. Similarity s is the cosine, and ``scale``, 1 / temperature, multiplies it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "MINING",
    "Mining",
    "class_divergence",
    "distance",
    "infonce",
    "max_of_hinges",
    "multiple_negatives_ranking",
    "sigmoid",
    "similarity_divergence",
    "sum_of_hinges",
    "triplet",
]

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


def distance(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean of 1 - cos over rows of unit vectors (N, dimension), both of the same dimension."""
    return 1 - (student * teacher).sum(dim=1).mean()


def similarity_divergence(
    images: Tensor, texts: Tensor, teacher_images: Tensor, teacher_texts: Tensor, *, temperature: float
) -> Tensor:
    """Kullback-Leibler divergence of the student's from the teacher's distribution over the batch.

    For each photo the softmax over captions of cosine / ``temperature``, and the reverse; the mean over rows
    and both directions. Unit vectors (N, dimension); teacher and student may differ in dimension. This is
    what TinyCLIP (Wu et al. 2023, section 3.1) calls affinity mimicking.
    """
    student = images @ texts.T / temperature
    teacher = teacher_images @ teacher_texts.T / temperature
    return (_divergence(student, teacher) + _divergence(student.T, teacher.T)) / 2


def class_divergence(images: Tensor, texts: Tensor, log_probabilities: Tensor, *, scale: float) -> Tensor:
    """Kullback-Leibler divergence of softmax(``scale`` * cosine) over classes from a classifier's.

    ``images`` are unit vectors (photos, dimension), ``texts`` those of the classes' sentences, and
    ``log_probabilities`` (photos, classes) the teacher's; the mean over photos.
    """
    student = F.log_softmax(scale * images @ texts.T, dim=1)
    return F.kl_div(student, log_probabilities, log_target=True, reduction="batchmean")


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(
        F.log_softmax(student, dim=1),
        F.log_softmax(teacher, dim=1),
        log_target=True,
        reduction="batchmean",
    )
