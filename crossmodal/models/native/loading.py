"""The torch towers of a checkpoint, with its weights: for photos, and to train on from there."""

from __future__ import annotations

import torch
from torch import nn

from crossmodal.errors import ModelError
from crossmodal.models.native.checkpoint import NativeCheckpoint
from crossmodal.models.native.towers import GruTextTower, ImageTower, TransformerTextTower, text_tower

__all__ = ["load_image_tower", "load_text_tower"]


def load_image_tower(checkpoint: NativeCheckpoint) -> ImageTower:
    """The photo's side, ready to encode. Raises ModelError where the weights are missing or don't fit."""
    with torch.device("meta"):
        tower = ImageTower(checkpoint.dimension)
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.image_weights().items()}
    _fill(tower, weights, checkpoint)
    return tower


def load_text_tower(checkpoint: NativeCheckpoint) -> GruTextTower | TransformerTextTower:
    """The sentence's side, ready to encode. Raises as above."""
    with torch.device("meta"):
        tower = text_tower(checkpoint.text, len(checkpoint.vocabulary()), checkpoint.dimension)
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.text_weights().items()}
    _fill(tower, weights, checkpoint)
    return tower


def _fill(tower: nn.Module, weights: dict[str, torch.Tensor], checkpoint: NativeCheckpoint) -> None:
    try:
        tower.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ModelError(f"The weights in {checkpoint.folder} don't fit the network: {error}") from error
    tower.eval()
