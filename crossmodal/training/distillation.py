"""What a student takes from a teacher: where captions lie, or how alike photos and captions are."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["similarity_divergence", "text_distance"]


def text_distance(student: Tensor, teacher: Tensor) -> Tensor:
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


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(
        F.log_softmax(student, dim=1),
        F.log_softmax(teacher, dim=1),
        log_target=True,
        reduction="batchmean",
    )
