"""Where in the file of a video it is written where it was made."""

from __future__ import annotations

import os
import re
import struct

__all__ = ["Span", "location_spans"]

# From and up to: offsets in a file.
Span = tuple[int, int]

_MOST_INDEX_BYTES = 64 << 20
_MOST_BOXES = 4096
# Matroska and AVI have their tags near one of both ends.
_EDGE_BYTES = 4 << 20

# ISO 6709 as text (annex H), which ends with a solidus.
_ISO_6709 = re.compile(rb"[+-]\d{2,6}(?:\.\d+)?[+-]\d{3,7}(?:\.\d+)?(?:[+-]\d+(?:\.\d+)?)?(?:CRS[\w:]*)?/")
# 3GPP TS 26.244, 8.11: the box ``loci`` of a video of a telephone; here also what XMP says of places.
_LOCI = re.compile(rb"(?s:(.{4})loci)")
_XMP_GPS = re.compile(rb"GPS(?:Latitude|Longitude|Position|Coordinates)")
# Tracks of measurements, in which each second may have a place: GoPro, Google's CAMM, Apple, Sony.
_MEASURED = (b"gpmd", b"camm", b"mebx", b"rtmd")


def location_spans(descriptor: int, size: int, mime_type: str) -> list[Span] | None:
    """The bytes of an open file that say where it was made, to be overwritten by blanks.

    None where that cannot be taken out for sure.
    """
    if mime_type in ("video/mp4", "video/quicktime"):
        found = _index_of(descriptor, size)
        if found is None:
            return None
        parts = [found]
    else:
        parts = [(0, min(size, _EDGE_BYTES)), (max(size - _EDGE_BYTES, 0), size)]
    spans: list[Span] = []
    for start, end in parts:
        part = os.pread(descriptor, end - start, start)
        if _XMP_GPS.search(part) or any(kind in part for kind in _MEASURED):
            return None
        spans += [(start + place.start(), start + place.end()) for place in _ISO_6709.finditer(part)]
        for box in _LOCI.finditer(part):
            length = int.from_bytes(box[1])
            spans.append((start + box.end(), start + min(box.start() + length, len(part))))
    return sorted(set(spans))


def _index_of(descriptor: int, size: int) -> Span | None:
    """Where the box ``moov`` is (ISO 14496-12, 8.2.1); None where there is none, or it is packed or huge."""
    at = 0
    for _ in range(_MOST_BOXES):
        head = os.pread(descriptor, 16, at)
        if len(head) < 8:
            return None
        length, kind = struct.unpack_from(">I4s", head)
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
        end = size if length == 0 else at + length
        if kind == b"moov":
            if end - at > _MOST_INDEX_BYTES or b"cmov" in os.pread(descriptor, 64, at):
                return None
            return at, min(end, size)
        if end <= at:
            return None
        at = end
    return None
