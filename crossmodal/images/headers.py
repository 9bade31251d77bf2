"""What a photo's header says, before anything is decoded: whether it may be decoded, and what that takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossmodal.errors import ImageError
from crossmodal.images.colours import has_alpha
from crossmodal.images.formats import format_of
from crossmodal.images.limits import MAX_ASPECT, MAX_FRAMES, MAX_SIDE, MEGABYTE

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["bytes_to_decode", "bytes_to_open", "check_size"]

# Beside the pixels: a block of Pillow's storage that is not full, tables of codecs, a row or two of buffers,
# what scaling keeps between its two passes, and the thumbnail.
_OVERHEAD_BYTES = 16 * MEGABYTE

# Pillow keeps colours of 3 or 4 channels in 4 bytes, and a pointer for each row.
_STORED_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
_COLOUR_BYTES = 4
_ROW_BYTES = 16

# Two copies beside the image while it becomes an array of 3 bytes a pixel; or one while it is turned upright,
# or cut and scaled.
_AS_ARRAY_BYTES = 6
_AS_INPUT_BYTES = 4


def check_size(size: tuple[int, int], max_pixels: int, frames: int = 1) -> None:
    """Raises ImageError, with the value and the limit, for an image that is too large to be decoded."""
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"The image has {width} x {height} = {width * height:,} pixels; the limit is {max_pixels:,}. "
            "Make it smaller first, or allow more with --max-pixels."
        )
    if max(size) > MAX_SIDE:
        raise ImageError(
            f"The image has {width:,} x {height:,} pixels; a side may have {MAX_SIDE:,}. Cut it first."
        )
    if max(size) > MAX_ASPECT * min(size):
        raise ImageError(
            f"The image has {width:,} x {height:,} pixels; its long side may be {MAX_ASPECT:,} times as long "
            "as the short one. Cut it first."
        )
    if frames > MAX_FRAMES:
        raise ImageError(f"The image has {frames:,} frames; the limit is {MAX_FRAMES:,}.")


def bytes_to_open(blob: bytes, max_pixels: int) -> int:
    """What opening a photo's file allocates for its pixels, mostly nothing; raises as ``check_size``."""
    format = format_of(blob)
    size = format.size_before_opening(blob)
    if size is None:
        return 0
    check_size(size, max_pixels)
    return _OVERHEAD_BYTES + 3 * len(blob) + format.opening_bytes * size[0] * size[1]


def bytes_to_decode(image: Image, blob: bytes, full_size: tuple[int, int], *, whole: bool) -> int:
    """The most that decoding the opened image holds at once, upright and as RGB.

    ``image`` has the size that it will be decoded at; ``full_size`` is that of the file. ``whole`` is for an
    array of all pixels, otherwise for a model's input and a thumbnail.
    """
    width, height = image.size
    pixels = width * height
    stored = pixels * _STORED_BYTES.get(image.mode, _COLOUR_BYTES)
    colour = pixels * _COLOUR_BYTES
    # Not all at once: what a stage no longer needs is gone in the next one.
    decoding = stored + format_of(blob).codec_bytes(image, full_size)
    converting = 0 if image.mode == "RGB" else stored + pixels + colour
    if has_alpha(image):
        # It lies beside the white that it is laid on.
        converting = stored + 2 * colour
    giving = colour + pixels * (_AS_ARRAY_BYTES if whole else _AS_INPUT_BYTES)
    rows = 3 * _ROW_BYTES * max(full_size)
    return max(decoding, converting, giving) + rows + _OVERHEAD_BYTES + 3 * len(blob)
