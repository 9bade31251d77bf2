"""The first bytes of a file: which kind of file it is, whatever its name says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["DNG", "IMAGE_TYPES", "RAW", "TiffFolder", "sniff_mime_type", "tiff_folders"]

# A camera's raw file, whichever camera's; and the one kind of them that has a standard.
RAW = "image/x-dcraw"
DNG = "image/x-adobe-dng"

# What a file starts with, at which offset, and what that means; the first that fits counts.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\0\x10\0\0\0CR\x02", RAW),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"II+\0", "image/tiff"),
    (0, b"MM\0+", "image/tiff"),
    (0, b"IIRO", RAW),
    (0, b"IIRS", RAW),
    (0, b"MMOR", RAW),
    (0, b"IIU\0", RAW),
    (0, b"FUJIFILMCCD-RAW", RAW),
    (0, b"FOVb", RAW),
    (0, b"\0MRM", RAW),
    (6, b"HEAPCCDR", RAW),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (0, b"\xff\x4f\xff\x51", "image/jp2"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (0, b"\xff\x0a", "image/jxl"),
    (0, b"8BPS", "image/vnd.adobe.photoshop"),
    (4, b"ftyp", "video/mp4"),
    (4, b"moov", "video/quicktime"),
    (4, b"mdat", "video/quicktime"),
    (0, b"\x1a\x45\xdf\xa3", "video/x-matroska"),
    (8, b"AVI LIST", "video/x-msvideo"),
    (0, b"\0\0\1\0", "image/x-icon"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"<svg", "image/svg+xml"),
)

# What begins like text: the magic number of Netpbm (see its man pages pbm, pgm, ppm), then the width.
_NETPBM = re.compile(rb"P([1-6f])\s+(?:#[^\r\n]*[\r\n]\s*)*\d")
_NETPBM_TYPES = {
    **dict.fromkeys((b"1", b"4"), "image/x-portable-bitmap"),
    **dict.fromkeys((b"2", b"5", b"f"), "image/x-portable-graymap"),
    **dict.fromkeys((b"3", b"6"), "image/x-portable-pixmap"),
}

# Brands of files of boxes (ISO/IEC 14496-12; those of HEIF in 23008-12, of AVIF in AOM's own).
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "image/heic"),
    **dict.fromkeys((b"mif1", b"mif2", b"msf1", b"miaf"), "image/heif"),
    b"crx ": RAW,
    b"qt  ": "video/quicktime",
}
_MOST_BRANDS = 64

# The types of pictures that are told apart, whether they can be read or not.
IMAGE_TYPES = frozenset(
    kind
    for kind in (*(kind for _, _, kind in _SIGNATURES), *_BRANDS.values(), *_NETPBM_TYPES.values(), DNG)
    if kind.startswith("image/")
)


def sniff_mime_type(blob: bytes) -> str | None:
    """The media type by the first bytes, such as ``image/jpeg``; None where they are of no known type."""
    for offset, signature, mime_type in _SIGNATURES:
        if blob[offset : offset + len(signature)] == signature:
            if mime_type == "image/tiff":
                return _kind_of_tiff(blob)
            return _kind_of_boxes(blob) if mime_type == "video/mp4" else mime_type
    found = _NETPBM.match(blob, 0, 512)
    return None if found is None else _NETPBM_TYPES[found[1]]


def _kind_of_boxes(blob: bytes) -> str:
    """By the major brand; where that says little, by those that the file is compatible with."""
    major = _BRANDS.get(blob[8:12])
    if major is not None and major != "image/heif":
        return major
    end = min(int.from_bytes(blob[:4], "big"), 16 + 4 * _MOST_BRANDS, len(blob))
    kinds = {_BRANDS.get(blob[start : start + 4]) for start in range(16, end - 3, 4)}
    for kind in ("image/avif", "image/heic", "image/heif"):
        if kind in kinds:
            return kind
    return major or "video/mp4"


# Tags of TIFF 6.0, of TIFF/EP (ISO 12234-2) and of DNG 1.7.
_NEW_SUBFILE_TYPE, _PHOTOMETRIC, _SUB_FOLDERS, _DNG_VERSION = 254, 262, 330, 50706
# What a sensor saw: a mosaic of colours, or values that no colour space has.
_OF_SENSORS = (32803, 34892)

# A folder has some dozens of tags, and no photo more folders than a camera's raw file.
_MOST_TAGS = 1000
_MOST_SENSOR_FOLDERS = 16
_MOST_SUB_FOLDERS = 8

_TYPE_BYTES = {1: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}


@dataclass(frozen=True, slots=True)
class TiffFolder:
    """What one image file directory of a TIFF says: numbers by tag, the first ones of each."""

    values: dict[int, tuple[int, ...]]

    @property
    def is_page(self) -> bool:
        """Whether it is a picture of its own, and no smaller copy or mask of another one."""
        return not self.values.get(_NEW_SUBFILE_TYPE, (0,))[0] & 0b101


def tiff_folders(blob: bytes, most: int) -> Iterator[TiffFolder]:
    """The directories of a TIFF or BigTIFF in their order, at most so many; ends where the chain breaks."""
    order: Literal["little", "big"] = "little" if blob[:1] == b"I" else "big"
    big = blob[2:4] in (b"+\0", b"\0+")
    start = int.from_bytes(blob[8:16] if big else blob[4:8], order)
    seen: set[int] = set()
    while start and start not in seen and len(seen) < most:
        seen.add(start)
        folder, start = _tiff_folder(blob, start, order, big)
        if folder is None:
            return
        yield folder


def _tiff_folder(
    blob: bytes, start: int, order: Literal["little", "big"], big: bool
) -> tuple[TiffFolder | None, int]:
    """The directory at ``start``, and where the next one is; None where the file ends before."""
    count_bytes, entry_bytes, value_bytes = (8, 20, 8) if big else (2, 12, 4)
    count = int.from_bytes(blob[start : start + count_bytes], order)
    first = start + count_bytes
    after = first + count * entry_bytes
    if count > _MOST_TAGS or after > len(blob):
        return None, 0
    values: dict[int, tuple[int, ...]] = {}
    for entry in range(first, after, entry_bytes):
        tag = int.from_bytes(blob[entry : entry + 2], order)
        if tag not in (_NEW_SUBFILE_TYPE, _PHOTOMETRIC, _SUB_FOLDERS, _DNG_VERSION):
            continue
        size = _TYPE_BYTES.get(int.from_bytes(blob[entry + 2 : entry + 4], order), 0)
        held = int.from_bytes(blob[entry + 4 : entry + entry_bytes - value_bytes], order)
        place = entry + entry_bytes - value_bytes
        if held * size > value_bytes:
            place = int.from_bytes(blob[place : place + value_bytes], order)
        read = (
            int.from_bytes(blob[place + size * number : place + size * (number + 1)], order)
            for number in range(min(held, _MOST_SUB_FOLDERS))
        )
        if size and held:
            values[tag] = tuple(read)
    return TiffFolder(values), int.from_bytes(blob[after : after + value_bytes], order)


def _kind_of_tiff(blob: bytes) -> str:
    """TIFF, or a camera's raw file, of which most are TIFFs that hold what the sensor saw."""
    order: Literal["little", "big"] = "little" if blob[:1] == b"I" else "big"
    big = blob[2:4] in (b"+\0", b"\0+")
    for number, folder in enumerate(tiff_folders(blob, _MOST_SENSOR_FOLDERS)):
        if number == 0 and _DNG_VERSION in folder.values:
            return DNG
        below = (_tiff_folder(blob, start, order, big)[0] for start in folder.values.get(_SUB_FOLDERS, ()))
        for each in (folder, *(inner for inner in below if inner is not None)):
            if each.values.get(_PHOTOMETRIC, (0,))[0] in _OF_SENSORS:
                return RAW
    return "image/tiff"
