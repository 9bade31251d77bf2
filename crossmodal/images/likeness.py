"""Whether two photos are one picture: saved again, made smaller or brighter, or with a margin cut off.

Both are compared as small grey pictures, one as a whole and the other as a whole or without some of its
margins: by Pearson's correlation of their pixels, which neither brightness nor contrast changes. Two photos
of one scene differ in where things are, however alike they are to a model.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["likeness", "outline_of"]

# The sides of what is kept of a photo, and of what is compared.
_KEPT = 64
_COMPARED = 24

# Parts of a side that are left when margins are cut off, and where such a part may lie: 0 at the beginning,
# 1 at the end.
_PARTS = (0.95, 0.9, 0.85, 0.8)
_PLACES = (0.0, 0.5, 1.0)

# As wholes, pictures that are one but for their margins are alike as much as this.
_LEAST_AS_WHOLES = 0.2

# The spread, in grey levels, that counts as noise: pictures that vary no more are all alike, and textures,
# which come out differently at every size, nearly so.
_NOISE = 5.0

Outline = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def outline_of(photo: bytes) -> Outline:
    """The photo in a file that is trusted, such as a thumbnail, in grey: uint8 (64, 64)."""
    from PIL import Image

    with Image.open(BytesIO(photo)) as image:
        # A JPEG is decoded no larger than needed.
        image.draft("L", (2 * _KEPT, 2 * _KEPT))
        grey = image.convert("L").resize((_KEPT, _KEPT), Image.Resampling.BOX)
    return np.asarray(grey, np.uint8)


def likeness(one: Outline, other: Outline) -> float:
    """The correlation in [-1, 1] of two outlines, the best of all ways to cut margins off one of them.

    Up to a fifth of each side is cut off. Two pictures of one grey are alike.
    """
    windows = _windows()
    whole_one, whole_other = (_compared(outline, windows[:1])[0] for outline in (one, other))
    as_wholes = float(whole_one @ whole_other)
    if as_wholes < _LEAST_AS_WHOLES:
        return as_wholes
    return max(
        float((_compared(one, windows) @ whole_other).max()),
        float((_compared(other, windows) @ whole_one).max()),
    )


def _compared(outline: Outline, windows: Floats) -> Floats:
    """All parts of ``outline`` by ``windows`` (n, 24, 64) in height and width: (n * n, 577), of length 1.

    The last number of each is its share of noise, which all pictures have in common.
    """
    count = len(windows)
    rows = windows.reshape(-1, _KEPT)
    parts = (rows @ outline.astype(np.float32) @ rows.T).reshape(count, _COMPARED, count, _COMPARED)
    pictures = parts.transpose(0, 2, 1, 3).reshape(count * count, -1)
    pictures = pictures - pictures.mean(axis=1, keepdims=True)
    noise = np.full((len(pictures), 1), _NOISE * _COMPARED, np.float32)
    pictures = np.concatenate([pictures, noise], axis=1)
    return np.asarray(pictures / np.linalg.norm(pictures, axis=1, keepdims=True), np.float32)


@cache
def _windows() -> Floats:
    """How each part of a side is averaged from its 64 pixels to 24: (n, 24, 64), the whole side first."""
    parts = [(0.0, 1.0), *((place * (1 - part), part) for part in _PARTS for place in _PLACES)]
    edges = np.arange(_KEPT + 1) / _KEPT
    windows = np.zeros((len(parts), _COMPARED, _KEPT), np.float32)
    for number, (start, part) in enumerate(parts):
        bounds = start + part * np.arange(_COMPARED + 1) / _COMPARED
        for pixel, (low, high) in enumerate(pairwise(bounds.tolist())):
            covered = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
            windows[number, pixel] = np.maximum(covered, 0) / (high - low)
    return windows
