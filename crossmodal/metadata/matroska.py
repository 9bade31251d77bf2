"""The parts of a Matroska or WebM file that may tell something: RFC 9559, written as RFC 8794 says."""

from __future__ import annotations

from collections.abc import Iterator

from crossmodal.metadata.video_parts import OpenVideo, Part

__all__ = ["matroska_parts"]

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_SEEK_HEAD, _INFO, _TRACKS, _CLUSTER, _CUES = 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1C53BB6B
_CHAPTERS, _TAGS = 0x1043A770, 0x1254C367
_VOID, _CHECKSUM = 0xEC, 0xBF
_TRACK, _TRACK_TYPE = 0xAE, 0x83
_TAG, _TARGETS, _SIMPLE_TAG = 0x7373, 0x63C0, 0x67C8
_TAG_NAME, _TAG_STRING = 0x45A3, 0x4487
# Its language, in two ways, and whether it is the default one.
_OF_TAGS = frozenset({_TAG_NAME, _TAG_STRING, 0x447A, 0x447B, 0x4484})

# Seen, and heard. Others are subtitles, buttons, measurements.
_HARMLESS_TRACKS = (1, 2)

# In a cluster: a frame, several with what belongs to them, and tracks that are silent.
_SIMPLE_BLOCK, _ENCRYPTED_BLOCK, _BLOCK_GROUP, _SILENT = 0xA3, 0xAF, 0xA0, 0x5854
_BLOCK = 0xA1
_ADDITIONS, _ADDITION, _ADDITION_ID, _ADDITIONAL = 0x75A1, 0xA6, 0xEE, 0xA5
# What a codec adds to a frame, as the transparency of VP8; other kinds are measurements.
_OF_THE_CODEC = 1

# What consists of numbers, by what it is in: the tables of where what is, and the beginnings of frames.
_NUMBERS: dict[int, frozenset[int]] = {
    _SEEK_HEAD: frozenset({0x4DBB}),
    0x4DBB: frozenset({0x53AB, 0x53AC}),
    _CUES: frozenset({0xBB}),
    0xBB: frozenset({0xB3, 0xB7}),
    0xB7: frozenset({0xF7, 0xF1, 0xF0, 0xB2, 0x5378, 0xEA, 0xDB}),
    0xDB: frozenset({0x96, 0x97, 0x535F, 0xEB}),
    _CLUSTER: frozenset({0xE7, 0xA7, 0xAB, _SILENT}),
    _SILENT: frozenset({0x58D7}),
    _BLOCK_GROUP: frozenset({0x9B, 0xFA, 0xFB, 0x75A2}),
}
_LONGEST_NUMBER = 8
_IN_CLUSTERS = frozenset({_SIMPLE_BLOCK, _ENCRYPTED_BLOCK, _BLOCK_GROUP, _CHECKSUM, *_NUMBERS[_CLUSTER]})

# What consists of others in the tables that are looked at: of tracks, of chapters.
_AROUND = frozenset(
    {
        *(_TRACK, 0xE0, 0xE1, 0x55B0, 0x55D0, 0x7670, 0x41E4, 0x6624, 0xE2, 0xE3, 0xE9),
        *(0x6D80, 0x6240, 0x5034, 0x5035, 0x45B9, 0xB6, 0x80, 0x8F, 0x6944, 0x6911, 0x6924),
    }
)
_MOST_LEVELS = 8

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

# The id of an element has up to 4 bytes, its size up to 8.
_HEAD = 12

# The id of an element, where its body is, and where that ends.
Element = tuple[int, int, int]


def matroska_parts(file: OpenVideo) -> Iterator[Part]:
    """What of an open file is to be looked at, and what is to be blanked.

    Raises ValueError where something else in it may tell something.
    """
    for element, start, end in _elements(file, 0, file.size):
        if element == _SEGMENT:
            yield from _segment(file, start, end)
        elif element == _VOID:
            yield Part(start, end, needed=False)
        elif element == _EBML:
            yield from _looked_at(file, start, end)
        else:
            raise ValueError("something hangs on behind it")


def _segment(file: OpenVideo, start: int, limit: int) -> Iterator[Part]:
    live = False
    for element, at, end in _elements(file, start, limit):
        if element == _VOID:
            yield Part(at, end, needed=False)
        elif element == _CLUSTER:
            # Of one that has no end, as in what was sent while it was filmed, the elements are of this level.
            live = at == end
            yield from _frames(file, at, end)
        elif live and element in _IN_CLUSTERS:
            yield from _frame(file, element, at, end)
        else:
            live = False
            yield from _table(file, element, at, end)


def _frames(file: OpenVideo, start: int, limit: int) -> Iterator[Part]:
    for element, at, end in _elements(file, start, limit):
        if element != _SIMPLE_BLOCK:
            yield from _frame(file, element, at, end)


def _frame(file: OpenVideo, element: int, start: int, end: int) -> Iterator[Part]:
    """What is to be blanked of an element of a cluster."""
    if element == _VOID:
        yield Part(start, end, needed=False)
    elif element == _BLOCK_GROUP:
        for inner, at, stop in _elements(file, start, end):
            if inner == _ADDITIONS:
                yield from _parts(_room_in_additions(file.read(at, stop)), at)
            elif inner != _BLOCK:
                yield from _number(file, _BLOCK_GROUP, inner, at, stop)
    elif element not in (_SIMPLE_BLOCK, _ENCRYPTED_BLOCK):
        yield from _number(file, _CLUSTER, element, start, end)


