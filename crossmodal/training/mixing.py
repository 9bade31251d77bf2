"""Means of the weights that a trunk was pretrained with and those it has learnt since.

What pretraining knew of things that no photo of the training data shows comes back with them, and what was
learnt of those remains (WiSE-FT, Wortsman et al. 2021, "Robust fine-tuning of zero-shot models").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from crossmodal.errors import SettingsError
from crossmodal.training.dev import metrics_of
from crossmodal.training.reports import Metrics, score_of
from crossmodal.training.trainable.base import Trainable

__all__ = ["Weights", "best_mean", "best_means", "put_means", "trunks_of"]

Weights = Mapping[str, Tensor]
_Vectors = Callable[[], npt.NDArray[np.float32]]
_TRUNKS = ("image_trunk", "text_trunk")


def trunks_of(model: Trainable, parameters: Mapping[str, Tensor]) -> Weights:
    """Copies of what ``model`` has for those of ``parameters`` that belong to a trunk.

    Raises SettingsError where it is another network.
    """
    own = dict(model.named_parameters())
    names = [name for name in parameters if model.part_of(name) in _TRUNKS]
    for name in names:
        if name not in own or own[name].shape != parameters[name].shape:
            raise SettingsError(
                f"The training setting origin names the weights of another network: {name} differs."
            )
    return {name: own[name].detach().clone() for name in names}


@torch.no_grad()
def put_means(
    model: Trainable,
    learnt: Weights | Mapping[str, nn.Parameter],
    origin: Weights,
    image_share: float,
    text_share: float,
) -> None:
    """Give the trunks of ``model`` the means of ``learnt`` and of ``origin``, whose shares these are."""
    parameters = dict(model.named_parameters())
    for name, value in origin.items():
        share = image_share if model.part_of(name) == "image_trunk" else text_share
        parameters[name].copy_(torch.lerp(learnt[name], value.to(parameters[name].device), share))


def best_means(
    model: Trainable,
    learnt: Mapping[str, nn.Parameter],
    origin: Weights,
    shares: Sequence[float],
    photos: _Vectors,
    captions: _Vectors,
    photo_of_caption: npt.NDArray[np.int64],
) -> tuple[float, float]:
    """Put the means in place that retrieve best; the shares of ``origin`` in the image and the text trunk.

    Each of ``shares``, and 0, is tried in one together with each in the other. ``photos`` and ``captions``
    make the vectors of the model as it is, of photos and of captions, whose photos are ``photo_of_caption``.
    """
    before = {name: learnt[name].detach().clone() for name in origin}
    by_image, by_text = {}, {}
    for share in {0.0, *shares}:
        put_means(model, before, origin, share, share)
        by_image[share], by_text[share] = photos(), captions()
    scores = {
        pair: score_of(metrics_of(by_image[pair[0]], by_text[pair[1]], photo_of_caption))
        for pair in product(sorted(by_image), sorted(by_text))
    }
    best = max(scores, key=scores.__getitem__)
    put_means(model, before, origin, *best)
    return best


@torch.no_grad()
def best_mean(
    parameters: Mapping[str, nn.Parameter],
    other: Weights,
    shares: Sequence[float],
    measure: Callable[[], Metrics],
) -> float:
    """Put the mean of ``parameters`` and ``other`` in place that is best by ``measure``.

    Returns the share of ``other``. Each of ``shares``, and 0, is tried (model soups, Wortsman et al. 2022).
    """
    before = {name: parameters[name].detach().clone() for name in other}

    def put(share: float) -> None:
        for name, value in other.items():
            parameters[name].copy_(torch.lerp(before[name], value, share))

    scores = {}
    for share in sorted({0.0, *shares}):
        put(share)
        scores[share] = score_of(measure())
    best = max(scores, key=scores.__getitem__)
    put(best)
    return best
