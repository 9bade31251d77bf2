"""Small WebPs of decoded photos, for rows of them on a page, and the colour that stands there before."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING

from crossmodal.errors import ImageError
from crossmodal.images.decoding import image_errors

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MAX_PREVIEW_SIDE", "PREVIEW_SIDES", "average_colour", "preview_of"]

# Pixels of the shorter side: of a row on an ordinary screen, and on a fine one.
PREVIEW_SIDES = (200, 480)

# What is larger is no preview.
MAX_PREVIEW_SIDE = 2048

# The longer side to the shorter one that was asked for. A strip that is longer becomes lower, as it does in a
# row: no photo is wider than the screen.
_LONGEST = 6

# Between 75 and 80 nothing is seen of it at this size. The slower methods save a few hundredths.
_QUALITY = 77
_METHOD = 2

# At an eighth of their size JPEGs of thumbnails are decoded by their blocks' means alone.
_DRAFT = (32, 32)


def preview_of(image: Image, side: int) -> bytes:
    """A WebP of the upright sRGB ``image``, its shorter side ``side`` pixels; a small one isn't enlarged.

    The longer side has at most six times as many. ``image`` becomes smaller itself: that takes no copy of it.
    """
    from PIL.Image import Resampling

    scale = min(side / min(image.size), _LONGEST * side / max(image.size), 1.0)
    width, height = (max(round(length * scale), 1) for length in image.size)
    image.thumbnail((width, height), Resampling.BICUBIC)
    out = BytesIO()
    # Nothing that the file had beside its pixels.
    image.save(out, "WEBP", quality=_QUALITY, method=_METHOD, icc_profile=b"", exif=b"", xmp=b"")
    return out.getvalue()


def average_colour(picture: bytes) -> int | None:
    """The mean of the pixels of a small picture that is trusted, such as a thumbnail, as 0xRRGGBB.

    None where it cannot be decoded.
    """
    from PIL import Image

    with suppress(ImageError), image_errors(picture), Image.open(BytesIO(picture)) as image:
        image.draft("RGB", _DRAFT)
        pixel = image.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        if isinstance(pixel, tuple):
            red, green, blue = pixel
            return int(red) << 16 | int(green) << 8 | int(blue)
    return None
