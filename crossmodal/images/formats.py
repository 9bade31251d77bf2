"""The formats of images: how a file of each begins, and which can be read by what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING

from crossmodal.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["IMAGE_TYPES", "READABLE_TYPES", "Format", "format_of", "name_of", "open_image", "sniff_mime_type"]

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

# The types of pictures that are told apart, whether they can be read or not.
IMAGE_TYPES = frozenset(kind for _, _, kind in _SIGNATURES if kind.startswith("image/"))


@dataclass(frozen=True, slots=True)
class Format:
    """A format that can be read: its name, and where in Pillow it is opened.

    ``codec_bytes`` is what its decoder allocates beside the image that Pillow keeps, by the opened image and
    the width and height in the file. ``size_before_opening`` reads the size from the bytes of a file whose
    opening allocates memory for the pixels, ``opening_bytes`` for each; None where opening takes none, or
    where the size cannot be found.
    """

    name: str
    plugin: str
    opener: str
    codec_bytes: Callable[[Image, tuple[int, int]], int] = lambda image, size: 0
    size_before_opening: Callable[[bytes], tuple[int, int] | None] = lambda blob: None
    opening_bytes: int = 0


def _jpeg_codec_bytes(image: Image, size: tuple[int, int]) -> int:
    """The coefficients, 16 bits each, which are all kept where the image comes in several scans.

    They are those of the full size, whatever fraction of it is decoded.
    """
    # Of each component: its number, its horizontal and vertical sampling, and its table.
    layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    if not image.info.get("progressive") and _in_first_scan(image) >= len(layers):
        return 0
    widest, highest = (max((layer[place] for layer in layers), default=1) for place in (1, 2))
    # Whole blocks of 8 x 8, of which a sampling takes up to four.
    width, height = (side + 32 for side in size)
    return sum(2 * width * height * h * v // (widest * highest) for _, h, v, _ in layers)


def _in_first_scan(image: Image) -> int:
    """How many components the first scan of an opened JPEG has; 0 where its header is not where it should be.

    Pillow has read up to the end of that header.
    """
    file: BytesIO = image.fp  # type: ignore[attr-defined]
    end, blob = file.tell(), file.getbuffer()
    for components in range(1, 5):
        length = 6 + 2 * components
        start = end - length - 2
        if start > 0 and blob[start : start + 5] == bytes((0xFF, 0xDA, 0, length, components)):
            return components
    return 0


def _bmp_codec_bytes(image: Image, size: tuple[int, int]) -> int:
    """Run lengths are unpacked into a buffer, which is copied."""
    return 3 * size[0] * size[1] if any(tile[0] == "bmp_rle" for tile in image.tile) else 0  # type: ignore[attr-defined]


def _tiff_codec_bytes(image: Image, size: tuple[int, int]) -> int:
    """A strip, which may be all of the image, packed and as RGBA, and a copy that is turned upright."""
    return 12 * size[0] * size[1]


def _webp_size(blob: bytes) -> tuple[int, int] | None:
    """The canvas, by the first chunk; see "WebP Container Specification" and RFC 9649."""
    kind, body = blob[12:16], blob[20:30]
    if len(body) < 10:
        return None
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF


# By media type. The decoder of WebP keeps two canvases of RGBA and gives a copy of one; while a lossless
# frame is decoded it has another.
_READABLE = {
    "image/jpeg": Format("JPEG", "JpegImagePlugin", "jpeg_factory", codec_bytes=_jpeg_codec_bytes),
    "image/png": Format("PNG", "PngImagePlugin", "PngImageFile"),
    "image/webp": Format(
        "WebP",
        "WebPImagePlugin",
        "WebPImageFile",
        codec_bytes=lambda image, size: 16 * size[0] * size[1],
        size_before_opening=_webp_size,
        opening_bytes=24,
    ),
    "image/gif": Format("GIF", "GifImagePlugin", "GifImageFile"),
    "image/bmp": Format("BMP", "BmpImagePlugin", "BmpImageFile", codec_bytes=_bmp_codec_bytes),
    "image/tiff": Format("TIFF", "TiffImagePlugin", "TiffImageFile", codec_bytes=_tiff_codec_bytes),
}

READABLE_TYPES = frozenset(_READABLE)


def sniff_mime_type(blob: bytes) -> str | None:
    """The media type by the first bytes, such as ``image/jpeg``; None where they are of no known type."""
    for offset, signature, mime_type in _SIGNATURES:
        if blob[offset : offset + len(signature)] == signature:
            return mime_type
    return None


def format_of(blob: bytes) -> Format:
    """The format of an image's file; raises ImageError for bytes of none that can be read."""
    mime_type = sniff_mime_type(blob)
    if mime_type not in _READABLE:
        readable = ", ".join(format.name for format in _READABLE.values())
        raise ImageError(f"{_what_it_is(blob, mime_type)}; {readable} can be read.")
    return _READABLE[mime_type]


def name_of(blob: bytes) -> str:
    """The name of a file's format, for a sentence; "image" where it is none that can be read."""
    format = _READABLE.get(sniff_mime_type(blob) or "")
    return "image" if format is None else format.name


def open_image(blob: bytes) -> Image:
    """The image with its header read, pixels not decoded yet; raises whatever Pillow raises.

    Each format's own class is called, and not ``PIL.Image.open``, which tries formats that are not wanted and
    has a pixel limit of its own that can be changed for the whole process only.
    """
    format = format_of(blob)
    image: Image = getattr(import_module(f"PIL.{format.plugin}"), format.opener)(BytesIO(blob))
    return image


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
