"""Where in the file of a video it is written where it was made."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Sequence

from crossmodal.metadata.locations import names_a_place

__all__ = ["Span", "blanked", "location_spans"]

# From and up to: offsets in a file.
Span = tuple[int, int]

_MOST_INDEX_BYTES = 64 << 20
_MOST_BOXES = 1 << 14
# Matroska and AVI have their tags near one of both ends.
_EDGE_BYTES = 4 << 20

# ISO 6709 as text (annex H), which should end with a solidus. What has none, and any other number of that
# form, is blanked too: in an index there is little else that is written so.
_ISO_6709 = re.compile(rb"[+-]\d{2,6}(?:\.\d+)?[+-]\d{3,7}(?:\.\d+)?(?:[+-]\d+(?:\.\d+)?)?(?:CRS[\w:]*)?/?")
# 3GPP TS 26.244, 8.11: the box ``loci`` of a video of a telephone.
_LOCI = re.compile(rb"(?s:(.{4})loci)")
# Tracks of measurements, in which each second may have a place: GoPro, Google's CAMM, Apple, Sony.
_MEASURED = (b"gpmd", b"camm", b"mebx", b"rtmd")
# Apple's names of a place, but for its coordinates (QuickTime File Format, "Metadata").
_NAMED_PLACE = re.compile(rb"quicktime\.location\.(?!ISO6709)")
# The kinds of tracks (ISO 14496-12, 8.4.3) that are seen or heard, or count frames. Others, such as the text
# of a drone, may say a place each second. QuickTime has a handler of data besides, ``dhlr``.
_HANDLER = re.compile(rb"(?s:hdlr.{4}(.{4})(.{4}))")
_HARMLESS_TRACKS = frozenset({b"vide", b"soun", b"tmcd"})
_IN_QUICKTIME_DATA = b"dhlr"
# Of what tells of the whole, in a box of metadata.
_HARMLESS_METADATA = frozenset({b"mdir", b"mdta"})
# Boxes that may tell something outside of the index: XMP, for one, lies in a ``uuid``.
_TELLING = frozenset({b"uuid", b"meta", b"udta"})


def location_spans(descriptor: int, size: int, mime_type: str) -> list[Span] | None:
    """The bytes of an open file that say where it was made, to be overwritten by blanks.

    None where that cannot be taken out for sure.
    """
    boxed = mime_type in ("video/mp4", "video/quicktime")
    if boxed:
        found = _index_of(descriptor, size)
        if found is None:
            return None
        parts = [found]
    else:
        parts = [(0, min(size, _EDGE_BYTES)), (max(size - _EDGE_BYTES, 0), size)]
    spans: list[Span] = []
    for start, end in parts:
        part = os.pread(descriptor, end - start, start)
        if names_a_place(part) or _NAMED_PLACE.search(part) or any(kind in part for kind in _MEASURED):
            return None
        if boxed and not all(map(_is_harmless, _HANDLER.finditer(part))):
            return None
        spans += [(start + place.start(), start + place.end()) for place in _ISO_6709.finditer(part)]
        for box in _LOCI.finditer(part):
            length = int.from_bytes(box[1])
            spans.append((start + box.end(), start + min(box.start() + length, len(part))))
    return sorted(set(spans))


def blanked(part: bytes, start: int, spans: Sequence[Span]) -> bytes:
    """The ``part`` of a file that begins at ``start``, with blanks for what of it lies in ``spans``."""
    if not spans:
        return part
    written = bytearray(part)
    for first, last in spans:
        low, high = max(first, start) - start, min(last, start + len(written)) - start
        if low < high:
            written[low:high] = b" " * (high - low)
    return bytes(written)


def _is_harmless(handler: re.Match[bytes]) -> bool:
    group, kind = handler.groups()
    return group == _IN_QUICKTIME_DATA or kind in _HARMLESS_TRACKS or kind in _HARMLESS_METADATA


def _index_of(descriptor: int, size: int) -> Span | None:
    """Where the box ``moov`` is (ISO 14496-12, 8.2.1).

    None where it isn't there once, is packed or huge, or another box beside it may tell where that was.
    """
    found: Span | None = None
    for kind, start, end in _boxes(descriptor, size):
        if kind in _TELLING or (kind == b"moov" and found is not None):
            return None
        if kind == b"moov":
            if end - start > _MOST_INDEX_BYTES or b"cmov" in os.pread(descriptor, 64, start):
                return None
            found = start, end
        if kind == b"":
            return None
    return found


def _boxes(descriptor: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each outermost box, and from and up to where it goes; an empty kind where one is broken."""
    at = 0
    for _ in range(_MOST_BOXES):
        head = os.pread(descriptor, 16, at)
        if at >= size:
            return
        if len(head) < 8:
            break
        length, kind = struct.unpack_from(">I4s", head)
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
        end = size if length == 0 else at + length
        if end <= at:
            break
        yield kind, at, min(end, size)
        at = end
    yield b"", at, size
