"""Untrusted bytes to upright RGB pixels in this process, and to thumbnails."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from crossmodal.errors import ImageError
from crossmodal.images.budget import process_budget
from crossmodal.images.colours import modules_for, to_rgb
from crossmodal.images.cropping import Frame
from crossmodal.images.formats import format_of, name_of, open_image
from crossmodal.images.headers import bytes_to_decode, bytes_to_open, check_size
from crossmodal.images.limits import FIRST_GRANT_BYTES, MAX_PIXELS
from crossmodal.images.repairs import LEAST_SHARE, MISSING_COLOUR, Repaired

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

__all__ = [
    "Decoded",
    "Opened",
    "SizedPhoto",
    "decode_image",
    "decode_reduced",
    "image_errors",
    "jpeg_of",
    "picture_of",
    "thumbnail_of",
]

_THUMBNAIL_QUALITY = 85
_THUMBNAIL_SIDE = 256

# The first that makes a file small enough.
_PICTURE_QUALITIES = (90, 75, 50)

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

# What Pillow and its codecs raise at damaged files, beside errors that are the photo's otherwise.
_DAMAGE = (OSError, SyntaxError, ValueError, LookupError, EOFError, struct.error, zlib.error)

# Of what they say, as far as it fits into a sentence.
_MOST_DETAIL = 200

# A block of a JPEG has 8 rows, or a fraction of them; printing colours come inverted.
_BLOCK_ROWS = 8
_MISSING_VALUES = (MISSING_COLOUR, 255 - MISSING_COLOUR)


@dataclass(frozen=True, slots=True)
class SizedPhoto:
    """Pixels uint8 (H, W, 3), and the rectangle of them that the photo fills.

    That is all of them, except where a JPEG was decoded at a fraction of its size: 897 pixels at half size
    are 448.5, and the 449th column lies half outside of the photo. ``warning`` is a sentence on what could
    not be read of a damaged file.
    """

    pixels: npt.NDArray[np.uint8]
    frame: Frame
    warning: str | None = None


def decode_image(blob: bytes, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """The photo in the bytes of a file: upright, RGB, uint8 (H, W, 3).

    The formats of ``formats.FORMATS`` are read, of several frames the first. EXIF orientation is applied.
    What can be seen through is laid on white, colours of another profile become those of sRGB, and greyscale
    of 16 bits and more is scaled to 8 bits, not clipped. Waits until the memory that decoding takes is free
    in the budget of this process.

    Raises ImageError, with one sentence, for bytes that are empty, not an image, damaged or cut off so that
    less than half of the photo is left, that hold more than ``max_pixels`` pixels, whose decoding takes more
    memory than the budget has, or needs a package that is not installed.
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


def picture_of(image: Image, *, most: int) -> bytes:
    """A JPEG of the whole image, for browsers; raises ImageError where it has more than ``most`` bytes."""
    for quality in _PICTURE_QUALITIES:
        out = BytesIO()
        _save_jpeg(image, out, quality)
        if out.tell() <= most:
            return out.getvalue()
    width, height = image.size
    raise ImageError(f"A JPEG of its {width:,} x {height:,} pixels has more than {most:,} bytes.")


def jpeg_of(image: Image, *, side: int = _THUMBNAIL_SIDE) -> bytes:
    """The same of an image, which becomes smaller itself: that takes no copy of it."""
    from PIL.Image import Resampling

    image.thumbnail((side, side), Resampling.BICUBIC)
    out = BytesIO()
    _save_jpeg(image, out, _THUMBNAIL_QUALITY)
    return out.getvalue()


def _save_jpeg(image: Image, out: BytesIO, quality: int) -> None:
    # Pillow would take over the comment that the file had, and with it what people wrote there.
    image.save(out, "JPEG", quality=quality, comment=b"")


