"""The weights of the two kinds of towers that most CLIP models are made of, apart from what computes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = [
    "Activation",
    "Block",
    "ImageTower",
    "Linear",
    "Norm",
    "Reading",
    "TextTower",
    "Transformer",
    "weight_bytes",
]

Activation = Literal["erf", "tanh", "quick"]


@dataclass(frozen=True)
class Linear:
    """``x @ weight.T + bias``: weight (outputs, inputs), bias (outputs,) or None."""

    weight: Tensor
    bias: Tensor | None

    def split(self, outputs: int) -> tuple[Linear, Linear]:
        """The first ``outputs`` outputs, and the others."""
        weight, bias = self.weight, self.bias
        return (
            Linear(weight[:outputs], None if bias is None else bias[:outputs]),
            Linear(weight[outputs:], None if bias is None else bias[outputs:]),
        )


@dataclass(frozen=True)
class Norm:
    """Layer normalisation over the last axis: weight and bias (width,)."""

    weight: Tensor
    bias: Tensor
    epsilon: float


@dataclass(frozen=True)
class Block:
    """``x + attention_out(attention(attention_in(attention_norm(x))))``, and the same with ``feed``.

    ``attention_in`` makes queries, keys and values, one after the other.
    """

    attention_norm: Norm
    attention_in: Linear
    attention_out: Linear
    feed_norm: Norm
    feed_in: Linear
    feed_out: Linear


@dataclass(frozen=True)
class Transformer:
    """Blocks one after the other, each with ``heads`` heads and this GELU."""

    blocks: tuple[Block, ...]
    heads: int
    activation: Activation


@dataclass(frozen=True)
class ImageTower:
    """A vision transformer (Dosovitskiy et al., 2021) as CLIP has it.

    ``patches`` (width, 3, side, side) is a convolution without overlap or bias; ``first`` (width,) is put
    before the patches and read again at the end (``pool`` "first"), or left out of their mean ("mean").
    ``norm_after`` comes before or after that, as ``norm_pooled`` says: a mean depends on it.
    """

    patches: Tensor
    first: Tensor
    positions: Tensor
    norm_before: Norm | None
    transformer: Transformer
    pool: Literal["first", "mean"]
    norm_after: Norm
    norm_pooled: bool
    projection: Linear | None


@dataclass(frozen=True)
class Reading:
    """Which place of a row of tokens is read: apart from the weights, which a graph doesn't hold.

    The first, the last, that of the largest number ("argmax"), or the first of the number ``end`` ("end").
    Where no place sees a later one (``causal``) what follows the place that is read has no influence, and
    need not be computed (``cut``).
    """

    causal: bool
    pool: Literal["first", "last", "argmax", "end"]
    end: int | None

    def cut(self, tokens: Tensor) -> list[list[int]]:
        """Rows of ``tokens`` (N, context) without what no place that is read can see."""
        rows: list[list[int]] = tokens.tolist()
        if not self.causal:
            return rows
        return [row[: place + 1] for row, place in zip(rows, self.places(tokens).tolist(), strict=True)]

    def places(self, tokens: Tensor) -> Tensor:
        """Where each row of ``tokens`` (N, context) is read: int64 (N,)."""
        if self.pool == "first":
            return torch.zeros(len(tokens), dtype=torch.int64)
        if self.pool == "last":
            return torch.full((len(tokens),), tokens.shape[1] - 1, dtype=torch.int64)
        if self.pool == "argmax":
            return tokens.argmax(dim=-1)
        return torch.eq(tokens, self.end or 0).int().argmax(dim=-1)


@dataclass(frozen=True)
class TextTower:
    """A transformer over tokens, of which one's place is read (``reading``).

    ``words`` (vocabulary, width), ``positions`` (context, width).
    """

    words: Tensor
    positions: Tensor
    transformer: Transformer
    reading: Reading
    norm: Norm
    projection: Linear | None


def weight_bytes(tower: ImageTower | TextTower) -> int:
    """What the tower's weights take in float32."""
    return 4 * sum(tensor.numel() for tensor in _tensors(tower))


def _tensors(part: Any) -> Iterator[Tensor]:
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, tuple):
        for inner in part:
            yield from _tensors(inner)
    elif is_dataclass(part):
        for field in fields(part):
            yield from _tensors(getattr(part, field.name))