def _number(file: OpenVideo, around: int, element: int, start: int, end: int) -> Iterator[Part]:
    if element == _VOID:
        yield Part(start, end, needed=False)
    elif element in _NUMBERS and element in _NUMBERS[around]:
        yield from _parts(_room_in_numbers(file.read(start, end), element), start)
    else:
        _check_number(around, element, end - start)


def _table(file: OpenVideo, element: int, start: int, end: int) -> Iterator[Part]:
    """What is to be looked at and blanked of what stands beside clusters."""
    if element == _CHECKSUM:
        _check_number(element, element, end - start)
        return
    if element in (_SEEK_HEAD, _CUES):
        yield from _parts(_room_in_numbers(file.read(start, end), element), start)
        return
    if element not in (_INFO, _TRACKS, _CHAPTERS, _TAGS):
        raise ValueError("it has attachments, or what is not known")
    if element == _TAGS:
        yield Part(start, end)
        yield from _parts(_tag_values(file.read(start, end)), start)
        return
    if element == _TRACKS:
        _check_tracks(file.read(start, end))
    yield from _looked_at(file, start, end)


def _looked_at(file: OpenVideo, start: int, end: int) -> Iterator[Part]:
    yield Part(start, end)
    content = file.read(start, end)
    yield from _parts(_rooms(content, 0, len(content), _MOST_LEVELS), start)


def _parts(places: Iterator[tuple[int, int]], start: int) -> Iterator[Part]:
    """What is to be blanked at these places of a part of the file that begins at ``start``."""
    return (Part(start + first, start + last, needed=False) for first, last in places)


def _room_in_numbers(content: bytes, around: int) -> Iterator[tuple[int, int]]:
    """Where there is room in a table of numbers; raises ValueError where it holds anything else."""
    for element, start, end in _children(content, 0, len(content)):
        if element == _VOID:
            yield start, end
        elif element in _NUMBERS and element in _NUMBERS[around]:
            for first, last in _room_in_numbers(content[start:end], element):
                yield start + first, start + last
        else:
            _check_number(around, element, end - start)


def _check_number(around: int, element: int, length: int) -> None:
    if element == _CHECKSUM:
        known = length <= 4
    else:
        known = element in _NUMBERS.get(around, ()) and length <= _LONGEST_NUMBER
    if not known:
        raise ValueError("it has what is not known among its frames, or where it says where they are")


def _room_in_additions(content: bytes) -> Iterator[tuple[int, int]]:
    for element, start, end in _children(content, 0, len(content)):
        if element == _VOID:
            yield start, end
        elif element != _ADDITION:
            raise ValueError("it has what is not known beside a frame")
        else:
            for inner, at, stop in _children(content, start, end):
                if inner == _VOID:
                    yield at, stop
                elif inner != _ADDITIONAL and (
                    inner != _ADDITION_ID or int.from_bytes(content[at:stop]) != _OF_THE_CODEC
                ):
                    raise ValueError("it has measurements beside a frame")


def _rooms(content: bytes, start: int, end: int, levels: int) -> Iterator[tuple[int, int]]:
    """Where there is room in a table that is looked at besides."""
    for element, at, stop in _children(content, start, end) if levels else ():
        if element == _VOID:
            yield at, stop
        elif element in _AROUND:
            yield from _rooms(content, at, stop, levels - 1)


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
                elif inner == _TARGETS:
                    yield from _rooms(content, at, stop, _MOST_LEVELS)
                else:
                    yield at, stop
        elif element != _CHECKSUM:
            yield start, end


def _simple_tag(content: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    children = list(_children(content, start, end))
    names = [content[at:stop].rstrip(b"\0").upper() for element, at, stop in children if element == _TAG_NAME]
    harmless = len(names) == 1 and names[0] in _HARMLESS_TAGS
    for element, at, stop in children:
        # What a tag in a tag says of it may be anything.
        if element not in _OF_TAGS or (element == _TAG_STRING and not harmless):
            yield at, stop


def _elements(file: OpenVideo, start: int, limit: int) -> Iterator[Element]:
    """The elements of one level, between ``start`` and ``limit``.

    A cluster without an end is empty here, and what is in it comes behind it.
    """
    while start < limit:
        element, at, end = _element(file.head(start, _HEAD), start)
        if end is None:
            if element not in (_SEGMENT, _CLUSTER):
                raise ValueError("an element has no end")
            end = limit if element == _SEGMENT else at
        end = min(end, limit)
        if at > end:
            raise ValueError("it ends within an element")
        yield element, at, end
        start = end


def _children(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    while start < end:
        element, at, stop = _element(content[start : start + _HEAD], start)
        if stop is None or stop > end:
            raise ValueError("an element is longer than what it is in")
        yield element, at, stop
        start = stop


def _element(head: bytes, start: int) -> tuple[int, int, int | None]:
    """An element by its first bytes, which begin at ``start``; without an end where what follows says it."""
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
