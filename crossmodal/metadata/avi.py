"""The parts of an AVI file that may tell something (AVI RIFF File Reference, and OpenDML's extensions)."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator

from crossmodal.metadata.video_parts import Part, read_part

__all__ = ["avi_parts"]

# Seen, and heard.
_HARMLESS_STREAMS = (b"vids", b"auds")
# The lists of the head, by those that they are in.
_LISTS = {b"AVI ": (b"hdrl",), b"hdrl": (b"strl", b"odml")}
# Frames and sounds by the number of their stream, and where they are.
_BLOCK = re.compile(rb"\d\d(?:d[bc]|wb)|ix\d\d|\d\dix")
# What helps to decode, a name and a date.
_LOOKED_AT = frozenset({b"avih", b"strh", b"strf", b"strn", b"indx", b"vprp", b"dmlh", b"IDIT", b"ISMP"})
# Where cameras and programs leave what they like.
_FILLED = frozenset({b"JUNK", b"junk", b"strd"})
# Of the list INFO: program, title, comment, date, artist, copyright, subject, keywords, technician, genre.
_HARMLESS_WORDS = frozenset(
    {b"ISFT", b"INAM", b"ICMT", b"ICRD", b"IART", b"ICOP", b"ISBJ", b"IKEY", b"ITCH", b"IGNR"}
)

_MOST_CHUNKS = 1 << 21

# What a chunk is called, of a list its kind, and from and up to where its body goes.
Chunk = tuple[bytes, bytes, int, int]


def avi_parts(descriptor: int, size: int) -> Iterator[Part]:
    """What of an open file is to be looked at, and what is to be blanked.

    Raises ValueError where something else in it may tell something.
    """
    for name, kind, start, end in _chunks(descriptor, 0, size):
        if name != b"RIFF" or kind not in (b"AVI ", b"AVIX"):
            raise ValueError("something hangs on behind it")
        yield from _film(descriptor, start, end, b"AVI ")


def _film(descriptor: int, start: int, end: int, around: bytes) -> Iterator[Part]:
    for name, kind, at, stop in _chunks(descriptor, start, end):
        if name in _FILLED:
            yield Part(at, stop, needed=False)
        elif kind in _LISTS.get(around, ()):
            yield from _film(descriptor, at, stop, kind)
        elif kind == b"INFO":
            for word, _, first, last in _chunks(descriptor, at, stop):
                yield Part(first, last, needed=word in _HARMLESS_WORDS)
        elif kind == b"movi":
            yield from _frames(descriptor, at, stop)
        elif name in _LOOKED_AT:
            if name == b"strh" and read_part(descriptor, at, min(at + 4, stop)) not in _HARMLESS_STREAMS:
                raise ValueError("it has a stream that is neither seen nor heard")
            yield Part(at, stop)
        elif name != b"idx1":
            raise ValueError("it has what is not known")


def _frames(descriptor: int, start: int, end: int) -> Iterator[Part]:
    for name, kind, at, stop in _chunks(descriptor, start, end):
        if name in _FILLED:
            yield Part(at, stop, needed=False)
        elif kind == b"rec ":
            if not all(_BLOCK.fullmatch(block) for block, *_ in _chunks(descriptor, at, stop)):
                raise ValueError("it has what is not known among its frames")
        elif not _BLOCK.fullmatch(name):
            raise ValueError("it has what is not known among its frames")


def _chunks(descriptor: int, start: int, end: int) -> Iterator[Chunk]:
    for _ in range(_MOST_CHUNKS):
        if end - start < 8:
            if start < end and os.pread(descriptor, end - start, start).strip(b"\0"):
                raise ValueError("it ends within a chunk")
            return
        head = os.pread(descriptor, 12, start)
        if len(head) < 8:
            raise ValueError("it became shorter")
        name, length = struct.unpack_from("<4sI", head)
        is_list = name in (b"RIFF", b"LIST")
        if is_list and (length < 4 or len(head) < 12):
            raise ValueError("it ends within a list")
        stop = start + 8 + length
        yield name, head[8:12] if is_list else b"", start + (12 if is_list else 8), min(stop, end)
        start = stop + length % 2
    raise ValueError("it has too many chunks")
