"""Untrusted bytes to upright RGB pixels in this process, and to thumbnails."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from crossmodal.errors import ImageError
from crossmodal.images.budget import process_budget
from crossmodal.images.cropping import Frame
from crossmodal.images.formats import name_of, open_image
from crossmodal.images.headers import bytes_to_decode, bytes_to_open, check_size
from crossmodal.images.limits import FIRST_GRANT_BYTES, MAX_PIXELS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

__all__ = [
    "Opened",
    "SizedPhoto",
    "decode_image",
    "decode_reduced",
    "image_errors",
    "jpeg_of",
    "thumbnail_of",
]

_THUMBNAIL_QUALITY = 85
_THUMBNAIL_SIDE = 256

_ORIENTATION_TAG = 0x0112

# EXIF orientation to what makes the photo upright, as names of PIL.Image.Transpose.
_TRANSPOSE = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}

# Deep greyscale is scaled so many pixels at a time, each of which takes some 25 bytes meanwhile.
_BAND_PIXELS = 1 << 18


@dataclass(frozen=True, slots=True)
class SizedPhoto:
    """Pixels uint8 (H, W, 3), and the rectangle of them that the photo fills.

    That is all of them, except where a JPEG was decoded at a fraction of its size: 897 pixels at half size
    are 448.5, and the 449th column lies half outside of the photo.
    """

    pixels: npt.NDArray[np.uint8]
    frame: Frame


def decode_image(blob: bytes, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """The photo in the bytes of a file: upright, RGB, uint8 (H, W, 3).

    JPEG, PNG, WebP, GIF, BMP and TIFF are read, of several frames the first. EXIF orientation is applied. An
    alpha channel is dropped, as open_clip's own transform does it; greyscale of 16 bits and more is scaled
    to 8 bits, not clipped. Waits until the memory that decoding takes is free in the budget of this process.

    Raises ImageError, with one sentence, for bytes that are empty, not an image, damaged or cut off, that
    hold more than ``max_pixels`` pixels, or whose decoding takes more memory than the budget has.
    """
    return _decoded(blob, None, max_pixels).pixels.copy()


def decode_reduced(blob: bytes, *, short_side: int, max_pixels: int = MAX_PIXELS) -> SizedPhoto:
    """The same for a photo that will be made smaller: no more pixels than that needs.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size, several times quicker, as long as its short side keeps
    at least ``short_side`` pixels; any other photo is decoded whole. Raises ImageError as ``decode_image``
    does.
    """
    return _decoded(blob, short_side, max_pixels)


def thumbnail_of(photo: SizedPhoto, *, side: int = _THUMBNAIL_SIDE) -> bytes:
    """A JPEG of the decoded photo, at most ``side`` pixels long; a small one isn't enlarged."""
    from PIL.Image import fromarray

    return jpeg_of(fromarray(photo.pixels), side=side)


def jpeg_of(image: Image, *, side: int = _THUMBNAIL_SIDE) -> bytes:
    """The same of an image, which becomes smaller itself: that takes no copy of it."""
    from PIL.Image import Resampling

    image.thumbnail((side, side), Resampling.BICUBIC)
    out = BytesIO()
    image.save(out, "JPEG", quality=_THUMBNAIL_QUALITY)
    return out.getvalue()


def _decoded(blob: bytes, short_side: int | None, max_pixels: int) -> SizedPhoto:
    import numpy as np

    with image_errors(blob), _quiet_pillow, process_budget().reserve(FIRST_GRANT_BYTES) as reserved:
        image, frame = Opened(blob, max_pixels, reserved.grow, short_side, whole=True).decode()
        return SizedPhoto(np.asarray(image, dtype=np.uint8), frame)