def _decoded(blob: bytes, short_side: int | None, max_pixels: int) -> SizedPhoto:
    import numpy as np

    with image_errors(blob), _quiet_pillow, process_budget().reserve(FIRST_GRANT_BYTES) as reserved:
        decoded = Opened(blob, max_pixels, reserved.grow, short_side, whole=True).decode()
        return SizedPhoto(np.asarray(decoded.image, dtype=np.uint8), decoded.frame, decoded.warning)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Upright RGB, the ``frame`` of the ``image`` that the photo fills, and what was wrong with the file."""

    image: Image
    frame: Frame
    warning: str | None


class Opened:
    """A photo whose header was read and checked; ``decode`` decodes it, once.

    ``afford`` is called with the bytes that decoding takes before they are allocated, and again where that
    turns out to be more; it raises ImageError where it is too much. With ``short_side`` a JPEG may be decoded
    at a fraction that leaves it that many pixels. ``whole`` as in ``bytes_to_decode``. Of a file that is
    damaged, what can be read of it is decoded. Raises ImageError, and whatever Pillow raises.
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
        self._max_pixels, self._afford = max_pixels, afford
        self._short_side, self._whole = short_side, whole
        self._name, self._size = name_of(blob), len(blob)
        format = format_of(blob)
        format.load_reader()
        preview = format.preview(blob)
        self._turn = None if preview is None else preview.orientation
        self._blob = blob if preview is None else preview.jpeg
        self._repaired: Repaired | None = None
        self._damage: Exception | None = None
        try:
            self._open(self._blob)
        except _DAMAGE as error:
            self._repair(error)

    @property
    def modules(self) -> tuple[str, ...]:
        """What decoding it will import."""
        return modules_for(self._image)

    def decode(self) -> Decoded:
        """Its pixels; raises ImageError where less than half of them can be read."""
        try:
            # Loading turns a TIFF upright, so only then its sides are known.
            self._image.load()
        except _DAMAGE as error:
            if self._damage is not None:
                raise
            self._repair(error)
            self._image.load()
        image, drafted = self._image, self._drafted
        # Each stage lets go of what the stage before it made.
        del self._image
        size = image.size
        frame: Frame = (0.0, 0.0, *size) if drafted is None else drafted[1]
        orientation = _orientation_of(image) or self._turn or 1
        first_missing, damage = self._missing(image)
        image, warning = to_rgb(image)
        if first_missing < size[1]:
            image.paste((MISSING_COLOUR,) * 3, (0, first_missing, *size))
        image = _upright(image, orientation)
        return Decoded(image, _turned(frame, size, orientation), damage or warning)

    def _open(self, blob: bytes) -> None:
        """Reads and checks the header, and has granted what decoding takes."""
        if opening := bytes_to_open(blob, self._max_pixels):
            self._afford(opening)
        self._image = open_image(blob)
        full_size = self._image.size
        # An attribute where the header says it; a property where frames would have to be counted.
        check_size(full_size, self._max_pixels, vars(self._image).get("n_frames", 1))
        side = self._short_side
        # Of the others some would take another picture than the one that is meant.
        reducible = side is not None and format_of(blob).reducible
        self._drafted = self._image.draft(None, (side, side)) if side is not None and reducible else None
        self._afford(max(opening, bytes_to_decode(self._image, blob, full_size, whole=self._whole)))

    def _repair(self, error: Exception) -> None:
        """Opens what is left of a file at which decoding failed; raises ``error`` where nothing is."""
        # Through its traceback it holds the image, which may be large and is not needed any more.
        self._damage, blob = error.with_traceback(None), self._blob
        self._damage.__context__ = None
        self._image = None  # type: ignore[assignment]
        self._repaired = format_of(blob).repaired(blob)
        if self._repaired is None:
            raise error
        self._open(self._repaired.blob)

    def _missing(self, image: Image) -> tuple[int, str | None]:
        """The first row that the file has no data of, and the sentence about that."""
        height = image.height
        if self._damage is None or self._repaired is None:
            return height, None
        share = self._repaired.share
        if share is None:
            share = _first_missing_row(image) / height
        if share < LEAST_SHARE:
            raise self._damage
        shown = "all" if share == 1 else f"{share:.0%}"
        detail = " ".join(str(self._damage).split())[:_MOST_DETAIL]
        return (
            int(share * height) if self._repaired.from_top else height,
            f"The {self._name} file of {self._size:,} bytes is damaged or cut off ({detail}); {shown} of the "
            "photo could be read.",
        )


def _first_missing_row(image: Image) -> int:
    """The first of the last rows of a JPEG that its decoder had no data of, in steps of some rows."""
    row = image.height
    while row > 0:
        top = max(row - _BLOCK_ROWS, 0)
        rows = image.crop((0, top, image.width, row))
        bands = (rows.getchannel(name).getextrema() for name in rows.getbands())
        if any(low != high or low not in _MISSING_VALUES for low, high in bands):
            return row
        row = top
    return row


def _orientation_of(image: Image) -> int | None:
    """The EXIF orientation, 1 to 8; None where there is none that can be read.

    Of an image that is loaded, as asking for it loads a PNG.
    """
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError):
        # Photos with damaged EXIF are common, and their pixels are fine.
        return None
    return orientation if isinstance(orientation, int) else None


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
