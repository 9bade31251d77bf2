"""The parts of a photo's file that are not its pixels: EXIF, XMP, IPTC, text and the size in the header.

Each format is walked by the lengths that it writes, a bounded number of steps; nothing is decoded. A file
that is cut off or lies about a length says what stands before that.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from crossmodal.metadata.boxes import read_bmff, read_jp2, read_jxl

__all__ = ["MAX_BLOCK_BYTES", "Blocks", "read_blocks"]

# EXIF and XMP have some kilobytes; what is longer holds pictures.
MAX_BLOCK_BYTES = 4 << 20
# Segments, chunks and resources of one file. Animations and photos in many pieces have thousands.
_MAX_STEPS = 10_000

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"
_IPTC_RESOURCE, _EXIF_RESOURCE, _XMP_RESOURCE = 0x0404, 0x0422, 0x0424


@dataclass(slots=True)
class Blocks:
    """What was found: the bytes of each kind, text by its name, and ``size``, (width, height) as stored.

    ``camera`` and ``place`` are directories of EXIF that stand apart from ``exif``, as in CR3. ``turned`` is
    whether the format itself says that width and height change places, ``whole`` whether the file itself is
    EXIF (TIFF and the raw formats that are built on it). ``warnings`` are sentences.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    camera: bytes | None = None
    place: bytes | None = None
    texts: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    turned: bool | None = None
    whole: bool = False
    warnings: list[str] = field(default_factory=list)

    def keep(self, kind: str, block: bytes) -> None:
        """Keep the first block of its kind, such as ``exif``, unless it is too long."""
        if len(block) > MAX_BLOCK_BYTES:
            self.warnings.append(
                f"Its {kind.upper()} has {len(block):,} bytes and is not read; "
                f"the limit is {MAX_BLOCK_BYTES:,}."
            )
        elif block and getattr(self, kind) is None:
            setattr(self, kind, block)


def read_blocks(content: bytes) -> Blocks:
    """The blocks of a photo's file, of any format; empty ones where it is of none that is known."""
    blocks = Blocks()
    for offset, signature, read in _READERS:
        if content[offset : offset + len(signature)] == signature:
            try:
                read(content, blocks)
            except (struct.error, IndexError, ValueError, zlib.error) as error:
                blocks.warnings.append(f"Its parts cannot be read to the end ({error}).")
            break
    return blocks


def _jpeg(content: bytes, blocks: Blocks) -> None:
    at = 2
    photoshop = bytearray()
    for _ in range(_MAX_STEPS):
        # Any number of 0xFF may stand before a marker.
        while content[at : at + 2] == b"\xff\xff":
            at += 1
        if len(content) < at + 4 or content[at] != 0xFF:
            break
        marker = content[at + 1]
        if marker in (0xD9, 0xDA):
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        length = int.from_bytes(content[at + 2 : at + 4])
        body = content[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)
        if marker == 0xE1 and body[:5] == b"Exif\0":
            blocks.keep("exif", body[6:])
        elif marker == 0xE1 and body.startswith(_XMP_SEGMENT):
            blocks.keep("xmp", body[len(_XMP_SEGMENT) :])
        elif marker == 0xED and body.startswith(b"Photoshop 3.0\0"):
            photoshop += body[14:]
        elif marker in _SOF and len(body) >= 5:
            blocks.size = int.from_bytes(body[3:5]), int.from_bytes(body[1:3])
    _resources(bytes(photoshop), blocks)


def _resources(content: bytes, blocks: Blocks) -> None:
    """Photoshop's image resources, of which IPTC is one."""
    at = 0
    for _ in range(_MAX_STEPS):
        if content[at : at + 4] != b"8BIM" or len(content) < at + 12:
            return
        kind = int.from_bytes(content[at + 4 : at + 6])
        # A name with its length before it, and the length of the resource; both are padded to even lengths.
        at += 6 + (content[at + 6] + 2 & ~1)
        length = int.from_bytes(content[at : at + 4])
        body = content[at + 4 : at + 4 + length]
        at += 4 + (length + 1 & ~1)
        if kind == _IPTC_RESOURCE:
            blocks.keep("iptc", body)
        elif kind == _EXIF_RESOURCE:
            blocks.keep("exif", body)
        elif kind == _XMP_RESOURCE:
            blocks.keep("xmp", body)


def _png(content: bytes, blocks: Blocks) -> None:
    at = 8
    for _ in range(_MAX_STEPS):
        if len(content) < at + 12:
            return
        length, kind = struct.unpack_from(">I4s", content, at)
        body = content[at + 8 : at + 8 + min(length, MAX_BLOCK_BYTES + 1)]
        at += 12 + length
        if kind == b"IHDR":
            blocks.size = struct.unpack_from(">II", body)
        elif kind == b"eXIf":
            blocks.keep("exif", body)
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            _png_text(kind, body, blocks)
        elif kind == b"IEND":
            return


