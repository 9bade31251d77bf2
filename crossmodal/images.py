"""Untrusted bytes to upright RGB pixels, and to thumbnails."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "MAX_PIXELS",
    "READABLE_TYPES",
    "Frame",
    "SizedPhoto",
    "decode_image",
    "decode_reduced",
    "pixel_count",
    "sniff_mime_type",
    "thumbnail_of",
]

# A decompression bomb is a small file that unpacks to a huge image. About 180 megapixels (537 MB as RGB) is
# more than any camera takes; it is also the size at which Pillow refuses by default.
MAX_PIXELS = 178_956_970

# Left, top, right and bottom.
Frame = tuple[float, float, float, float]

_THUMBNAIL_QUALITY = 85

# What a file starts with, at which offset, and what that means.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"II+\0", "image/tiff"),
    (0, b"MM\0+", "image/tiff"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypheix", "image/heic"),
    (4, b"ftypmif1", "image/heif"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\0\0\1\0", "image/x-icon"),
    (0, b"8BPS", "image/vnd.adobe.photoshop"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"<svg", "image/svg+xml"),
)

# Of each format that can be read, its name, and where in Pillow it is opened.
_READABLE = {
    "image/jpeg": ("JPEG", "JpegImagePlugin", "jpeg_factory"),
    "image/png": ("PNG", "PngImagePlugin", "PngImageFile"),
    "image/webp": ("WebP", "WebPImagePlugin", "WebPImageFile"),
    "image/gif": ("GIF", "GifImagePlugin", "GifImageFile"),
    "image/bmp": ("BMP", "BmpImagePlugin", "BmpImageFile"),
    "image/tiff": ("TIFF", "TiffImagePlugin", "TiffImageFile"),
}

READABLE_TYPES = frozenset(_READABLE)


def sniff_mime_type(blob: bytes) -> str | None:
    """The media type by the first bytes, such as ``image/jpeg``; None where they are of no known type."""
    for offset, signature, mime_type in _SIGNATURES:
        if blob[offset : offset + len(signature)] == signature:
            return mime_type
    return None


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
    to 8 bits, not clipped.

    Raises ImageError, with one sentence, for bytes that are empty, not an image, damaged or cut off, or that
    hold more than ``max_pixels`` pixels.
    """
    with _pillow_errors(blob), _quiet_pillow:
        image, _ = _decode(_open(blob, max_pixels))
        return np.array(image, dtype=np.uint8)


def decode_reduced(blob: bytes, *, short_side: int, max_pixels: int = MAX_PIXELS) -> SizedPhoto:
    """The same for a photo that will be made smaller: no more pixels than that needs.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size, several times quicker, as long as its short side keeps
    at least ``short_side`` pixels; any other photo is decoded whole. Raises ImageError as ``decode_image``
    does.
    """
    with _pillow_errors(blob), _quiet_pillow:
        image, frame = _decode(_open(blob, max_pixels), (short_side, short_side))
        return SizedPhoto(np.asarray(image, dtype=np.uint8), frame)


def pixel_count(blob: bytes, *, max_pixels: int = MAX_PIXELS) -> int:
    """How many pixels the photo will have when it is decoded, from its header; 0 if it will be refused."""
    try:
        with _pillow_errors(blob), _quiet_pillow:
            width, height = _open(blob, max_pixels).size
    except ImageError:
        return 0
    return int(width * height)


def thumbnail_of(photo: SizedPhoto, *, side: int = 256) -> bytes:
    """A JPEG of the decoded photo, at most ``side`` pixels long; a small one isn't enlarged."""
    from PIL import Image

    image = Image.fromarray(photo.pixels)
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    out = BytesIO()
    image.save(out, "JPEG", quality=_THUMBNAIL_QUALITY)
    return out.getvalue()


def _open(blob: bytes, max_pixels: int) -> Image:
    """The image with its header read and its size checked, pixels not decoded yet.

    Each format's own class is called, and not ``PIL.Image.open``, which tries formats that are not wanted and
    has a pixel limit of its own that can be changed for the whole process only.
    """
    mime_type = sniff_mime_type(blob)
    if mime_type not in _READABLE:
        readable = ", ".join(name for name, _, _ in _READABLE.values())
        raise ImageError(f"{_what_it_is(blob, mime_type)}; {readable} can be read.")
    _, plugin, opener = _READABLE[mime_type]
    image: Image = getattr(import_module(f"PIL.{plugin}"), opener)(BytesIO(blob))
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"The image has {width} x {height} = {width * height:,} pixels; the limit is {max_pixels:,}. "
            "Make it smaller first."
        )
    return image


def _decode(image: Image, at_least: tuple[int, int] | None = None) -> tuple[Image, Frame]:
    """The opened image as upright RGB, and the rectangle of it that the photo fills.

    With ``at_least`` a JPEG may be decoded at a fraction that leaves it that width and height.
    """
    drafted = None if at_least is None else image.draft(None, at_least)
    # Loading turns a TIFF upright, so only then its sides are known.
    image.load()
    width, height = image.size
    frame: Frame = (0.0, 0.0, width, height) if drafted is None else drafted[1]
    orientation = _orientation(image)
    return _upright(_to_rgb(image), orientation), _turned(frame, (width, height), orientation)


def _what_it_is(blob: bytes, mime_type: str | None) -> str:
    """The first half of the sentence about bytes that aren't a readable image."""
    if not blob:
        return "The file is empty (0 bytes)"
    if mime_type is not None:
        return f"The file is of the type {mime_type}"
    start = blob[:512]
    if b"\0" not in start and not any(byte < 9 or 13 < byte < 32 for byte in start):
        return f"The file is text, not an image (it starts with {start[:20].decode(errors='ignore')!r})"
    return f"The file is not an image (it starts with the bytes {start[:8].hex(' ')})"


# EXIF orientation to what makes the photo upright, as names of PIL.Image.Transpose.
_ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def _orientation(image: Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, where there is none that can be read."""
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
    if image.mode.startswith("I") or image.mode == "F":
        from PIL.Image import fromarray

        return fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    return image.convert("RGB")


def _to_8_bits(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Greyscale of 16 or 32 bits or float, of any shape, to 0..255.

    16-bit integers have a known range. For wider types the range is the smallest of 1 (float only), 255 and
    65535 that holds the largest value, and the largest value itself where none does.
    """
    grey = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if values.dtype.itemsize == 2:
        white = 65535.0
    else:
        largest = float(grey.max(initial=0.0))
        usual = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
        white = next((limit for limit in usual if largest <= limit), largest)
    return np.clip(np.rint(grey * (255.0 / white)), 0, 255).astype(np.uint8)


@contextmanager
def _pillow_errors(blob: bytes) -> Iterator[None]:
    """Any exception of Pillow, which raises a dozen kinds on damaged files, as an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("There is not enough memory to decode the image.") from error
    except Exception as error:
        kind, *_ = _READABLE.get(sniff_mime_type(blob) or "", ("image",))
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"The {kind} file of {len(blob):,} bytes is damaged or cut off ({detail})."
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
