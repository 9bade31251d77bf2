"""How quickly this machine multiplies matrices of a vision transformer's shapes."""

from __future__ import annotations

from typing import Any, Literal

from bench.harness import Contender, repeated

__all__ = ["VIT_FLOPS", "contender"]

# ViT-B/32 on 224 pixels: 12 blocks over 50 tokens, 7 x 7 patches and the class, of 768 components.
_BLOCKS, _TOKENS, _WIDTH = 12, 50, 768
_PATCHES, _PATCH_VALUES, _DIMENSION = 49, 3 * 32 * 32, 512

# Inputs and outputs of the four linear layers of a block.
_LAYERS = ((_WIDTH, 3 * _WIDTH), (_WIDTH, _WIDTH), (_WIDTH, 4 * _WIDTH), (4 * _WIDTH, _WIDTH))

# Of the last block only the class's place is read: keys and values of all tokens, and the rest of that one.
_LAST_BLOCK = (
    _TOKENS * 2 * _WIDTH * _WIDTH
    + (sum(a * b for a, b in _LAYERS) - 2 * _WIDTH * _WIDTH)
    + 2 * _TOKENS * _WIDTH
)

# Products and sums of one photo: layers, attention (scores and their use), patches, the last projection.
VIT_FLOPS = 2 * (
    (_BLOCKS - 1) * (_TOKENS * sum(a * b for a, b in _LAYERS) + 2 * _TOKENS * _TOKENS * _WIDTH)
    + _LAST_BLOCK
    + _PATCHES * _PATCH_VALUES * _WIDTH
    + _WIDTH * _DIMENSION
)

_BATCH = 32


def contender(kind: Literal["f32", "bf16"]) -> Contender:
    """Measures the seconds for one operation (a product or a sum) in torch, on as many threads as it has.

    The four layers of a block for 32 photos, as the network runs them.
    """
    import torch

    dtype = torch.float32 if kind == "f32" else torch.bfloat16
    rows = _BATCH * _TOKENS
    pairs: list[tuple[Any, Any]] = [
        (torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype))
        for inputs, outputs in _LAYERS
    ]

    def multiply() -> None:
        with torch.inference_mode():
            for values, weights in pairs:
                torch.nn.functional.linear(values, weights)

    return repeated(multiply, 2 * rows * sum(a * b for a, b in _LAYERS))