class Opened:
    """A photo whose header was read and checked; ``decode`` decodes it, once.

    ``afford`` is called with the bytes that decoding takes before they are allocated, and again where that
    turns out to be more; it raises ImageError where it is too much. With ``short_side`` a JPEG may be decoded
    at a fraction that leaves it that many pixels. ``whole`` as in ``bytes_to_decode``. Raises ImageError, and
    whatever Pillow raises.
    """

    def __init__(
        self,
        blob: bytes,
        max_pixels: int,
        afford: Callable[[int], None],
        short_side: int | None = None,
        *,
        whole: bool,
    ) -> None:
        if opening := bytes_to_open(blob, max_pixels):
            afford(opening)
        self._image = open_image(blob)
        self._full_size = self._image.size
        # An attribute where the header says it; a property where frames would have to be counted.
        check_size(self._full_size, max_pixels, vars(self._image).get("n_frames", 1))
        self._drafted = None if short_side is None else self._image.draft(None, (short_side, short_side))
        afford(max(opening, bytes_to_decode(self._image, blob, self._full_size, whole=whole)))

    @property
    def is_deep(self) -> bool:
        """Whether decoding it needs numpy."""
        return _is_deep(self._image)

    def decode(self) -> tuple[Image, Frame]:
        """Upright RGB, and the rectangle of it that the photo fills."""
        image, drafted = self._image, self._drafted
        # Each stage lets go of what the stage before it made.
        del self._image
        # Loading turns a TIFF upright, so only then its sides are known.
        image.load()
        size = image.size
        frame: Frame = (0.0, 0.0, *size) if drafted is None else drafted[1]
        orientation = _orientation_of(image)
        image = _to_rgb(image)
        return _upright(image, orientation), _turned(frame, size, orientation)


def _is_deep(image: Image) -> bool:
    """Whether it is greyscale of more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def _orientation_of(image: Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, where there is none that can be read.

    Of an image that is loaded, as asking for it loads a PNG.
    """
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError):
        # Photos with damaged EXIF are common, and their pixels are fine.
        return 1
    return orientation if isinstance(orientation, int) else 1


def _upright(image: Image, orientation: int) -> Image:
    from PIL.Image import Transpose

    name = _TRANSPOSE.get(orientation)
    return image if name is None else image.transpose(Transpose[name])


def _turned(frame: Frame, size: tuple[int, int], orientation: int) -> Frame:
    """Where ``frame`` lies after ``_upright``, in an image that had ``size`` before."""
    left, top, right, bottom = frame
    width, height = size
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if orientation in (5, 6, 7, 8) else (left, top, right, bottom)


def _to_rgb(image: Image) -> Image:
    if _is_deep(image):
        image = _to_8_bits(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(image: Image) -> Image:
    """Greyscale of 16 or 32 bits or float to 0..255.

    16-bit integers have a known range. For wider types the range is the smallest of 1 (float only), 255 and
    65535 that holds the largest value, and the largest value itself where none does.
    """
    from PIL.Image import new

    white = _white_of(image)
    scaled = new("L", image.size)
    for top, values in _bands(image):
        scaled.paste(_band_to_8_bits(values, white), (0, top))
    return scaled


def _white_of(image: Image) -> float:
    if image.mode.startswith("I;16"):
        return 65535.0
    largest = max((float(values.max()) for _, values in _bands(image)), default=0.0)
    usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    return next((limit for limit in usual if largest <= limit), largest)


def _bands(image: Image) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """The values of some rows after others, and the row at which they begin; what is no number is 0."""
    import numpy as np

    width, height = image.size
    step = max(1, _BAND_PIXELS // width)
    for top in range(0, height, step):
        band = np.asarray(image.crop((0, top, width, min(top + step, height)))).astype(np.float64)
        yield top, np.nan_to_num(band, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _band_to_8_bits(values: npt.NDArray[np.float64], white: float) -> Image:
    import numpy as np
    from PIL.Image import fromarray

    return fromarray(np.clip(np.rint(values * (255.0 / white)), 0, 255).astype(np.uint8))


@contextmanager
def image_errors(blob: bytes) -> Iterator[None]:
    """Any exception of Pillow, which raises a dozen kinds on damaged files, as an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("There is not enough memory to decode the image.") from error
    except Exception as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"The {name_of(blob)} file of {len(blob):,} bytes is damaged or cut off ({detail})."
        ) from error


class _QuietPillow:
    """Silences Pillow's warnings, for instance on damaged EXIF, while any thread is decoding.

    ``warnings.catch_warnings`` saves and restores a list that belongs to the whole process, so threads may
    not overlap in it: only the first that enters saves, and only the last that leaves restores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._saved is None:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._saved is not None:
                self._saved.__exit__(None, None, None)
                self._saved = None


_quiet_pillow = _QuietPillow()
