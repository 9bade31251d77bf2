"""The parts of a Matroska or WebM file that may tell something: RFC 9559, written as RFC 8794 says."""

from __future__ import annotations

import os
from collections.abc import Iterator

from crossmodal.metadata.video_parts import Part, read_part

__all__ = ["matroska_parts"]

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_SEEK_HEAD, _INFO, _TRACKS, _CLUSTER, _CUES = 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1C53BB6B
_CHAPTERS, _TAGS = 0x1043A770, 0x1254C367
_VOID, _CHECKSUM = 0xEC, 0xBF
_TRACK, _TRACK_TYPE = 0xAE, 0x83
_TAG, _TARGETS, _SIMPLE_TAG = 0x7373, 0x63C0, 0x67C8
_TAG_NAME, _TAG_STRING, _TAG_BINARY = 0x45A3, 0x4487, 0x4485

# Seen, and heard. Others are subtitles, buttons, measurements.
_HARMLESS_TRACKS = (1, 2)
# In a cluster: its time, blocks, and what only helps to find the way.
_IN_CLUSTERS = frozenset({0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0x5854, _CHECKSUM, _VOID})

# The names of tags that say no place; what people wrote is shown as it is, also of photos.
_HARMLESS_TAGS = frozenset(
    {
        *(b"TITLE", b"SUBTITLE", b"ARTIST", b"COMMENT", b"DESCRIPTION", b"SYNOPSIS", b"SUMMARY", b"KEYWORDS"),
        *(b"ENCODER", b"ENCODER_SETTINGS", b"DURATION", b"COPYRIGHT", b"LANGUAGE", b"HANDLER_NAME"),
        *(b"DATE", b"DATE_RECORDED", b"DATE_RELEASED", b"DATE_TAGGED", b"DATE_DIGITIZED", b"CREATION_TIME"),
        *(b"MAJOR_BRAND", b"MINOR_VERSION", b"COMPATIBLE_BRANDS", b"VENDOR_ID", b"MAKE", b"MODEL"),
        *(b"BPS", b"NUMBER_OF_FRAMES", b"NUMBER_OF_BYTES"),
        *(b"_STATISTICS_WRITING_APP", b"_STATISTICS_WRITING_DATE_UTC", b"_STATISTICS_TAGS"),
    }
)

# A film of hours that was written live has some hundred thousand blocks.
_MOST_ELEMENTS = 1 << 21
# The id of an element has up to 4 bytes, its size up to 8.
_HEAD = 12

# The id of an element, where its body is, and where that ends; None where only what comes next says that.
Element = tuple[int, int, int | None]


def matroska_parts(descriptor: int, size: int) -> Iterator[Part]:
    """What of an open file is to be looked at, and what is to be blanked.

    Raises ValueError where something else in it may tell something.
    """
    for element, start, end in _elements(descriptor, 0, size):
        if element == _EBML:
            yield Part(start, _known(end))
        elif element == _SEGMENT:
            yield from _segment(descriptor, start, size if end is None else end)
        elif element == _VOID:
            yield Part(start, _known(end), needed=False)
        else:
            raise ValueError("something hangs on behind it")


def _segment(descriptor: int, start: int, limit: int) -> Iterator[Part]:
    for element, at, end in _elements(descriptor, start, limit):
        if element in (_CLUSTER, _SEEK_HEAD, _CUES, _CHECKSUM):
            continue
        if element == _VOID:
            yield Part(at, _known(end), needed=False)
            continue
        if element not in (_INFO, _TRACKS, _CHAPTERS, _TAGS):
            raise ValueError("it has attachments, or what is not known")
        yield Part(at, _known(end))
        content = read_part(descriptor, at, _known(end))
        if element == _TRACKS:
            _check_tracks(content)
        elif element == _TAGS:
            yield from (Part(at + first, at + last, needed=False) for first, last in _tag_values(content))


def _check_tracks(content: bytes) -> None:
    for element, start, end in _children(content, 0, len(content)):
        if element == _TRACK:
            kinds = [
                int.from_bytes(content[at:stop])
                for inner, at, stop in _children(content, start, end)
                if inner == _TRACK_TYPE
            ]
            if len(kinds) != 1 or kinds[0] not in _HARMLESS_TRACKS:
                raise ValueError("it has a track that is neither seen nor heard")
        elif element not in (_CHECKSUM, _VOID):
            raise ValueError("its tracks cannot be read")


def _tag_values(content: bytes) -> Iterator[tuple[int, int]]:
    """Where the values stand of tags but those that say no place."""
    for element, start, end in _children(content, 0, len(content)):
        if element == _TAG:
            for inner, at, stop in _children(content, start, end):
                if inner == _SIMPLE_TAG:
                    yield from _simple_tag(content, at, stop)
                elif inner != _TARGETS:
                    yield at, stop
        elif element != _CHECKSUM:
            yield start, end


def _simple_tag(content: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    children = list(_children(content, start, end))
    names = [content[at:stop].rstrip(b"\0").upper() for element, at, stop in children if element == _TAG_NAME]
    harmless = len(names) == 1 and names[0] in _HARMLESS_TAGS
    for element, at, stop in children:
        if element == _TAG_BINARY or (element == _TAG_STRING and not harmless):
            yield at, stop
        elif element == _SIMPLE_TAG:
            # What a tag in a tag says of it may be anything.
            yield at, stop


def _known(end: int | None) -> int:
    if end is None:
        raise ValueError("an element has no end")
    return end


def _elements(descriptor: int, start: int, limit: int) -> Iterator[Element]:
    """The elements of one level, between ``start`` and ``limit``.

    Of a cluster that has no end, as in what was sent while it was filmed, room is an element of this level.
    """
    in_cluster = False
    for _ in range(_MOST_ELEMENTS):
        if start >= limit:
            return
        element, at, end = _element(os.pread(descriptor, _HEAD, start), start)
        if in_cluster and element in _IN_CLUSTERS:
            start = _known(end)
            if element == _VOID:
                yield element, at, min(start, limit)
            continue
        in_cluster = element == _CLUSTER and end is None
        if in_cluster:
            start = at
            continue
        end = None if end is None else min(end, limit)
        yield element, at, end
        start = limit if end is None else end
    raise ValueError("it has too many elements")


def _children(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    while start < end:
        element, at, stop = _element(content[start : start + _HEAD], start)
        if stop is None or stop > end:
            raise ValueError("an element is longer than what it is in")
        yield element, at, stop
        start = stop


def _element(head: bytes, start: int) -> Element:
    id_bytes = _width(head, 0, 4)
    size_bytes = _width(head, id_bytes, 8)
    body = id_bytes + size_bytes
    if len(head) < body:
        raise ValueError("it ends within an element")
    value = int.from_bytes(head[id_bytes:body]) & ((1 << 7 * size_bytes) - 1)
    unknown = value == (1 << 7 * size_bytes) - 1
    at = start + body
    return int.from_bytes(head[:id_bytes]), at, None if unknown else at + value


def _width(head: bytes, at: int, most: int) -> int:
    """How many bytes a number has, which the zeros say that it begins with."""
    width = 9 - head[at].bit_length() if at < len(head) else 9
    if width > most:
        raise ValueError("it has what is no element")
    return width
