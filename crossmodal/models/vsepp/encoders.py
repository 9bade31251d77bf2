"""The encoders of an original VSE++ checkpoint, whose towers are built in the shapes that it has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from crossmodal.errors import ModelError
from crossmodal.models.encoders import LoadOptions, NetworkImageEncoder, NetworkTextEncoder, Runner
from crossmodal.models.libraries import import_torchvision
from crossmodal.models.runtimes.choice import Candidate, Memory, choose
from crossmodal.models.runtimes.forms import TORCH_F32, set_torch_threads, torch_concurrency
from crossmodal.models.vsepp.source import VseppSource

__all__ = ["load_image_encoder", "load_text_encoder"]

Floats = npt.NDArray[np.float32]

# Photos or sentences that go through a tower at once.
_BATCH = 32

# The original wraps its CNN, or the convolutions of one, in DataParallel, which names itself in every key.
_WRAPPER = re.compile(r"^cnn\.module\.|^cnn\.(?=features\.|classifier\.)")
# Checkpoints made before torchvision moved VGG's dropout number its linear layers otherwise.
_OLD_CLASSIFIER = {"classifier.1.": "classifier.0.", "classifier.4.": "classifier.3."}


def load_image_encoder(source: VseppSource, options: LoadOptions) -> NetworkImageEncoder:
    """The image encoder of ``source``. Errors as for ``registry.load_image_encoder``."""

    def load() -> NetworkImageEncoder:
        checkpoint = source.checkpoint
        tower = _tower(
            source, options, lambda: _ImageTower(checkpoint.cnn, checkpoint.image, checkpoint.absolute)
        )
        preprocessing = source.preprocessing

        def run(pixels: npt.NDArray[np.uint8]) -> Floats:
            with torch.inference_mode():
                return np.asarray(tower(torch.from_numpy(preprocessing.scale(pixels))).numpy())

        return NetworkImageEncoder(source.identity, preprocessing, _runner(run))

    memory = Memory("image", source.identity.weights, (), ())
    return choose(options.runtime, [], Candidate(TORCH_F32, load), probes=list, memory=memory)


def load_text_encoder(source: VseppSource, options: LoadOptions) -> NetworkTextEncoder:
    """The text encoder of ``source``, which reads a text of any length to its end.

    Errors as for ``registry.load_text_encoder``.
    """

    def load() -> NetworkTextEncoder:
        vocabulary, checkpoint = source.vocabulary(), source.checkpoint
        tower = _tower(source, options, lambda: _TextTower(checkpoint.text, checkpoint.absolute))

        def tokenize(texts: Sequence[str]) -> list[list[int]]:
            return [vocabulary.numbers_of(text) for text in texts]

        def run(rows: Sequence[Sequence[int]]) -> Floats:
            numbers = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.int64)
            for index, row in enumerate(rows):
                numbers[index, : len(row)] = torch.tensor(row)
            with torch.inference_mode():
                return np.asarray(tower(numbers, [len(row) for row in rows]).numpy())

        return NetworkTextEncoder(source.identity, tokenize, _runner(run))

    memory = Memory("text", source.identity.weights, (), ())
    return choose(options.runtime, [], Candidate(TORCH_F32, load), probes=list, memory=memory)


def _tower(source: VseppSource, options: LoadOptions, build: Callable[[], nn.Module]) -> nn.Module:
    set_torch_threads(options.threads)
    try:
        return build().float().eval()
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ModelError(f"The weights {source.path} don't fit {source.checkpoint.cnn}: {reason}.") from error


def _runner(run: Callable[..., Floats]) -> Runner:
    return Runner(str(TORCH_F32), torch_concurrency(), _BATCH, run)


class _ImageTower(nn.Module):
    """CNN without its last layer, unit length, linear projection: (N, 3, 224, 224) to (N, dimension)."""

    def __init__(self, kind: str, weights: Mapping[str, Tensor], absolute: bool) -> None:
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


class _TextTower(nn.Module):
    """Word embeddings and a GRU; a caption's vector is the state after its last word."""

    def __init__(self, weights: Mapping[str, Tensor], absolute: bool) -> None:
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
