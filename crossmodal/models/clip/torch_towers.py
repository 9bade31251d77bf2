"""The towers of ``towers`` computed by torch, in any type and on any device.

open_clip's own modules copy more than they multiply in bfloat16 (``nn.MultiheadAttention``), and always
compute all 77 places of a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from crossmodal.models.clip.towers import Activation, Block, ImageTower, Linear, Norm, TextTower, Transformer

__all__ = ["encode_photos", "encode_tokens", "moved"]

Tower = TypeVar("Tower", ImageTower, TextTower)


def moved(tower: Tower, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tower:
    """The tower with its weights as ``dtype`` on ``device``; tensors that are so already are shared."""
    found: Tower = _converted(tower, dtype, torch.device(device))
    return found


def encode_photos(tower: ImageTower, pixels: Tensor) -> Tensor:
    """Scaled photos (N, 3, size, size) of any float type to vectors float32 (N, dimension) of any length."""
    patches = tower.patches
    x = F.conv2d(pixels.to(patches), patches, stride=patches.shape[-1]).flatten(2).transpose(1, 2)
    x = torch.cat([tower.first.expand(len(x), 1, -1), x], dim=1) + tower.positions
    if tower.norm_before is not None:
        x = _norm(x, tower.norm_before)
    if tower.pool == "first":
        places = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        pooled = _norm(_read(x, tower.transformer, places, causal=False), tower.norm_after)
    else:
        x = _blocks(x, tower.transformer.blocks, tower.transformer, causal=False)
        pooled = (x if tower.norm_pooled else _norm(x, tower.norm_after))[:, 1:].mean(dim=1)
        pooled = _norm(pooled, tower.norm_after) if tower.norm_pooled else pooled
    return (pooled if tower.projection is None else _linear(pooled, tower.projection)).float()


def encode_tokens(tower: TextTower, tokens: Tensor, places: Tensor) -> Tensor:
    """Token numbers int64 (N, length) to vectors float32 (N, dimension) of any length.

    ``places`` int64 (N,) says which place of each row is read, as ``Reading.places`` finds it.
    """
    x = tower.words[tokens] + tower.positions[: tokens.shape[1]]
    pooled = _norm(_read(x, tower.transformer, places, causal=tower.reading.causal), tower.norm)
    return (pooled if tower.projection is None else _linear(pooled, tower.projection)).float()


def _blocks(x: Tensor, blocks: Sequence[Block], transformer: Transformer, *, causal: bool) -> Tensor:
    for block in blocks:
        rows, length, width = x.shape
        split = _linear(_norm(x, block.attention_norm), block.attention_in)
        query, key, value = _heads(split, 3, transformer.heads)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        x = x + _linear(mixed.transpose(1, 2).reshape(rows, length, width), block.attention_out)
        x = _fed(x, block, transformer.activation)
    return x


def _read(x: Tensor, transformer: Transformer, places: Tensor, *, causal: bool) -> Tensor:
    """What all blocks make of one place of each row: (N, length, width) to (N, width).

    The last block computes only that place, which saves nearly a twelfth of CLIP's usual twelve.
    """
    *blocks, last = transformer.blocks
    x = _blocks(x, blocks, transformer, causal=causal)
    rows, length, width = x.shape
    each = torch.arange(rows, device=x.device)
    inner = _norm(x, last.attention_norm)
    query_part, rest = last.attention_in.split(width)
    query = _linear(inner[each, places], query_part).view(rows, transformer.heads, 1, -1)
    key, value = _heads(_linear(inner, rest), 2, transformer.heads)
    seen = torch.arange(length, device=x.device) <= places[:, None] if causal else None
    mixed = F.scaled_dot_product_attention(
        query, key, value, attn_mask=None if seen is None else seen[:, None, None]
    )
    return _fed(
        x[each, places] + _linear(mixed.reshape(rows, width), last.attention_out),
        last,
        transformer.activation,
    )


def _fed(x: Tensor, block: Block, activation: Activation) -> Tensor:
    inner = _linear(_norm(x, block.feed_norm), block.feed_in)
    return x + _linear(_gelu(inner, activation), block.feed_out)


def _heads(x: Tensor, parts: int, heads: int) -> Tensor:
    """(N, length, parts * width) to (parts, N, heads, length, width / heads)."""
    rows, length, _ = x.shape
    return x.view(rows, length, parts, heads, -1).permute(2, 0, 3, 1, 4)


def _linear(x: Tensor, linear: Linear) -> Tensor:
    return F.linear(x, linear.weight, linear.bias)


def _norm(x: Tensor, norm: Norm) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), norm.weight, norm.bias, norm.epsilon)


def _gelu(x: Tensor, kind: Activation) -> Tensor:
    if kind == "quick":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if kind == "tanh" else "none")


def _converted(part: Any, dtype: torch.dtype, device: torch.device) -> Any:
    if isinstance(part, Tensor):
        return part.to(device, dtype).contiguous()
    if isinstance(part, tuple):
        return tuple(_converted(inner, dtype, device) for inner in part)
    if is_dataclass(part) and not isinstance(part, type):
        values = {field.name: getattr(part, field.name) for field in fields(part)}
        return replace(part, **{name: _converted(value, dtype, device) for name, value in values.items()})
    return part
