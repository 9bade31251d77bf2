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
_COMPARED = 32

# Parts of a side that are left when margins are cut off, and where such a part may lie: 0 at the beginning,
# 1 at the end.
_PARTS = (0.96, 0.92, 0.88, 0.84, 0.8)
_PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)

# Grey levels; what varies less has no picture to compare.
_LEAST_SPREAD = 1.0

Outline = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def outline_of(photo: bytes) -> Outline:
    """The photo in a file that is trusted, such as a thumbnail, in grey: uint8 (64, 64)."""
    from PIL import Image

    with Image.open(BytesIO(photo)) as image:
        grey = image.convert("L").resize((_KEPT, _KEPT), Image.Resampling.BOX)
    return np.asarray(grey, np.uint8)


def likeness(one: Outline, other: Outline) -> float:
    """The correlation in [-1, 1] of two outlines, the best of all ways to cut margins off one of them.

    Two pictures of one grey are alike, and are like no other picture.
    """
    windows = _windows()
    whole_one, whole_other = (_compared(outline, windows[:1])[0] for outline in (one, other))
    flat = [not picture.any() for picture in (whole_one, whole_other)]
    if any(flat):
        return float(all(flat))
    return max(
        float((_compared(one, windows) @ whole_other).max()),
        float((_compared(other, windows) @ whole_one).max()),
    )


def _compared(outline: Outline, windows: Floats) -> Floats:
    """All parts of ``outline`` by ``windows`` (n, 32, 64) in height and width: (n * n, 1024), normalised.

    Each has the mean 0 and the length 1, or is 0 where its pixels vary too little.
    """
    count = len(windows)
    rows = windows.reshape(-1, _KEPT)
    parts = (rows @ outline.astype(np.float32) @ rows.T).reshape(count, _COMPARED, count, _COMPARED)
    pictures = parts.transpose(0, 2, 1, 3).reshape(count * count, -1)
    pictures -= pictures.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(pictures, axis=1, keepdims=True)
    varied = lengths > _LEAST_SPREAD * _COMPARED
    return np.where(varied, pictures / np.where(varied, lengths, 1), 0).astype(np.float32)


@cache
def _windows() -> Floats:
    """How each part of a side is averaged from its 64 pixels to 32: (n, 32, 64), the whole side first."""
    parts = [(0.0, 1.0), *((place * (1 - part), part) for part in _PARTS for place in _PLACES)]
    edges = np.arange(_KEPT + 1) / _KEPT
    windows = np.zeros((len(parts), _COMPARED, _KEPT), np.float32)
    for number, (start, part) in enumerate(parts):
        bounds = start + part * np.arange(_COMPARED + 1) / _COMPARED
        for pixel, (low, high) in enumerate(pairwise(bounds.tolist())):
            covered = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
            windows[number, pixel] = np.maximum(covered, 0) / (high - low)
    return windows
