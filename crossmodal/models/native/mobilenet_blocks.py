"""The layers of MobileNet-EdgeTPU, for whatever computes them.

Channels, kernels and strides are those of "MobileNet-EdgeTPU" in the MLPerf Mobile benchmark, timm's
``mobilenet_edgetpu_100``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "FEATURES",
    "FIRST_BESIDE",
    "FIRST_CHANNELS",
    "STEM_CHANNELS",
    "Block",
    "branches_of",
    "same_padding",
    "stages",
]

# The length of a branch's pooled feature vector.
FEATURES = 1280

# The first stage that a second branch has of its own. What comes before is three quarters of the work.
FIRST_BESIDE = 3

STEM_CHANNELS = 32
# Of stage 0, a plain 1x1 convolution.
FIRST_CHANNELS = 16


class _Stage(NamedTuple):
    """A row of blocks: only the first changes stride and channels, and has its own expansion."""

    fused: bool
    kernel: int
    stride: int
    channels: int
    blocks: int
    skip_first: bool = True


_STAGES = (
    _Stage(fused=True, kernel=3, stride=2, channels=32, blocks=4),
    _Stage(fused=True, kernel=3, stride=2, channels=48, blocks=4),
    _Stage(fused=False, kernel=3, stride=2, channels=96, blocks=4),
    _Stage(fused=False, kernel=3, stride=1, channels=96, blocks=4, skip_first=False),
    _Stage(fused=False, kernel=5, stride=2, channels=160, blocks=4),
    _Stage(fused=False, kernel=3, stride=1, channels=192, blocks=1),
)
_FIRST_EXPANSION = 8
_EXPANSION = 4


@dataclass(frozen=True, slots=True)
class Block:
    """One block. A ``fused`` one widens by a full convolution of ``kernel`` and ``stride``; the others widen
    by a 1x1 convolution, and a depthwise one has kernel and stride. Both narrow by a linear 1x1 convolution.

    ``skip`` adds the input to what comes out.
    """

    fused: bool
    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int
    skip: bool


def stages() -> list[list[Block]]:
    """The blocks of the stages 1 to 6."""
    rows: list[list[Block]] = []
    channels = FIRST_CHANNELS
    for stage in _STAGES:
        blocks: list[Block] = []
        for number in range(stage.blocks):
            first = number == 0
            stride = stage.stride if first else 1
            skip = stride == 1 and channels == stage.channels and (stage.skip_first or not first)
            expansion = _FIRST_EXPANSION if first else _EXPANSION
            blocks.append(Block(stage.fused, channels, stage.channels, stage.kernel, stride, expansion, skip))
            channels = stage.channels
        rows.append(blocks)
    return rows


def branches_of(weights: Mapping[str, object]) -> int:
    """How many branches the network has whose parameters are among ``weights``, below ``cnn.``."""
    return 1 + any(name.startswith("cnn.beside.") for name in weights)


def same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of an axis, before and after it; for stride 2 the end can get more."""
    missing = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return missing // 2, missing - missing // 2
