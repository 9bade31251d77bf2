"""The two towers of the original VSE++, for inference, built in the shapes that a checkpoint has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from crossmodal.errors import ModelError
from crossmodal.models.torchvision_operators import import_torchvision

__all__ = ["VseppImageTower", "VseppTextTower"]

# The original wraps its CNN, or the convolutions of one, in DataParallel, which names itself in every key.
_WRAPPER = re.compile(r"^cnn\.module\.|^cnn\.(?=features\.|classifier\.)")
# Checkpoints made before torchvision moved VGG's dropout number its linear layers otherwise.
_OLD_CLASSIFIER = {"classifier.1.": "classifier.0.", "classifier.4.": "classifier.3."}


class VseppImageTower(nn.Module):
    """CNN without its last layer, unit length, linear projection: (N, 3, 224, 224) to (N, dimension)."""

    def __init__(self, kind: str, weights: Mapping[str, Tensor], *, absolute: bool) -> None:
        """``kind`` is torchvision's name of a ResNet or VGG; raises ModelError for others."""
        super().__init__()
        own = _cnn_weights(weights)
        self.cnn = _cnn(kind, own)
        self.cnn.load_state_dict(own, assign=True)
        self.fc = _linear(weights, "fc")
        self.absolute = absolute

    def forward(self, pixels: Tensor) -> Tensor:
        """Vectors of any length; VSE++ scales them to unit length, ``absolute`` then drops their signs."""
        features: Tensor = self.fc(nn.functional.normalize(self.cnn(pixels), dim=1))
        return features.abs() if self.absolute else features


class VseppTextTower(nn.Module):
    """Word embeddings and a GRU; a caption's vector is the state after its last word."""

    def __init__(self, weights: Mapping[str, Tensor], *, absolute: bool) -> None:
        super().__init__()
        words, width = weights["embed.weight"].shape
        dimension = weights["rnn.weight_hh_l0"].shape[1]
        layers = sum(name.startswith("rnn.weight_hh_l") for name in weights)
        with torch.device("meta"):
            self.embed = nn.Embedding(words, width)
            self.rnn = nn.GRU(width, dimension, layers, batch_first=True)
        self.load_state_dict(dict(weights), assign=True)
        self.absolute = absolute

    def forward(self, numbers: Tensor, lengths: Sequence[int]) -> Tensor:
        """``numbers`` int64 (N, longest), padded at the end, to (N, dimension)."""
        packed = pack_padded_sequence(
            self.embed(numbers), torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
        states: Tensor = self.rnn(packed)[1]
        return states[-1].abs() if self.absolute else states[-1]


def _cnn_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The CNN's part of the checkpoint under torchvision's names."""
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        if not name.startswith("cnn."):
            continue
        name = _WRAPPER.sub("", name).replace("features.module.", "features.", 1)
        found[name] = value
    if "classifier.1.weight" in found:
        return {_renamed(name): value for name, value in found.items()}
    return found


def _renamed(name: str) -> str:
    for old, new in _OLD_CLASSIFIER.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _cnn(kind: str, weights: Mapping[str, Tensor]) -> nn.Module:
    import_torchvision()
    from torchvision import models

    if not kind.startswith(("resnet", "vgg")) or not hasattr(models, kind):
        raise ModelError(
            f"The checkpoint's CNN is {kind!r}; VSE++'s are resnet152 and vgg19 and their siblings."
        )
    with torch.device("meta"):
        cnn: nn.Module = getattr(models, kind)(weights=None)
    if kind.startswith("resnet"):
        cnn.fc = nn.Identity()
        return cnn
    # VGG's last layer gave way to the projection; dropout does nothing when a network only infers.
    cnn.classifier = nn.Sequential(
        _linear(weights, "classifier.0"),
        nn.ReLU(),
        nn.Dropout(),
        _linear(weights, "classifier.3"),
        nn.ReLU(),
        nn.Dropout(),
    )
    return cnn


def _linear(weights: Mapping[str, Tensor], name: str) -> nn.Linear:
    rows, columns = weights[f"{name}.weight"].shape
    with torch.device("meta"):
        layer = nn.Linear(columns, rows)
    layer.load_state_dict({part: weights[f"{name}.{part}"] for part in ("weight", "bias")}, assign=True)
    return layer
