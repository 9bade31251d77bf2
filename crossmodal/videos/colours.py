"""The colours of HDR videos, which telephones record, as sRGB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["is_wide", "to_srgb"]

# Code points of ITU-T H.273, tables 2 and 3.
_BT2020_PRIMARIES = 9
_PQ, _HLG = 16, 18

# From the primaries of BT.2020 to those of BT.709, which sRGB has, in linear light (ITU-R BT.2087, 4).
_BT2020_TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)

# SMPTE ST 2084: the constants of the perceptual quantizer, whose 1.0 is 10,000 cd/m2.
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
# What is white paper in HDR (ITU-R BT.2408): 203 cd/m2.
_PAPER = 203 / 10_000

# How a BT.1886 display shows what was made for it, as HLG is where it is shown without HDR.
_DISPLAY_GAMMA = 2.4


def is_wide(primaries: int, transfer: int) -> bool:
    """Whether pixels with these code points are no sRGB, nearly."""
    return primaries == _BT2020_PRIMARIES or transfer in (_PQ, _HLG)


def to_srgb(pixels: NDArray[np.uint8], primaries: int, transfer: int) -> NDArray[np.uint8]:
    """RGB (height, width, 3) of wide or HDR colours as sRGB; what is brighter than paper is compressed."""
    values = pixels.astype(np.float32) / 255
    if transfer == _PQ:
        root = values ** (1 / _M2)
        light = (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1) / _PAPER
        # Reinhard's curve, by which paper becomes what is a little darker and the sun is white.
        light = light * (1 + light / 25) / (1 + light) * 1.6
    else:
        light = values**_DISPLAY_GAMMA
    if primaries == _BT2020_PRIMARIES:
        light = light @ _BT2020_TO_709.T
    light = np.clip(light, 0, 1)
    # IEC 61966-2-1.
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (shown * 255 + 0.5).astype(np.uint8)
