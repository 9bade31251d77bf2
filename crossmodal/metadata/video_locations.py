"""Where in the file of a video it is written where it was made."""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from crossmodal.metadata.avi import avi_parts
from crossmodal.metadata.locations import names_a_place
from crossmodal.metadata.matroska import matroska_parts
from crossmodal.metadata.video_parts import Part, read_part

__all__ = ["Span", "blanked", "location_spans"]

# From and up to: offsets in a file.
Span = tuple[int, int]

_MOST_BOXES = 1 << 14
# A video that says more is a log of places, or is made to take memory.
_MOST_SPANS = 1 << 14
# Of so many videos it is remembered what was found.
_VIDEOS = 64

# ISO 6709 as text (annex H), which should end with a solidus. What has none, and any other number of that
# form, is blanked too: in an index there is little else that is written so.
_ISO_6709 = re.compile(rb"[+-]\d{2,6}(?:\.\d+)?[+-]\d{3,7}(?:\.\d+)?(?:[+-]\d+(?:\.\d+)?)?(?:CRS[\w:]*)?/?")
# 3GPP TS 26.244, 8.11: the box ``loci`` of a video of a telephone.
_LOCI = re.compile(rb"(?s:(.{4})loci)")
# What may say a place in a way of its own. Tracks of measurements, in which each second may have one: GoPro,
# Google's CAMM, Apple, Sony, dashboard cameras. A packed index. The file of a photo: a cover, or each frame
# of some codecs.
_TELLS = re.compile(rb"gpmd|camm|mebx|rtmd|gps |cmov|covr|Exif\0\0|eXIf|(?i:jpeg|mjp[abg]|[il]jpg|mpng|png )")
# The names that programs give to metadata in QuickTime and MP4 (QuickTime File Format, "Metadata"; the box
# ``----`` of iTunes), those of places, and of these the ones that stand for ISO 6709.
_KEY = re.compile(rb"(?:mdta|name\0\0\0\0)([\x20-\x7e]+)")
_PLACE_KEY = re.compile(rb"(?i)locat|gps|l(?:at|ong)itude|coordinate|geo|place|city|state|country|address")
_COORDINATES_KEY = re.compile(rb"location(?:\.ISO6709|-\w{3})?$")
# The kinds of tracks (ISO 14496-12, 8.4.3) that are seen or heard, or count frames. Others, such as the text
# of a drone, may say a place each second. QuickTime has a handler of data besides, ``dhlr``.
_HANDLER = re.compile(rb"(?s:hdlr.{4}(.{4})(.{4}))")
_HARMLESS_TRACKS = frozenset({b"vide", b"soun", b"tmcd"})
_IN_QUICKTIME_DATA = b"dhlr"
# Of what tells of the whole, in a box of metadata.
_HARMLESS_METADATA = frozenset({b"mdir", b"mdta"})
# Outermost boxes that tell nothing: kinds of files, frames and where they are. A part of a film has an index
# of its own. What was moved may be left where there is room.
_PLAIN = frozenset({b"ftyp", b"styp", b"mdat", b"sidx", b"mfra", b"pdin", b"wide"})
_INDEXES = frozenset({b"moov", b"moof"})
_ROOM = frozenset({b"free", b"skip"})


@dataclass(frozen=True, slots=True)
class _File:
    """An open file; two are the same where their status is."""

    device: int
    inode: int
    size: int
    changed: int
    mime_type: str
    descriptor: int = field(compare=False)


def location_spans(descriptor: int, mime_type: str) -> Sequence[Span] | None:
    """The bytes of an open file that say where it was made, to be overwritten by blanks, in order.

    None where that cannot be taken out for sure. What was found is remembered for as long as the file has the
    same size and time.
    """
    status = os.fstat(descriptor)
    return _spans(
        _File(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, mime_type, descriptor)
    )


@lru_cache(_VIDEOS)
def _spans(file: _File) -> Sequence[Span] | None:
    spans: list[Span] = []
    try:
        for part in _parts(file):
            if part.needed:
                spans += _said_in(read_part(file.descriptor, part.start, part.end), part.start)
            elif part.start < part.end:
                spans.append((part.start, part.end))
            if len(spans) > _MOST_SPANS:
                return None
    except ValueError:
        return None
    return _apart(spans)


def _parts(file: _File) -> Iterator[Part]:
    """What of a file may tell something; raises ValueError where that is not sure."""
    if file.mime_type in ("video/mp4", "video/quicktime"):
        return _mp4_parts(file.descriptor, file.size)
    return (avi_parts if file.mime_type == "video/x-msvideo" else matroska_parts)(file.descriptor, file.size)


def _said_in(part: bytes, start: int) -> Iterator[Span]:
    if names_a_place(part) or _TELLS.search(part):
        raise ValueError("it may say a place in another way")
    keys = [key[1] for key in _KEY.finditer(part) if _PLACE_KEY.search(key[1])]
    if not all(map(_COORDINATES_KEY.search, keys)) or len(keys) > len(_ISO_6709.findall(part)):
        raise ValueError("it names a place")
    if not all(map(_is_harmless, _HANDLER.finditer(part))):
        raise ValueError("it has a track that is neither seen nor heard")
    for place in _ISO_6709.finditer(part):
        yield start + place.start(), start + place.end()
    for box in _LOCI.finditer(part):
        length = int.from_bytes(box[1])
        yield start + box.end(), start + min(box.start() + length, len(part))


def _apart(spans: list[Span]) -> Sequence[Span]:
    """The same bytes, in order and none of them twice."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return tuple(joined)


def _mp4_parts(descriptor: int, size: int) -> Iterator[Part]:
    """The index of an MP4 or QuickTime file (ISO 14496-12, 8.2.1) and of its parts, and what lies between.

    Raises ValueError where there is not one index, and where another box beside it may tell something.
    """
    indexes = 0
    for kind, start, end in _boxes(descriptor, size):
        if kind in _ROOM:
            yield Part(start, end, needed=False)
        elif kind in _INDEXES:
            indexes += kind == b"moov"
            yield Part(start, end)
        elif kind not in _PLAIN:
            raise ValueError("it has what is not known")
    if indexes != 1:
        raise ValueError("it has no index, or several")


def blanked(part: bytes, start: int, spans: Sequence[Span]) -> bytes:
    """The ``part`` of a file that begins at ``start``, with blanks for what of it lies in ``spans``."""
    written, end = bytearray(part), start + len(part)
    # All before this one end before the part.
    at = max(bisect_right(spans, (start, end)) - 1, 0)
    while at < len(spans) and spans[at][0] < end:
        first, last = spans[at]
        low, high = max(first, start) - start, min(last, end) - start
        if low < high:
            written[low:high] = b" " * (high - low)
        at += 1
    return bytes(written)


def _is_harmless(handler: re.Match[bytes]) -> bool:
    group, kind = handler.groups()
    return group == _IN_QUICKTIME_DATA or kind in _HARMLESS_TRACKS or kind in _HARMLESS_METADATA


def _boxes(descriptor: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each outermost box, and where its body starts and ends.

    Raises ValueError where one is broken, or where they are many.
    """
    at = 0
    for _ in range(_MOST_BOXES):
        if at >= size:
            return
        head = os.pread(descriptor, 16, at)
        if len(head) < 8:
            break
        length, kind = struct.unpack_from(">I4s", head)
        start = at + 8
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
            start += 8
        end = size if length == 0 else at + length
        if end < start:
            break
        yield kind, start, min(end, size)
        at = end
    raise ValueError("a box is broken, or there are too many")
