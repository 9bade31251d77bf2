"""The one table of formats: what their files are called, what reads each, and what that takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING

from crossmodal.errors import ImageError, MissingExtra
from crossmodal.extras import EXTRAS, extra_for
from crossmodal.images.repairs import Repaired, repaired_jpeg, repaired_png
from crossmodal.images.signatures import DNG, RAW, sniff_mime_type

if TYPE_CHECKING:
    from PIL.Image import Image

    from crossmodal.images.raw_files import Preview

__all__ = [
    "BROWSER_TYPES",
    "EXTENSIONS",
    "FORMATS",
    "READABLE_TYPES",
    "Format",
    "format_of",
    "formats_sentence",
    "formats_table",
    "name_of",
    "open_image",
    "type_by_name",
]


@dataclass(frozen=True, slots=True)
class Format:
    """A format that can be read.

    ``extensions`` and ``mime_types`` have the usual ones first. ``reader`` names what opens a file (module
    and attribute), ``library`` what people call what reads it, ``package`` the optional package that it
    needs. ``in_browsers`` says whether browsers show it, ``shown`` what is shown of a file that holds more.

    ``codec_bytes`` is what its decoder allocates beside the image that Pillow keeps, by the opened image and
    the width and height in the file. ``size_before_opening`` reads the size from the bytes of a file whose
    opening allocates memory for the pixels, ``opening_bytes`` for each; None where opening takes none, or
    where the size cannot be found. ``reducible`` says that it can be decoded at a fraction of its size.
    ``repaired`` makes a damaged file readable, or gives None. ``preview`` finds a JPEG in a file that stands
    for it.
    """

    name: str
    extensions: tuple[str, ...]
    mime_types: tuple[str, ...]
    reader: str
    library: str = "Pillow"
    package: str | None = None
    in_browsers: bool = False
    shown: str = ""
    reducible: bool = False
    codec_bytes: Callable[[Image, tuple[int, int]], int] = lambda image, size: 0
    size_before_opening: Callable[[bytes], tuple[int, int] | None] = lambda blob: None
    opening_bytes: int = 0
    repaired: Callable[[bytes], Repaired | None] = lambda blob: None
    preview: Callable[[bytes], Preview | None] = lambda blob: None

    @property
    def extra(self) -> str | None:
        """The extra that brings the library; None where every installation has it."""
        return None if self.package is None else EXTRAS[self.package][0]

    def load_reader(self) -> Callable[[BytesIO], Image]:
        """Imports all that reads it; raises ImageError that names the extra where that is missing."""
        module, _, name = self.reader.partition(":")
        try:
            with extra_for(f"Reading {self.name} files"):
                if self.package is not None:
                    import_module(self.package)
                reader: Callable[[BytesIO], Image] = getattr(import_module(module), name)
        except MissingExtra as error:
            raise ImageError(str(error)) from error
        return reader


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


def _jp2_codec_bytes(image: Image, size: tuple[int, int]) -> int:
    """Whole numbers of 32 bits for each value, in tiles and in the image, and what is unpacked of both."""
    return (8 * len(image.getbands()) + 4) * size[0] * size[1]


def _psd_codec_bytes(image: Image, size: tuple[int, int]) -> int:
    from crossmodal.images.psd_files import deep_psd_bytes

    return deep_psd_bytes(image, size)


def _raw_codec_bytes(image: Image, size: tuple[int, int]) -> int:
    from crossmodal.images.raw_files import demosaic_bytes

    return demosaic_bytes(image, size)


def _raw_preview(blob: bytes) -> Preview | None:
    from crossmodal.images.raw_files import preview_of

    return preview_of(blob)


def _each(count: int) -> Callable[[Image, tuple[int, int]], int]:
    """So many bytes for each pixel of the file."""
    return lambda image, size: count * size[0] * size[1]


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


_RAW_EXTENSIONS = (
    *(".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".pef"),
    *(".srw", ".3fr", ".fff", ".iiq", ".mos", ".mrw", ".mef", ".rwl", ".dcr", ".kdc", ".erf", ".x3f"),
)

# A strip of a TIFF may be all of the image, packed and as RGBA, and there is a copy that is turned upright.
# The decoder of WebP keeps two canvases of RGBA and gives a copy of one; while a lossless frame is decoded it
# has another. Those of HEIF and AVIF hold a frame of 16 bits, a copy that is turned, and the result twice;
# that of JPEG XL has floats. Netpbm that is not just bytes is made by Python, which copies.
FORMATS = (
    Format(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        ("image/jpeg",),
        "PIL.JpegImagePlugin:jpeg_factory",
        in_browsers=True,
        shown="the first picture of an MPO",
        reducible=True,
        codec_bytes=_jpeg_codec_bytes,
        repaired=repaired_jpeg,
    ),
    Format(
        "PNG",
        (".png", ".apng"),
        ("image/png",),
        "PIL.PngImagePlugin:PngImageFile",
        in_browsers=True,
        shown="the first frame of an animation",
        repaired=repaired_png,
    ),
    Format(
        "WebP",
        (".webp",),
        ("image/webp",),
        "PIL.WebPImagePlugin:WebPImageFile",
        in_browsers=True,
        shown="the first frame of an animation",
        codec_bytes=_each(16),
        size_before_opening=_webp_size,
        opening_bytes=24,
    ),
    Format(
        "GIF",
        (".gif",),
        ("image/gif",),
        "PIL.GifImagePlugin:GifImageFile",
        in_browsers=True,
        shown="the first frame of an animation",
    ),
    Format(
        "BMP",
        (".bmp", ".dib"),
        ("image/bmp",),
        "PIL.BmpImagePlugin:BmpImageFile",
        in_browsers=True,
        codec_bytes=_bmp_codec_bytes,
    ),
    Format(
        "AVIF",
        (".avif", ".avifs"),
        ("image/avif",),
        "PIL.AvifImagePlugin:AvifImageFile",
        in_browsers=True,
        shown="the first frame of a sequence",
        codec_bytes=_each(18),
    ),
    Format(
        "HEIC",
        (".heic", ".heif", ".hif", ".heics", ".heifs"),
        ("image/heic", "image/heif"),
        "pillow_heif.as_plugin:HeifImageFile",
        library="pillow-heif",
        shown="the primary picture",
        codec_bytes=_each(18),
    ),
    Format(
        "TIFF",
        (".tif", ".tiff"),
        ("image/tiff",),
        "PIL.TiffImagePlugin:TiffImageFile",
        shown="the first page",
        codec_bytes=_each(12),
    ),
    Format(
        "JPEG 2000",
        (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        ("image/jp2",),
        "PIL.Jpeg2KImagePlugin:Jpeg2KImageFile",
        codec_bytes=_jp2_codec_bytes,
    ),
    Format(
        "PSD",
        (".psd",),
        ("image/vnd.adobe.photoshop",),
        "crossmodal.images.psd_files:open_psd",
        shown="the merged picture",
        codec_bytes=_psd_codec_bytes,
    ),
    Format(
        "Netpbm",
        (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
        ("image/x-portable-pixmap", "image/x-portable-graymap", "image/x-portable-bitmap"),
        "PIL.PpmImagePlugin:PpmImageFile",
        codec_bytes=_each(16),
    ),
    Format(
        "JPEG XL",
        (".jxl",),
        ("image/jxl",),
        "crossmodal.images.jxl_files:JxlPhoto",
        library="pyjpegxl",
        package="pyjpegxl",
        shown="the first frame of an animation",
        codec_bytes=_each(28),
    ),
    Format(
        "DNG",
        (".dng",),
        (DNG,),
        "crossmodal.images.raw_files:RawPhoto",
        library="rawpy",
        package="rawpy",
        shown="the preview, or else the developed sensor",
        reducible=True,
        codec_bytes=_raw_codec_bytes,
        preview=_raw_preview,
    ),
    Format(
        "camera raw",
        _RAW_EXTENSIONS,
        (RAW,),
        "crossmodal.images.raw_files:RawPhoto",
        library="rawpy",
        package="rawpy",
        shown="the preview, or else the developed sensor",
        reducible=True,
        codec_bytes=_raw_codec_bytes,
        preview=_raw_preview,
    ),
)

_BY_TYPE = {mime_type: format for format in FORMATS for mime_type in format.mime_types}
_BY_EXTENSION = {extension: format for format in FORMATS for extension in format.extensions}

READABLE_TYPES = frozenset(_BY_TYPE)

# Those that browsers show, so that they get them as they are.
BROWSER_TYPES = frozenset(kind for kind, format in _BY_TYPE.items() if format.in_browsers)

# Endings of file names, in small letters and with their dot, that promise a photo.
EXTENSIONS = frozenset(_BY_EXTENSION)


def type_by_name(extension: str) -> str | None:
    """The media type that a file name's ending, such as ``.jpg``, promises; None where it is no photo's."""
    format = _BY_EXTENSION.get(extension.lower())
    return None if format is None else format.mime_types[0]


def formats_sentence() -> str:
    """The names of all formats: those of every installation, then those that need an extra."""
    extras: dict[str, list[str]] = {}
    for format in FORMATS:
        if format.extra is not None:
            extras.setdefault(format.extra, []).append(format.name)
    always = ", ".join(format.name for format in FORMATS if format.extra is None)
    others = "; ".join(
        f"with the extra {extra} {' and '.join(names)}" for extra, names in sorted(extras.items())
    )
    return f"{always}; {others}"


def formats_table() -> str:
    """The formats as a Markdown table; ``docs/library.md`` holds it and a test compares."""
    lines = [
        "| format | endings | read by | browsers get | shown of it |",
        "|---|---|---|---|---|",
    ]
    for format in FORMATS:
        endings = " ".join(f"`{extension}`" for extension in format.extensions)
        reader = format.library if format.extra is None else f"{format.library} (extra `{format.extra}`)"
        given = "the file" if format.in_browsers else "a JPEG of it"
        lines.append(f"| {format.name} | {endings} | {reader} | {given} | {format.shown or 'the picture'} |")
    return "\n".join(lines)


def format_of(blob: bytes) -> Format:
    """The format of an image's file; raises ImageError for bytes of none that can be read."""
    mime_type = sniff_mime_type(blob)
    if mime_type not in _BY_TYPE:
        raise ImageError(f"{_what_it_is(blob, mime_type)}; formats that can be read: {formats_sentence()}.")
    return _BY_TYPE[mime_type]


def name_of(blob: bytes) -> str:
    """The name of a file's format, for a sentence; "image" where it is none that can be read."""
    format = _BY_TYPE.get(sniff_mime_type(blob) or "")
    return "image" if format is None else format.name


def open_image(blob: bytes) -> Image:
    """The image with its header read, pixels not decoded yet; raises whatever Pillow raises.

    Each format's own class is called, and not ``PIL.Image.open``, which tries formats that are not wanted and
    has a pixel limit of its own that can be changed for the whole process only.
    """
    return format_of(blob).load_reader()(BytesIO(blob))


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
