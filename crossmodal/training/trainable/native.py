"""This project's own models: a CNN beside a GRU or a transformer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models.native.checkpoint import save_checkpoint
from crossmodal.models.native.text_config import GruConfig
from crossmodal.models.native.towers import GruTextTower, ImageTower, TransformerTextTower
from crossmodal.models.native.vocabularies import Vocabulary, WordPieces, padded
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.training.trainable.base import Part, TextParts, Trainable

__all__ = ["NativeModel"]

# Texts that go through the text tower together: of about one length, so that little of it is padding.
_TEXTS = 128


class NativeModel(Trainable):
    """A MobileNet-EdgeTPU with a linear head, and a text tower with its vocabulary."""

    standardises = True
    any_size = True
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        image: ImageTower,
        text: GruTextTower | TransformerTextTower,
        vocabulary: Vocabulary | WordPieces,
        preprocessing: ImagePreprocessing,
        *,
        quantize_text: bool | None = None,
    ) -> None:
        super().__init__()
        # Channels last is what CPU convolutions compute in.
        self.image: ImageTower = image.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.text = text
        self.vocabulary = vocabulary
        self.preprocessing = preprocessing
        self.kind = "gru" if isinstance(text, GruTextTower) else "transformer"
        self.dimension = image.projection.out_features
        self._quantize_text = self.kind == "transformer" if quantize_text is None else quantize_text
        self._feature_dropout = nn.Dropout(0.0)
        self.register_buffer("mean", torch.zeros(image.cnn.features), persistent=False)
        self.register_buffer("deviation", torch.ones(image.cnn.features), persistent=False)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.vocabulary.numbers_of(text) for text in texts]

    def features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.image.cnn(pixels.contiguous(memory_format=torch.channels_last))
        return features

    def images(self, features: Tensor) -> Tensor:
        # bfloat16 would round vectors to three digits, and heads cost next to nothing.
        with torch.autocast(features.device.type, enabled=False):
            standard = (features.float() - self.mean) / self.deviation
            return self.image.project(self._feature_dropout(standard))

    def texts(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        return self._text_head(self._text_features(tokens))

    def text_parts(self) -> TextParts:
        return TextParts(self._text_features, self._text_head)

    def _text_features(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """What the transformer makes of N token rows before its head, (N, width), or the vectors of a GRU,
        which has no head."""
        if isinstance(self.text, GruTextTower):
            return self._by_length(tokens, self.text).float()
        return self._by_length(tokens, self.text.pool)

    def _text_head(self, features: Tensor) -> Tensor:
        if isinstance(self.text, GruTextTower):
            return features
        with torch.autocast(features.device.type, enabled=False):
            return F.normalize(self.text.projection(features.float()), dim=-1)

    def _by_length(
        self, tokens: Sequence[Sequence[int]], tower: Callable[[Tensor, list[int]], Tensor]
    ) -> Tensor:
        """What ``tower`` makes of the rows, those of about one length together."""
        order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
        parts = []
        for start in range(0, len(order), _TEXTS):
            numbers, lengths = padded([tokens[row] for row in order[start : start + _TEXTS]])
            parts.append(tower(torch.from_numpy(numbers).to(self.mean.device), lengths.tolist()))
        found = torch.cat(parts)
        back = torch.empty(len(order), dtype=torch.int64)
        back[torch.tensor(order)] = torch.arange(len(order))
        return found[back.to(found.device)]

    def image_trunk(self) -> nn.Module:
        return self.image.cnn

    def part_of(self, name: str) -> Part | None:
        if name.startswith("image.cnn.beside."):
            # It is there for what pretraining knew.
            return None
        if name.startswith("image.cnn."):
            return "image_trunk"
        return "head" if ".projection." in name else "text_trunk"

    def layer_of(self, name: str) -> int | None:
        part = self.part_of(name)
        if part == "image_trunk":
            if name.startswith("image.cnn.conv_stem."):
                return 0
            return 1 + (int(name.split(".")[3]) if ".blocks." in name else len(self.image.cnn.blocks))
        if part == "text_trunk" and self.kind == "transformer":
            return int(name.split(".")[2]) if name.startswith("text.layers.") else 0
        return None

    def is_word_embedding(self, name: str) -> bool:
        return self.kind == "transformer" and name in ("text.embedding.weight", "text.positions")

    def standardise(self, mean: Tensor, deviation: Tensor) -> None:
        weight, bias = self._head_for_raw_features()
        with torch.no_grad():
            self.mean.copy_(mean)
            self.deviation.copy_(deviation)
            self.image.projection.weight.copy_(weight * self.deviation)
            self.image.projection.bias.copy_(bias + weight @ self.mean)

    def _head_for_raw_features(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the image head that doesn't standardise."""
        weight = self.image.projection.weight.detach() / self.deviation
        return weight, self.image.projection.bias.detach() - weight @ self.mean

    def set_dropout(self, text: float, features: float) -> None:
        self._feature_dropout.p = features
        for module in self.text.modules():
            if isinstance(module, nn.Dropout):
                module.p = text

    def save(self, folder: Path, *, learned: Mapping[str, float], training: Mapping[str, Any]) -> None:
        """A checkpoint folder as ``native.checkpoint`` describes; what the loss learnt isn't part of it."""
        image = {name: _array(value) for name, value in self.image.state_dict().items()}
        weight, bias = self._head_for_raw_features()
        image |= {"projection.weight": _array(weight), "projection.bias": _array(bias)}
        text = self.text
        config = GruConfig(text.embedding.embedding_dim) if isinstance(text, GruTextTower) else text.config
        save_checkpoint(
            folder,
            image_weights=image,
            text_weights={name: _array(value) for name, value in text.state_dict().items()},
            text=config,
            vocabulary=self.vocabulary,
            dimension=self.dimension,
            preprocessing=self.preprocessing,
            training=training,
            # With two branches it would be larger than all the rest of a small model.
            quantize_image=self.image.cnn.beside is not None,
            quantize_text=self._quantize_text,
        )


def _array(value: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = value.detach().float().cpu().numpy()
    return array
