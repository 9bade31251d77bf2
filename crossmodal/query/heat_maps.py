"""Which parts of a photo a sentence finds it by: how far its cosine falls where one of them is grey.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), call it occlusion. It asks
nothing of the model but its vectors, and agrees with them more often than what the regions of the network say
(docs/explanations.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["GRID", "MEASURED", "HeatMap", "cells", "greyed"]

# Rows and columns of a map.
GRID = 5

# Halfway between black and white.
_GREY = 128

# Of 100 photos and their first captions, of Flickr8k's dev split, the share of which greying out the hottest
# fifth of the map takes more off the cosine than greying out any other fifth. Only models of which that is
# known have maps; tests/test_heat_maps.py measures it again.
MEASURED: Mapping[str, float] = {"clip-mini": 0.94, "vse": 0.93}


@dataclass(frozen=True, slots=True)
class HeatMap:
    """How much each part of the photo ``id`` has to do with ``text``.

    ``cosine`` is theirs; ``falls`` are by how much it falls where that part of the photo is grey, row by row
    from the top, and below 0 where the rest fits better. ``part`` is what of the upright photo the map
    covers, as the model sees no more: left, top, right and bottom as shares of its sides, None where these
    are not known.
    """

    id: str
    text: str
    cosine: float
    falls: tuple[tuple[float, ...], ...]
    part: tuple[float, float, float, float] | None = None


def cells(side: int) -> Iterator[tuple[slice, slice]]:
    """The rows and columns of pixels of each part of a square of ``side`` pixels, row by row."""
    edges = [round(side * number / GRID) for number in range(GRID + 1)]
    slices = [slice(start, end) for start, end in pairwise(edges)]
    return ((rows, columns) for rows in slices for columns in slices)


def greyed(pixels: NDArray[np.uint8], *parts: int) -> NDArray[np.uint8]:
    """A model's input uint8 (size, size, 3) with these parts, by their numbers from 0 on, grey."""
    changed = pixels.copy()
    for number, cell in enumerate(cells(len(pixels))):
        if number in parts:
            changed[cell] = _GREY
    return changed
