"""The parts of an AVI file that may tell something (AVI RIFF File Reference, and OpenDML's extensions)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from crossmodal.metadata.video_parts import OpenVideo, Part

__all__ = ["avi_parts"]

# Seen, and heard.
_HARMLESS_STREAMS = (b"vids", b"auds")
# The lists of the head, by those that they are in.
_LISTS = {b"AVI ": (b"hdrl",), b"hdrl": (b"strl", b"odml")}
# Frames and sounds by the number of their stream.
_BLOCK = re.compile(rb"\d\d(?:d[bc]|wb)")
# Where those of one stream are: in a part of the film, and of the whole.
_STREAM_INDEX = re.compile(rb"ix\d\d|\d\dix|indx")
# What helps to decode, a name and a date.
_LOOKED_AT = frozenset({b"avih", b"strh", b"strf", b"strn", b"vprp", b"dmlh", b"IDIT", b"ISMP"})
# Where cameras and programs leave what they like.
_FILLED = frozenset({b"JUNK", b"junk", b"strd"})
# Of the list INFO: program, title, comment, date, artist, copyright, subject, keywords, technician, genre.
_HARMLESS_WORDS = frozenset(
    {b"ISFT", b"INAM", b"ICMT", b"ICRD", b"IART", b"ICOP", b"ISBJ", b"IKEY", b"ITCH", b"IGNR"}
)

# Of an entry of ``idx1``: what it is of, its flags, where that is and how long.
_ENTRY = struct.Struct("<4sIII")
_ENTRY_FLAGS = 0x0FFF0171
# Of the index of a stream: how many times 4 bytes an entry has, how many entries there are, and of what.
_STREAM_INDEX_HEAD = struct.Struct("<HxxI4s12x")

# What a chunk is called, of a list its kind, and from and up to where its body goes.
Chunk = tuple[bytes, bytes, int, int]


def avi_parts(file: OpenVideo) -> Iterator[Part]:
    """What of an open file is to be looked at, and what is to be blanked.

    Raises ValueError where something else in it may tell something.
    """
    for name, kind, start, end in _chunks(file, 0, file.size):
        if name != b"RIFF" or kind not in (b"AVI ", b"AVIX"):
            raise ValueError("something hangs on behind it")
        yield from _film(file, start, end, b"AVI ")


def _film(file: OpenVideo, start: int, end: int, around: bytes) -> Iterator[Part]:
    for name, kind, at, stop in _chunks(file, start, end):
        if name in _FILLED:
            yield Part(at, stop, needed=False)
        elif kind in _LISTS.get(around, ()):
            yield from _film(file, at, stop, kind)
        elif kind == b"INFO":
            for word, _, first, last in _chunks(file, at, stop):
                yield Part(first, last, needed=word in _HARMLESS_WORDS)
        elif kind == b"movi":
            yield from _frames(file, at, stop)
        elif name in _LOOKED_AT:
            if name == b"strh" and file.read(at, min(at + 4, stop)) not in _HARMLESS_STREAMS:
                raise ValueError("it has a stream that is neither seen nor heard")
            yield Part(at, stop)
        elif name == b"indx":
            yield _room_in_index(file, at, stop)
        elif name != b"idx1":
            raise ValueError("it has what is not known")
        elif not _is_index(file.read(at, stop), file.size):
            raise ValueError("its index is none")


def _frames(file: OpenVideo, start: int, end: int, *, together: bool = False) -> Iterator[Part]:
    for name, kind, at, stop in _chunks(file, start, end):
        if _BLOCK.fullmatch(name):
            continue
        if name in _FILLED:
            yield Part(at, stop, needed=False)
        elif kind == b"rec " and not together:
            yield from _frames(file, at, stop, together=True)
        elif _STREAM_INDEX.fullmatch(name):
            yield _room_in_index(file, at, stop)
        else:
            raise ValueError("it has what is not known among its frames")


def _is_index(content: bytes, size: int) -> bool:
    """Whether ``idx1`` says of blocks where they are in a file of ``size`` bytes, and nothing else."""
    if len(content) % _ENTRY.size:
        return False
    return all(
        (_BLOCK.fullmatch(name) or name == b"rec ")
        and not flags & ~_ENTRY_FLAGS
        and at < size
        and length < size
        for name, flags, at, length in _ENTRY.iter_unpack(content)
    )


def _room_in_index(file: OpenVideo, start: int, end: int) -> Part:
    """What is left behind the last entry of the index of a stream; raises ValueError where it is none."""
    head = file.head(start, _STREAM_INDEX_HEAD.size)
    if len(head) < _STREAM_INDEX_HEAD.size:
        raise ValueError("an index ends within its head")
    width, entries, name = _STREAM_INDEX_HEAD.unpack(head)
    used = start + _STREAM_INDEX_HEAD.size + 4 * width * entries
    if width not in (2, 3, 4) or used > end or not _BLOCK.fullmatch(name):
        raise ValueError("the index of a stream is none")
    return Part(used, end, needed=False)


def _chunks(file: OpenVideo, start: int, end: int) -> Iterator[Chunk]:
    while True:
        if end - start < 8:
            if start < end and file.head(start, end - start).strip(b"\0"):
                raise ValueError("it ends within a chunk")
            return
        head = file.head(start, 12)
        if len(head) < 8:
            raise ValueError("it became shorter")
        name, length = struct.unpack_from("<4sI", head)
        is_list = name in (b"RIFF", b"LIST")
        if is_list and (length < 4 or len(head) < 12):
            raise ValueError("it ends within a list")
        stop = start + 8 + length
        yield name, head[8:12] if is_list else b"", start + (12 if is_list else 8), min(stop, end)
        start = stop + length % 2