def _png_text(kind: bytes, body: bytes, blocks: Blocks) -> None:
    keyword, _, rest = body.partition(b"\0")
    name = keyword.decode("latin-1")
    packed = False
    if kind == b"zTXt":
        packed, rest = True, rest[1:]
    elif kind == b"iTXt":
        packed = rest[:1] == b"\1"
        # Behind the method stand the language and the translated keyword.
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    if name not in _PNG_NAMES and not name.startswith("Raw profile type "):
        return
    if packed:
        rest = zlib.decompressobj().decompress(rest, MAX_BLOCK_BYTES + 1)
    if name == "XML:com.adobe.xmp":
        blocks.keep("xmp", rest)
    elif name.startswith("Raw profile type "):
        _raw_profile(name.rpartition(" ")[2], rest, blocks)
    elif len(rest) <= MAX_BLOCK_BYTES:
        blocks.texts.setdefault(name, rest.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace"))


_PNG_NAMES = frozenset({"XML:com.adobe.xmp", "Title", "Description", "Comment", "Creation Time"})


def _raw_profile(kind: str, text: bytes, blocks: Blocks) -> None:
    """What ImageMagick writes: a line with the name, one with the length, and hexadecimal digits."""
    lines = text.strip().split(b"\n", 2)
    if len(lines) < 3 or len(text) > MAX_BLOCK_BYTES:
        return
    block = bytes.fromhex(lines[2].decode("ascii", "replace"))
    if kind in ("exif", "APP1") and block.startswith(b"Exif\0"):
        blocks.keep("exif", block[6:])
    elif kind == "iptc":
        _resources(block, blocks)
    elif kind == "xmp":
        blocks.keep("xmp", block)


def _webp(content: bytes, blocks: Blocks) -> None:
    at = 12
    for _ in range(_MAX_STEPS):
        if len(content) < at + 8:
            return
        kind, length = struct.unpack_from("<4sI", content, at)
        body = content[at + 8 : at + 8 + min(length, MAX_BLOCK_BYTES + 1)]
        at += 8 + (length + 1 & ~1)
        if kind == b"EXIF":
            # Some programs write the head that only JPEG has.
            blocks.keep("exif", body.removeprefix(b"Exif\0\0"))
        elif kind == b"XMP ":
            blocks.keep("xmp", body)
        elif blocks.size is None and kind == b"VP8X":
            blocks.size = int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
        elif blocks.size is None and kind == b"VP8L":
            bits = int.from_bytes(body[1:5], "little")
            blocks.size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif blocks.size is None and kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", body, 6)
            blocks.size = width & 0x3FFF, height & 0x3FFF


def _gif(content: bytes, blocks: Blocks) -> None:
    blocks.size = struct.unpack_from("<HH", content, 6)
    # XMP stands in it as it is, between the name of its application and a tail of 258 bytes.
    head = b"\x21\xff\x0bXMP DataXMP"
    start = content.find(head, 10)
    if start >= 0:
        end = content.find(b"\x01\xff\xfe", start)
        if end >= 0:
            blocks.keep("xmp", content[start + len(head) : end])


def _bmp(content: bytes, blocks: Blocks) -> None:
    width, height = struct.unpack_from("<ii", content, 18)
    blocks.size = abs(width), abs(height)


def _psd(content: bytes, blocks: Blocks) -> None:
    height, width = struct.unpack_from(">II", content, 14)
    blocks.size = width, height
    colours = int.from_bytes(content[26:30])
    start = 30 + colours
    length = int.from_bytes(content[start : start + 4])
    _resources(content[start + 4 : start + 4 + length], blocks)


def _tiff(content: bytes, blocks: Blocks) -> None:
    blocks.whole = True


def _raf(content: bytes, blocks: Blocks) -> None:
    """Fujifilm's raw format has a JPEG with all that is known of the photo."""
    start, length = struct.unpack_from(">II", content, 84)
    _jpeg(content[start : start + length], blocks)


def _boxed(read: Callable[[bytes], Iterator[tuple[str, object]]]) -> Callable[[bytes, Blocks], None]:
    def keep(content: bytes, blocks: Blocks) -> None:
        for kind, value in read(content):
            if isinstance(value, bytes):
                blocks.keep(kind, value)
            else:
                setattr(blocks, kind, value)

    return keep


_READERS: tuple[tuple[int, bytes, Callable[[bytes, Blocks], None]], ...] = (
    (0, b"\xff\xd8\xff", _jpeg),
    (0, b"\x89PNG\r\n\x1a\n", _png),
    (8, b"WEBP", _webp),
    (0, b"GIF8", _gif),
    (0, b"BM", _bmp),
    (0, b"8BPS", _psd),
    (0, b"FUJIFILMCCD-RAW", _raf),
    (0, b"II*\0", _tiff),
    (0, b"MM\0*", _tiff),
    (0, b"II+\0", _tiff),
    (0, b"MM\0+", _tiff),
    # Olympus and Panasonic write TIFF with another number.
    (0, b"IIRO", _tiff),
    (0, b"IIRS", _tiff),
    (0, b"IIU\0", _tiff),
    (4, b"JXL \r\n\x87\n", _boxed(read_jxl)),
    (4, b"jP  \r\n\x87\n", _boxed(read_jp2)),
    (4, b"ftyp", _boxed(read_bmff)),
)
