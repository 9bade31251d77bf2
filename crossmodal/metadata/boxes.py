"""Formats that consist of boxes: HEIC, AVIF and Canon's CR3 (ISO 14496-12), JPEG XL and JPEG 2000."""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["read_bmff", "read_jp2", "read_jxl"]

# Boxes of one level, and items of one file: a photo in tiles has hundreds of items.
_MAX_BOXES = 4096

_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF_UUID = b"JpgTiffExif->JP2"

# The box that Canon's CR3 has in "moov", and what its boxes hold: a directory of EXIF each, with a head of
# its own. After "Describing the Canon Raw v3 (CR3) file format" by Laurent Clévy; exiftool reads them so.
_CANON_UUID = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_CANON_BOXES = {b"CMT1": "exif", b"CMT2": "camera", b"CMT4": "place"}

# Where an item's bytes are counted from; the beginning of the file, or of the box idat.
_IN_FILE, _IN_IDAT = 0, 1
_MAX_EXTENTS = 16
# Longer than the longest block that is read, so that one that is too long is told.
_MAX_EXTENT_BYTES = (4 << 20) + 1

# What a block or a value is, as a field of ``Blocks``, and it.
Part = tuple[str, object]


def _boxes(content: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """The boxes between ``start`` and ``end``: kind, where the body starts and where it ends."""
    end = len(content) if end is None else min(end, len(content))
    for _ in range(_MAX_BOXES):
        if end - start < 8:
            return
        length, kind = struct.unpack_from(">I4s", content, start)
        body = start + 8
        if length == 1 and end - start >= 16:
            (length,) = struct.unpack_from(">Q", content, body)
            body += 8
        stop = end if length == 0 else start + length
        if stop < body:
            return
        yield kind, body, min(stop, end)
        start = stop


def read_jxl(content: bytes) -> Iterator[Part]:
    """The parts of a JPEG XL file with boxes; those that are packed by Brotli are told by a warning."""
    packed = []
    for kind, start, end in _boxes(content):
        if kind == b"Exif":
            yield from _exif_with_offset(content[start:end])
        elif kind == b"xml ":
            yield "xmp", content[start:end]
        elif kind == b"brob":
            packed.append(content[start : start + 4].decode("latin-1").strip())
    if packed:
        yield "warnings", [f"Its {' and '.join(packed)} are packed by Brotli and not read."]


def read_jp2(content: bytes) -> Iterator[Part]:
    """The parts of a JPEG 2000 file."""
    for kind, start, end in _boxes(content):
        if kind == b"jp2h":
            for inner, at, _ in _boxes(content, start, end):
                if inner == b"ihdr":
                    height, width = struct.unpack_from(">II", content, at)
                    yield "size", (width, height)
        elif kind == b"uuid" and content[start : start + 16] == _XMP_UUID:
            yield "xmp", content[start + 16 : end]
        elif kind == b"uuid" and content[start : start + 16] == _EXIF_UUID:
            yield "exif", content[start + 16 : end]


def read_bmff(content: bytes) -> Iterator[Part]:
    """The parts of a HEIC, HEIF or AVIF file, or of a CR3: the size of its largest picture, EXIF and XMP."""
    for kind, start, end in _boxes(content):
        if kind == b"moov":
            yield from _canon(content, start, end)
        if kind == b"meta":
            yield from _meta(content, start + 4, end)
        elif kind == b"uuid" and content[start : start + 16] == _XMP_UUID:
            yield "xmp", content[start + 16 : end]


def _canon(content: bytes, start: int, end: int) -> Iterator[Part]:
    for kind, at, stop in _boxes(content, start, end):
        if kind == b"uuid" and content[at : at + 16] == _CANON_UUID:
            for inner, body, behind in _boxes(content, at + 16, stop):
                if inner in _CANON_BOXES:
                    yield _CANON_BOXES[inner], content[body:behind]


def _meta(content: bytes, start: int, end: int) -> Iterator[Part]:
    inner = {kind: (at, stop) for kind, at, stop in _boxes(content, start, end)}
    if b"iprp" in inner:
        yield from _properties(content, *inner[b"iprp"])
    if b"iinf" not in inner or b"iloc" not in inner:
        return
    kinds = dict(_items(content, *inner[b"iinf"]))
    places = _places(content, inner[b"iloc"][0], set(kinds))
    data = inner[b"idat"][0] if b"idat" in inner else 0
    for item, kind_of in kinds.items():
        method, extents = places.get(item, (_IN_FILE, []))
        first = data if method == _IN_IDAT else 0
        block = b"".join(content[first + at : first + at + length] for at, length in extents)
        if kind_of == "xmp":
            yield "xmp", block
        else:
            yield from _exif_with_offset(block)


def _items(content: bytes, start: int, end: int) -> Iterator[tuple[int, str]]:
    """The items that are EXIF or XMP: their numbers and which of the two."""
    version = content[start]
    for kind, at, stop in _boxes(content, start + (6 if version == 0 else 8), end):
        if kind != b"infe" or content[at] not in (2, 3):
            continue
        width = 2 if content[at] == 2 else 4
        item = int.from_bytes(content[at + 4 : at + 4 + width])
        named = at + 6 + width
        if content[named : named + 4] == b"Exif":
            yield item, "exif"
        elif content[named : named + 4] == b"mime" and b"application/rdf+xml" in content[named + 4 : stop]:
            yield item, "xmp"


def _places(content: bytes, start: int, wanted: set[int]) -> dict[int, tuple[int, list[tuple[int, int]]]]:
    """Of each item that is wanted how its place is told, and where its pieces start and how long they are."""
    version = content[start]
    sizes = content[start + 4], content[start + 5]
    offset_bytes, length_bytes, base_bytes = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4
    index_bytes = sizes[1] & 15 if version in (1, 2) else 0
    at = start + 6

    def number(width: int) -> int:
        nonlocal at
        at += width
        if at > len(content):
            raise ValueError("a list of places is cut off")
        return int.from_bytes(content[at - width : at])

    wide = 2 if version < 2 else 4
    places = {}
    for _ in range(min(number(wide), _MAX_BOXES)):
        item = number(wide)
        method = number(2) & 15 if version in (1, 2) else _IN_FILE
        number(2)
        base = number(base_bytes)
        extents = []
        for _ in range(min(number(2), _MAX_BOXES)):
            number(index_bytes)
            offset = base + number(offset_bytes)
            extents.append((offset, min(number(length_bytes), _MAX_EXTENT_BYTES)))
        if item in wanted:
            places[item] = method, extents[:_MAX_EXTENTS]
    return places


def _properties(content: bytes, start: int, end: int) -> Iterator[Part]:
    """The size of the largest picture (a photo in tiles has one for each and one for all), and its turn."""
    largest = (0, 0)
    for kind, at, stop in _boxes(content, start, end):
        if kind != b"ipco":
            continue
        for inner, body, _ in _boxes(content, at, stop):
            if inner == b"ispe":
                width, height = struct.unpack_from(">II", content, body + 4)
                largest = max(largest, (width, height), key=lambda size: size[0] * size[1])
            elif inner == b"irot":
                yield "turned", bool(content[body] & 1)
    if all(largest):
        yield "size", largest


def _exif_with_offset(block: bytes) -> Iterator[Part]:
    """EXIF behind four bytes that say how many more stand before it."""
    if len(block) > 8:
        exif = block[4 + int.from_bytes(block[:4]) :]
        yield "exif", exif.removeprefix(b"Exif\0\0")
