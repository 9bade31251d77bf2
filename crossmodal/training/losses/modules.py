"""Names of losses to modules that hold what a loss learns itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from crossmodal.errors import SettingsError
from crossmodal.settings import LOSSES
from crossmodal.training.losses.contrastive import infonce, multiple_negatives_ranking, sigmoid
from crossmodal.training.losses.hinges import max_of_hinges, sum_of_hinges, triplet

__all__ = ["LossSettings", "build"]

# CLIP's initial temperature is .07 and its scale is clamped at 100 (Radford et al. 2021, section 2.5).
_CLIP_SCALE = 1 / 0.07
_MAX_LOG_SCALE = math.log(100)

# SigLIP's initial values (Zhai et al. 2023, section 3.2): t = log 10, b = -10.
_SIGLIP_SCALE = 10.0
_SIGLIP_BIAS = -10.0

# sentence-transformers' default for cosines.
_RANKING_SCALE = 20.0


class LossSettings(Protocol):
    """What a loss is configured by; a stage of a training run is one.

    ``margin`` concerns hinges and triplets. ``scale`` is the initial scale of InfoNCE and of the sigmoid loss
    and the fixed one of multiple negatives ranking; None means the paper's.
    """

    @property
    def margin(self) -> float: ...

    @property
    def scale(self) -> float | None: ...


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


def build(name: str, settings: LossSettings) -> nn.Module:
    """The loss called ``name``, a module called with (images, texts, photos).

    What it learns are its parameters: ``log_scale`` of infonce and sigmoid, ``bias`` of sigmoid.
    Raises SettingsError for a name that isn't in ``LOSSES``.
    """
    margin, scale = settings.margin, settings.scale
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
