"""A part of the file of a video, as what reads its container tells it."""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["Part", "read_part"]

# What tells of a film is short: the table of the frames of hours is the longest.
_MOST_BYTES = 64 << 20


class Part(NamedTuple):
    """From ``start`` up to ``end`` in a file. What is not ``needed`` to play it may be blanked unseen."""

    start: int
    end: int
    needed: bool = True


def read_part(descriptor: int, start: int, end: int) -> bytes:
    """The bytes of a part of an open file; raises ValueError where they are many, or are not there."""
    if end - start > _MOST_BYTES:
        raise ValueError("a part of it is too long")
    content = os.pread(descriptor, end - start, start)
    if len(content) < end - start:
        raise ValueError("it became shorter")
    return content
