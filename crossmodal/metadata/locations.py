"""Taking out of tags, and of the bytes of a photo's file, where it was taken.

In a file only the values are overwritten, in their place: nothing moves, and no pixel changes. (Of a PNG,
whose XMP may be packed, those parts are left out.) What was done is checked by reading the file again.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from crossmodal.metadata.containers import read_blocks
from crossmodal.metadata.fields import PRIVATE
from crossmodal.metadata.reading import read_metadata

__all__ = ["is_private", "names_a_place", "without_location", "without_private"]

_PNG = b"\x89PNG\r\n\x1a\n"
# Formats whose metadata is read, so that a second reading tells. Canon's CR3 has it
# in a directory of its own, over which nothing writes.
_KNOWN = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|BM|8BPS|II\*\0|MM\0\*|II\+\0|MM\0\+|IIRO|IIRS|IIU\0|P[1-7]\s|\xff\x0a"
    rb"|\0\0\0\x0cJXL |\0\0\0\x0cjP  |RIFF....WEBP|....ftyp(?!crx )",
    re.DOTALL,
)

_EXIF_HEAD = re.compile(rb"Exif\0\0(?=II\*\0|MM\0\*)")
_GPS_TAG = 0x8825
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_MOST_ENTRIES = 1000
_MOST_DIRECTORIES = 64

_PACKET = re.compile(rb"<x:xmpmeta.*?</x:xmpmeta>|<rdf:RDF.*?</rdf:RDF>", re.DOTALL)
_PLACE = (
    rb"(?:GPS\w+|City|State|Country|CountryCode|CountryName|Sublocation|ProvinceState|WorldRegion"
    rb"|Location\w*)"
)
_PLACE_NAME = re.compile(rb"GPS(?:Latitude|Longitude|Position|Coordinates)|(?<=:)" + _PLACE + rb"\s*[=>]")
_ATTRIBUTE = re.compile(rb"(?<=[\s:])" + _PLACE + rb"\s*=\s*(\"[^\"]*\"|'[^']*')")
_ELEMENT = re.compile(rb"<((?:[\w.-]+:)?" + _PLACE + rb")(?:\s[^>]*)?(?<!/)>(.*?)</\1\s*>", re.DOTALL)

# Code and name of the content's place; city, sublocation, province, code and name of the country.
_IPTC_PLACES = frozenset({26, 27, 90, 92, 95, 100, 101})

# Where a video that hangs on a photo was taken: ISO 6709 as QuickTime has it.
_ISO_6709 = re.compile(rb"(?<=\xa9xyz)(?s:.{2,8}?)([+-]\d[-+0-9./]{5,60})")


def is_private(name: str) -> bool:
    """Whether the tag ``name``, its keys joined by dots, says where a photo was taken."""
    return name.partition(".")[0] in PRIVATE


def without_private(tags: Mapping[str, Any]) -> Mapping[str, Any]:
    """``tags`` without those that say where a photo was taken."""
    if not any(map(is_private, tags)):
        return tags
    return {name: value for name, value in tags.items() if not is_private(name)}


def names_a_place(content: bytes) -> bool:
    """Whether a part of a file has a name of XMP for a place, whatever stands there."""
    return _PLACE_NAME.search(content) is not None


def without_location(content: bytes) -> bytes | None:
    """The file of a photo without where it was taken; None where that cannot be taken out for sure."""
    if _KNOWN.match(content) is None:
        return None
    cleaned = _cleaned_png(content) if content.startswith(_PNG) else bytes(_cleaned(content))
    read = read_metadata(cleaned)
    # What could not be read may say it.
    return None if read.warnings or any(map(is_private, read.tags)) else cleaned


def _cleaned(content: bytes) -> bytearray:
    data = bytearray(content)
    blocks = read_blocks(content)
    starts = {found.end() for found in _EXIF_HEAD.finditer(content)}
    if blocks.whole:
        starts.add(0)
    if blocks.exif is not None and (at := content.find(blocks.exif)) >= 0:
        starts.add(at)
    for start in starts:
        _blank_gps(data, start)
    for packet in _PACKET.finditer(content):
        _blank_xmp(data, *packet.span())
    for head in (b"Photoshop 3.0\0", b"\x1c\x02"):
        at = content.find(head)
        if at >= 0:
            _blank_iptc(data, at)
    for place in _ISO_6709.finditer(content):
        _blank(data, *place.span(1))
    return data


def _blank(data: bytearray, start: int, end: int, by: bytes = b" ") -> None:
    end = min(end, len(data))
    if start < end:
        data[start:end] = by * (end - start)


def _blank_gps(data: bytearray, start: int) -> None:
    """Empty the directories of places of the TIFF that begins at ``start``."""
    order = "<" if data[start : start + 2] == b"II" else ">"
    at = _number(data, start + 4, order)
    seen: set[int] = set()
    while at and at not in seen and len(seen) < _MOST_DIRECTORIES:
        seen.add(at)
        entries = list(_entries(data, start, at, order))
        for place, tag, _, _ in entries:
            if tag == _GPS_TAG:
                _empty_directory(data, start, _number(data, place + 8, order), order)
        at = _number(data, start + at + 2 + 12 * len(entries), order)


def _empty_directory(data: bytearray, start: int, at: int, order: str) -> None:
    for place, _, size, value in list(_entries(data, start, at, order)):
        if size > 4:
            _blank(data, start + value, start + value + size, b"\0")
        _blank(data, place, place + 12, b"\0")
    _blank(data, start + at, start + at + 2, b"\0")


def _entries(data: bytearray, start: int, at: int, order: str) -> Iterator[tuple[int, int, int, int]]:
    """Of each entry of a directory: where it is, its tag, how many bytes its value has, and where that is."""
    if at <= 0 or start + at + 2 > len(data):
        return
    (count,) = struct.unpack_from(f"{order}H", data, start + at)
    for number in range(min(count, _MOST_ENTRIES)):
        place = start + at + 2 + 12 * number
        if place + 12 > len(data):
            return
        tag, kind, values, value = struct.unpack_from(f"{order}HHII", data, place)
        yield place, tag, _SIZES.get(kind, 0) * values, value


def _number(data: bytearray, at: int, order: str) -> int:
    if at < 0 or at + 4 > len(data):
        return 0
    (number,) = struct.unpack_from(f"{order}I", data, at)
    return int(number)


def _blank_xmp(data: bytearray, start: int, end: int) -> None:
    packet = bytes(data[start:end])
    for found in _ATTRIBUTE.finditer(packet):
        _blank(data, start + found.start(1) + 1, start + found.end(1) - 1)
    for found in _ELEMENT.finditer(packet):
        _blank(data, start + found.start(2), start + found.end(2))


def _blank_iptc(data: bytearray, start: int) -> None:
    """Overwrite the data sets of places from ``start`` on, where the first one may be some bytes behind."""
    at = data.find(b"\x1c\x02", start)
    while at >= 0 and bytes(data[at : at + 1]) == b"\x1c" and at + 5 <= len(data):
        length = int.from_bytes(data[at + 3 : at + 5])
        if length & 0x8000:
            return
        if data[at + 1] == 2 and data[at + 2] in _IPTC_PLACES:
            _blank(data, at + 5, at + 5 + length)
        at += 5 + length


def _cleaned_png(content: bytes) -> bytes:
    kept = [_PNG]
    at = len(_PNG)
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        body = content[at + 8 : at + 8 + length]
        chunk = content[at : at + 12 + length]
        at += 12 + length
        name = body.partition(b"\0")[0]
        if kind == b"eXIf":
            cleaned = bytearray(body)
            _blank_gps(cleaned, 0)
            checksum = zlib.crc32(kind + cleaned)
            chunk = struct.pack(">I", length) + kind + bytes(cleaned) + struct.pack(">I", checksum)
        elif kind in (b"iTXt", b"zTXt", b"tEXt") and (
            name == b"XML:com.adobe.xmp" or name.startswith(b"Raw profile type ")
        ):
            continue
        kept.append(chunk)
        if kind == b"IEND":
            break
    # What hangs on behind the end is not shown by anything, and may be anything.
    return b"".join(kept)
