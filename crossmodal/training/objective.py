"""What a stage minimises: a loss over pairs, a distance to a teacher, or both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from crossmodal.errors import SettingsError
from crossmodal.settings import LOSSES
from crossmodal.training.config import Stage
from crossmodal.training.losses import (
    class_divergence,
    distance,
    infonce,
    max_of_hinges,
    multiple_negatives_ranking,
    sigmoid,
    similarity_divergence,
    sum_of_hinges,
    triplet,
)
from crossmodal.training.stage_data import Batch

__all__ = ["Objective", "build_loss"]

# CLIP's initial temperature is .07 and its scale is clamped at 100 (Radford et al. 2021, section 2.5).
_CLIP_SCALE = 1 / 0.07
_MAX_LOG_SCALE = math.log(100)
# SigLIP's initial values (Zhai et al. 2023, section 3.2): t = log 10, b = -10.
_SIGLIP_SCALE = 10.0
_SIGLIP_BIAS = -10.0
# sentence-transformers' default for cosines.
_RANKING_SCALE = 20.0


class _Fixed(nn.Module):
    """A loss that learns nothing."""

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, images: Tensor, texts: Tensor, photos: Tensor) -> Tensor:
        return self._function(images, texts, photos)


class _InfoNCE(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def forward(self, images: Tensor, texts: Tensor, photos: Tensor) -> Tensor:
        # The parameter itself, as CLIP does it: above the limit a clamped copy would have no gradient, and
        # the scale could never come down again.
        with torch.no_grad():
            self.log_scale.clamp_(max=_MAX_LOG_SCALE)
        return infonce(images, texts, photos, scale=self.log_scale.exp())


class _Sigmoid(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(_SIGLIP_BIAS))

    def forward(self, images: Tensor, texts: Tensor, photos: Tensor) -> Tensor:
        return sigmoid(images, texts, photos, scale=self.log_scale.exp(), bias=self.bias)


def build_loss(name: str, *, margin: float, scale: float | None) -> nn.Module:
    """The loss called ``name``, a module called with (images, texts, photos).

    ``margin`` concerns hinges and triplets. ``scale`` is the initial scale of InfoNCE and of the sigmoid loss
    and the fixed one of multiple negatives ranking; None means the paper's. The parameters of the module are
    what it learns: ``log_scale`` of infonce and sigmoid, ``bias`` of sigmoid.
    Raises SettingsError for a name that isn't in ``LOSSES``.
    """
    makers: Mapping[str, Callable[[], nn.Module]] = {
        "max-of-hinges": lambda: _Fixed(partial(max_of_hinges, margin=margin)),
        "sum-of-hinges": lambda: _Fixed(partial(sum_of_hinges, margin=margin)),
        "triplet-random": lambda: _Fixed(partial(triplet, margin=margin, mining="random")),
        "triplet-semi-hard": lambda: _Fixed(partial(triplet, margin=margin, mining="semi-hard")),
        "triplet-hardest": lambda: _Fixed(partial(triplet, margin=margin, mining="hardest")),
        "infonce": lambda: _InfoNCE(scale or _CLIP_SCALE),
        "mnr": lambda: _Fixed(partial(multiple_negatives_ranking, scale=scale or _RANKING_SCALE)),
        "sigmoid": lambda: _Sigmoid(scale or _SIGLIP_SCALE),
    }
    if name not in makers:
        raise SettingsError(f"There is no loss {name!r}; there are {', '.join(LOSSES)}.")
    return makers[name]()


class Objective(nn.Module):
    """The loss of a stage; its parameters are what the loss learns."""

    def __init__(self, stage: Stage, learned: Mapping[str, float]) -> None:
        """``learned`` is what an earlier loss learnt, by the names of its parameters.

        It is taken over where it has all that this loss learns (SigLIP's scale without its bias would start
        far off), and the stage doesn't say a ``scale`` itself.
        """
        super().__init__()
        self._stage = stage
        self.loss = (
            None if stage.loss is None else build_loss(stage.loss, margin=stage.margin, scale=stage.scale)
        )
        parameters = self.named_learned()
        if stage.scale is None and all(name in learned for name, _ in parameters):
            with torch.no_grad():
                for name, parameter in parameters:
                    parameter.fill_(learned[name])

    def named_learned(self) -> list[tuple[str, nn.Parameter]]:
        return [] if self.loss is None else list(self.loss.named_parameters())

    def learned(self) -> dict[str, float]:
        """What the loss has learnt so far."""
        return {name: parameter.item() for name, parameter in self.named_learned()}

    def forward(self, batch: Batch, images: Tensor | None, texts: Tensor) -> Tensor:
        """``images``: unit vectors of ``batch.images``; ``texts``: those of ``batch.tokens``."""
        stage, device = self._stage, texts.device
        pairs = texts[: batch.captions]
        value = texts.new_zeros(())
        if stage.classes is not None:
            assert images is not None
            assert batch.classes is not None
            classes = texts[-batch.classes.shape[1] :]
            texts = texts[: -batch.classes.shape[1]]
            divergence = class_divergence(
                images, classes, batch.classes.to(device), scale=stage.classes.scale
            )
            value = value + stage.classes.weight * divergence
        if images is not None:
            images = images[batch.rows.to(device)]
        if self.loss is not None:
            value = value + self.loss(images, pairs, batch.groups.to(device))
        if stage.distil in ("text", "vectors"):
            assert batch.teacher_texts is not None
            value = value + stage.teacher_weight * distance(texts, batch.teacher_texts.to(device))
        if stage.distil == "vectors":
            assert images is not None
            assert batch.teacher_images is not None
            value = value + stage.teacher_weight * distance(images, batch.teacher_images.to(device))
        elif stage.distil == "similarity":
            assert images is not None
            assert batch.teacher_texts is not None
            assert batch.teacher_images is not None
            divergence = similarity_divergence(
                images,
                pairs,
                batch.teacher_images.to(device),
                batch.teacher_texts[: batch.captions].to(device),
                temperature=stage.temperature,
            )
            value = value + stage.teacher_weight * divergence
        return value
