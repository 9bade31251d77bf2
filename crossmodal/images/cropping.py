"""From an upright RGB photo of any size to the square that a model sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Frame", "Square", "cut_square", "shown_part"]

# Left, top, right and bottom.
Frame = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Square:
    """``size`` x ``size`` pixels of a photo: its middle (``crop``), or all of it (``squash``).

    For ``crop`` the short side is scaled to ``size``, or to ``short_side`` pixels where that is more.
    """

    size: int
    mode: Literal["crop", "squash"]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    short_side: int | None = None


def cut_square(image: Image, square: Square, frame: Frame | None = None) -> Image:
    """The ``square`` of a photo; ``frame`` is the rectangle that the photo fills, by default all of it.

    The middle is what torchvision's ``Resize`` (with antialiasing, as PIL has it) and ``CenterCrop`` make,
    but only that is ever scaled. Positions then differ in their last bits, and a few values by one step; more
    where Pillow, from version 13 on, scales columns before rows, as it may of high and of large photos.
    """
    from PIL.Image import Resampling

    size = square.size
    frame = (0.0, 0.0, *image.size) if frame is None else frame
    bicubic = square.interpolation == "bicubic"
    resample = Resampling.BICUBIC if bicubic else Resampling.BILINEAR
    if square.mode == "squash":
        return image.resize((size, size), resample, box=frame)
    left, top, right, bottom = _middle(frame, square)
    # How far the filter reaches; see Pillow's "Filters comparison table".
    reach = (2 if bicubic else 1) * max((bottom - top) / size, 1)
    first, last = max(math.floor(top - reach), 0), min(math.ceil(bottom + reach), image.height)
    # Rows before columns or columns before rows differs in what is rounded between them, and Pillow often
    # chooses otherwise for the middle than for the whole photo.
    rows = image.crop((0, first, image.width, last)) if (first, last) != (0, image.height) else image
    narrow = rows.resize((size, rows.height), resample, box=(left, 0, right, rows.height))
    return narrow.resize((size, size), resample, box=(0, top - first, size, bottom - first))


def shown_part(width: int, height: int, square: Square) -> Frame:
    """What of a photo of so many pixels the ``square`` shows, as shares of its sides."""
    if square.mode == "squash":
        return 0.0, 0.0, 1.0, 1.0
    left, top, right, bottom = _middle((0.0, 0.0, float(width), float(height)), square)
    return left / width, top / height, right / width, bottom / height


def _middle(frame: Frame, square: Square) -> Frame:
    """The part of ``frame`` that the square shows."""
    sides = frame[2] - frame[0], frame[3] - frame[1]
    # Scaled sides are cut to whole pixels and margins rounded, half to even, as torchvision does it.
    scaled = square.short_side or square.size
    width, height = (int(scaled * side // min(sides)) for side in sides)
    x, y = sides[0] / width, sides[1] / height
    left, top = round((width - square.size) / 2), round((height - square.size) / 2)
    return (
        frame[0] + left * x,
        frame[1] + top * y,
        # No further than the edge, by a last bit.
        min(frame[0] + (left + square.size) * x, frame[2]),
        min(frame[1] + (top + square.size) * y, frame[3]),
    )
