"""Several views of a photo, whose embeddings' mean says more of it than one: whole, mirrored, and its
corners."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["VIEWS", "mean_over_views"]

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

# The side of a corner in parts of the photo's.
_CORNER = 0.8


def _corner(row: int, column: int, *, mirrored: bool = False) -> Callable[[Pixels], Pixels]:
    """The view of the corner at ``row`` and ``column``, 0 or 1 each, enlarged to the whole size."""

    def view(pixels: Pixels) -> Pixels:
        from PIL import Image

        size = pixels.shape[1]
        side = round(_CORNER * size)
        top, left = row * (size - side), column * (size - side)
        cut = pixels[:, top : top + side, left : left + side]
        enlarged = [
            np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.BICUBIC)) for photo in cut
        ]
        found = np.stack(enlarged) if enlarged else pixels
        return _mirrored(found) if mirrored else found

    return view


def _mirrored(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[:, :, ::-1])


# By how many there are, those beside the whole photo.
VIEWS: dict[int, tuple[Callable[[Pixels], Pixels], ...]] = {
    1: (),
    2: (_mirrored,),
    3: (_corner(0, 0), _corner(1, 1)),
    6: (
        _mirrored,
        _corner(0, 0),
        _corner(1, 1),
        _corner(0, 1, mirrored=True),
        _corner(1, 0, mirrored=True),
    ),
}


def mean_over_views(encode: Callable[[Pixels], Floats], pixels: Pixels, views: int) -> Floats:
    """The mean of ``encode`` over ``views`` views of model inputs uint8 (N, size, size, 3), at unit length.

    Float32 (N, dimension); one view is what ``encode`` gives.
    """
    whole = encode(pixels)
    if views == 1:
        return whole
    total = whole.astype(np.float64)
    for view in VIEWS[views]:
        total += encode(view(pixels))
    lengths = np.linalg.norm(total, axis=1, keepdims=True)
    return np.asarray(total / np.where(lengths > 0, lengths, 1), np.float32)
