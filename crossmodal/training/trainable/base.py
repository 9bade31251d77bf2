"""What the training loop needs from a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from crossmodal.models.preprocessing import ImagePreprocessing

__all__ = ["Part", "TextParts", "Trainable"]

Part = Literal["image_trunk", "text_trunk", "head"]


class TextParts(NamedTuple):
    """A text tower in two: ``trunk`` makes features (N, length) of N token rows, ``head`` unit vectors
    float32 (N, dimension) of features."""

    trunk: Callable[[Sequence[Sequence[int]]], Tensor]
    head: Callable[[Tensor], Tensor]


class Trainable(nn.Module, ABC):
    """Two towers into one space, each a trunk with features and a head that makes vectors of them.

    ``kind`` is "gru", "transformer" or "open_clip"; ``standardises`` whether ``standardise`` does anything.
    Parameters are in float32, and so are vectors, also where callers use autocast. ``any_size`` says whether
    ``features`` takes photos of other sizes than ``preprocessing`` makes.
    """

    kind: str
    dimension: int
    preprocessing: ImagePreprocessing
    standardises: bool = False
    any_size: bool = False

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The token numbers of each text, which ``texts`` takes."""

    @abstractmethod
    def features(self, pixels: Tensor) -> Tensor:
        """The image trunk: photos as ``preprocessing.scale`` makes them, float (N, 3, size, size), to
        features (N, length)."""

    @abstractmethod
    def images(self, features: Tensor) -> Tensor:
        """The image head: features (N, length) to unit vectors float32 (N, dimension)."""

    @abstractmethod
    def texts(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """The text tower: N token rows to unit vectors float32 (N, dimension)."""

    def text_parts(self) -> TextParts | None:
        """What ``texts`` is made of; None where trunk and head aren't apart."""
        return None

    @abstractmethod
    def image_trunk(self) -> nn.Module:
        """What ``features`` runs, whose parameters cached features depend on."""

    @abstractmethod
    def part_of(self, name: str) -> Part | None:
        """Which part the parameter ``name`` belongs to; None for one that is never trained."""

    def layer_of(self, name: str) -> int | None:
        """The number, from 0, of the image trunk's block or the text trunk's layer that the parameter
        ``name`` belongs to; None where its trunk isn't counted in them.
        """
        return None

    @abstractmethod
    def is_word_embedding(self, name: str) -> bool:
        """Whether the parameter ``name`` is a pretrained transformer's embedding of words or positions."""

    def standardise(self, mean: Tensor, deviation: Tensor) -> None:
        """The image head sees features less ``mean`` and divided by ``deviation`` (length,) from now on.

        Vectors stay as they are: the head's weights change to match. Features of very different sizes are
        learnt alike then. Pretrained heads that ``standardises`` excludes stay as they are.
        """

    @abstractmethod
    def set_dropout(self, text: float, features: float) -> None:
        """The share of values dropped in the text tower, where that is ours to say, and of image features."""

    def learned_by_loss(self) -> dict[str, float]:
        """What an earlier loss has learnt, by the names of its parameters; empty where nothing is known."""
        return {}

    @abstractmethod
    def save(self, folder: Path, *, learned: Mapping[str, float], training: Mapping[str, Any]) -> None:
        """Write what ``-m`` takes; ``learned`` is what the loss learnt, ``training`` notes for people."""
