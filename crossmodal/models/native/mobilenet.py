"""MobileNet-EdgeTPU without its classifier, with batch normalisation folded into the convolutions.

It computes the same as timm's ``mobilenet_edgetpu_100`` with ``pad_type="same"``, without the activation
after stage 0 (the published network has none there) and with global average pooling; a test compares
the two. It is written out here because importing timm takes longer than everything else that a query
does. Parameter names are timm's, so that ``fold_batch_norm`` can read a timm state dict.

It may have a second branch, ``beside``: the same layers from stage ``FIRST_BESIDE`` on with weights of their
own, on the same edges and textures, such as those from before the network was tuned.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models.native.mobilenet_blocks import (
    FEATURES,
    FIRST_BESIDE,
    FIRST_CHANNELS,
    STEM_CHANNELS,
    Block,
    same_padding,
    stages,
)

__all__ = ["FEATURES", "MobileNetEdgeTPU", "fold_batch_norm"]

# timm's BatchNorm2d epsilon for this architecture.
_BATCH_NORM_EPSILON = 1e-5


class _SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, which for stride 2 pads the end more than the start."""

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            # On one side of an odd kernel there is as much padding as on the other.
            return self._conv_forward_padded(input, kernel // 2)
        sides = [
            side
            for length in (input.shape[-1], input.shape[-2])
            for side in same_padding(length, kernel, stride)
        ]
        return self._conv_forward_padded(F.pad(input, sides), 0)

    def _conv_forward_padded(self, input: Tensor, padding: int) -> Tensor:
        return F.conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class _PlainBlock(nn.Module):
    """Stage 0: one linear 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _SameConv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class _FusedBlock(nn.Module):
    """A full convolution that widens, then a linear 1x1 convolution that narrows."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        wide = block.inputs * block.expansion
        self.conv_exp = _SameConv2d(block.inputs, wide, block.kernel, block.stride)
        self.conv_pwl = _SameConv2d(wide, block.outputs, 1)
        self.skip = block.skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv_pwl(F.relu(self.conv_exp(x)))
        return x + y if self.skip else y


class _SeparableBlock(nn.Module):
    """1x1 convolution that widens, depthwise convolution, linear 1x1 convolution that narrows."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        wide = block.inputs * block.expansion
        self.conv_pw = _SameConv2d(block.inputs, wide, 1)
        self.conv_dw = _SameConv2d(wide, wide, block.kernel, block.stride, groups=wide)
        self.conv_pwl = _SameConv2d(wide, block.outputs, 1)
        self.skip = block.skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv_pwl(F.relu(self.conv_dw(F.relu(self.conv_pw(x)))))
        return x + y if self.skip else y


class _Beside(nn.Module):
    """The second branch: the stages from ``FIRST_BESIDE`` on, by their numbers, and the last convolution."""

    def __init__(self) -> None:
        super().__init__()
        rows = stages()
        self.blocks = nn.ModuleDict(
            {str(number): _stage(row) for number, row in enumerate(rows, 1) if number >= FIRST_BESIDE}
        )
        self.conv_head = _SameConv2d(rows[-1][-1].outputs, FEATURES, 1)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.blocks.values():
            x = stage(x)
        return _pooled(self.conv_head(x))


def _stage(row: list[Block]) -> nn.Sequential:
    return nn.Sequential(*(_FusedBlock(block) if block.fused else _SeparableBlock(block) for block in row))


def _pooled(x: Tensor) -> Tensor:
    return F.relu(x).mean(dim=(2, 3))


class MobileNetEdgeTPU(nn.Module):
    """Photos to features: float (N, 3, side, side) in [-1, 1] to float (N, 1280).

    With ``branches`` 2 those of the second one follow, (N, 2560); ``features`` is how many there are.
    """

    def __init__(self, branches: int = 1) -> None:
        super().__init__()
        self.conv_stem = _SameConv2d(3, STEM_CHANNELS, 3, 2)
        rows = stages()
        self.blocks = nn.Sequential(
            nn.Sequential(_PlainBlock(STEM_CHANNELS, FIRST_CHANNELS)), *(_stage(row) for row in rows)
        )
        self.conv_head = _SameConv2d(rows[-1][-1].outputs, FEATURES, 1)
        self.beside = _Beside() if branches > 1 else None
        self.features = branches * FEATURES

    def forward(self, x: Tensor) -> Tensor:
        shared = self.blocks[:FIRST_BESIDE](F.relu(self.conv_stem(x)))
        own = _pooled(self.conv_head(self.blocks[FIRST_BESIDE:](shared)))
        return own if self.beside is None else torch.cat([own, self.beside(shared)], dim=1)


def fold_batch_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of ``MobileNetEdgeTPU`` (float32) out of a timm state dict of the same architecture.

    The classifier is left out. Batch normalisation y = (conv(x) - mean) * weight / sqrt(var + eps) + bias
    is a convolution too, with scaled weights and a bias of its own.
    Raises KeyError where the state dict belongs to another architecture.
    """
    norm_of_convolution = {"conv_stem": "bn1", "conv_head": "bn2"}
    for name, module in MobileNetEdgeTPU().named_modules():
        if isinstance(module, _PlainBlock):
            norm_of_convolution[f"{name}.conv"] = f"{name}.bn1"
        elif isinstance(module, _FusedBlock | _SeparableBlock):
            for number, (child, _) in enumerate(module.named_children(), start=1):
                norm_of_convolution[f"{name}.{child}"] = f"{name}.bn{number}"
    folded: dict[str, Tensor] = {}
    for convolution, norm in norm_of_convolution.items():
        weight, bias, mean, variance = (
            state[f"{norm}.{part}"].float() for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / torch.sqrt(variance + _BATCH_NORM_EPSILON)
        folded[f"{convolution}.weight"] = state[f"{convolution}.weight"].float() * scale[:, None, None, None]
        folded[f"{convolution}.bias"] = bias - mean * scale
    return folded
