"""Live Photos: a photo and a short video of one name, which are one picture. Reading them needs no PyAV."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["LONGEST_SECONDS", "is_live_photo", "may_be_live", "stem_of"]

# What a telephone records around a photo is about 3 seconds.
LONGEST_SECONDS = 4.0

_PHOTOS = (".heic", ".heif", ".jpg", ".jpeg")
_VIDEOS = (".mov", ".mp4")

# What Apple gives the photo and the video of a pair, and no other video (QuickTime File Format, "Metadata").
_IDENTIFIER = b"com.apple.quicktime.content.identifier"

# The index of a video of some seconds has some KB; boxes of one level.
_MOST_INDEX_BYTES = 8 << 20
_MOST_BOXES = 256


def stem_of(name: str) -> str:
    """A file's name without its extension, which is the same for both files of a Live Photo."""
    return os.path.splitext(name)[0].lower()  # noqa: PTH122  (bare speed)


def may_be_live(name: str) -> bool:
    """Whether a file may be the photo of a Live Photo, by its extension."""
    return name.lower().endswith(_PHOTOS)


def is_live_photo(path: str) -> bool:
    """Whether the video at ``path``, beside a photo of its name, is part of it: short, or marked as such."""
    if not path.lower().endswith(_VIDEOS):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return False
            index = _index_of(file)
    except (OSError, ValueError):
        return False
    return _IDENTIFIER in index or 0 < _seconds(index) <= LONGEST_SECONDS


def _index_of(file: BinaryIO) -> bytes:
    """The box ``moov`` (ISO 14496-12, 8.2.1), empty where there is none of a usual size."""
    end = os.fstat(file.fileno()).st_size
    at = 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            break
        length, kind = struct.unpack_from(">I4s", head)
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
        if kind == b"moov" and length <= _MOST_INDEX_BYTES:
            file.seek(at)
            return file.read(length)
        if length < 8 or at + length >= end:
            break
        at += length
    return b""


def _seconds(index: bytes) -> float:
    """The duration that ``mvhd`` says (ISO 14496-12, 8.2.2), 0 where it says none."""
    for kind, body in _boxes(index):
        if kind != b"mvhd" or len(body) < 20:
            continue
        if body[0] == 1 and len(body) >= 32:
            scale, duration = struct.unpack_from(">IQ", body, 20)
        else:
            scale, duration = struct.unpack_from(">II", body, 12)
        return duration / scale if scale else 0.0
    return 0.0


def _boxes(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """What is directly in ``moov``: the kind of each box and its body."""
    at = 8
    for _ in range(_MOST_BOXES):
        if at + 8 > len(index):
            return
        length, kind = struct.unpack_from(">I4s", index, at)
        if length < 8:
            return
        yield kind, index[at + 8 : at + length]
        at += length
