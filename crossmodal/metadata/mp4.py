"""The parts of an MP4 or QuickTime file that may tell something (ISO 14496-12; QuickTime File Format)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from crossmodal.metadata.video_parts import OpenVideo, Part

__all__ = ["mp4_parts"]

_MOST_BOXES = 1 << 14
# A track has boxes in boxes in boxes.
_MOST_LEVELS = 8

# The index of a film, and of a part of one.
_INDEXES = frozenset({b"moov", b"moof"})
# Of boxes that consist of boxes, those in which there may be room.
_AROUND = frozenset(
    {
        *(b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"mvex", b"traf", b"tref", b"gmhd"),
        *(b"udta", b"meta", b"ilst"),
    }
)
# What was moved may be left where there is room, as for a longer head (``wide``). How quickly what can be
# played is said by ``pdin``, which nothing needs.
_ROOM = frozenset({b"free", b"skip", b"wide", b"pdin"})

# Kinds of files (4.3): the best one, its version, and others.
_BRANDS = re.compile(rb"(?s:[\x20-\x7e]{4}(?:.{4}(?:[\x20-\x7e]{4}|\0{4}){0,64})?)")


def mp4_parts(file: OpenVideo) -> Iterator[Part]:
    """What of an open file is to be looked at, and what is to be blanked.

    Raises ValueError where there is not one index, and where something else in it may tell something.
    """
    indexes = 0
    for kind, start, end in _boxes(file):
        if kind in _ROOM:
            yield Part(start, end, needed=False)
        elif kind in _INDEXES:
            indexes += kind == b"moov"
            yield Part(start, end)
            content = file.read(start, end)
            for first, last in _rooms(content, 0, len(content), _MOST_LEVELS):
                yield Part(start + first, start + last, needed=False)
        elif kind != b"mdat" and not _is_as_it_should_be(kind, file.read(start, end)):
            raise ValueError("it has what is not known")
    if indexes != 1:
        raise ValueError("it has no index, or several")


def _is_as_it_should_be(kind: bytes, content: bytes) -> bool:
    """Whether a box beside the index consists of nothing but the numbers and names that it has to have."""
    if kind in (b"ftyp", b"styp"):
        return _BRANDS.fullmatch(content) is not None
    if kind == b"sidx":
        return _is_index_of_segments(content)
    return kind == b"mfra" and all(_is_random_access(*box) for box in _inner(content))


def _is_index_of_segments(content: bytes) -> bool:
    """The box ``sidx`` (8.16.3): where the parts of a film are, 12 bytes for each."""
    if content[:1] not in (b"\0", b"\1"):
        return False
    head = 24 if content[0] == 0 else 32
    return len(content) == head + 12 * int.from_bytes(content[head - 2 : head])


def _is_random_access(kind: bytes, content: bytes) -> bool:
    """A box of ``mfra`` (8.8.9): where frames are that can be begun at, and how long it is itself."""
    if kind == b"mfro":
        return len(content) == 8
    if kind != b"tfra" or len(content) < 16:
        return False
    _, widths, entries = struct.unpack_from(">III", content, 4)
    each = (16 if content[0] == 1 else 8) + 3 + sum(widths >> shift & 3 for shift in (0, 2, 4))
    return not widths >> 6 and len(content) == 16 + each * entries


def _inner(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind and the body of each box in another one; raises ValueError where that has anything else."""
    at = 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 4])
        if length < 8 or at + length > len(content):
            raise ValueError("a box is broken")
        yield content[at + 4 : at + 8], content[at + 8 : at + length]
        at += length


def _rooms(content: bytes, start: int, end: int, levels: int) -> Iterator[tuple[int, int]]:
    """Where there is room between the boxes of an index, as far as they can be told apart."""
    while levels and end - start >= 8:
        length, kind = struct.unpack_from(">I4s", content, start)
        if length < 8 or start + length > end:
            # In QuickTime some end with a zero. All of an index is looked at in any case.
            return
        if kind in _ROOM:
            yield start + 8, start + length
        elif kind in _AROUND:
            # In ISO 14496-12 the box ``meta`` has a version, in QuickTime it has none.
            versioned = kind == b"meta" and content[start + 8 : start + 12] == bytes(4)
            yield from _rooms(content, start + (12 if versioned else 8), start + length, levels - 1)
        start += length


def _boxes(file: OpenVideo) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each outermost box, and where its body starts and ends.

    Raises ValueError where one is broken, or where they are many.
    """
    at = 0
    for _ in range(_MOST_BOXES):
        if at >= file.size:
            return
        head = file.head(at, 16)
        if len(head) < 8:
            break
        length, kind = struct.unpack_from(">I4s", head)
        start = at + 8
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
            start += 8
        end = file.size if length == 0 else at + length
        if end < start:
            break
        yield kind, start, min(end, file.size)
        at = end
    raise ValueError("a box is broken, or there are too many")
