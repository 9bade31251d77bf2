"""The file of a video as what reads its container sees it, and the parts of it that this tells."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from crossmodal.errors import ServiceError

__all__ = ["OpenVideo", "Part"]

# What tells of a film is short: the table of the frames of hours is the longest.
_MOST_BYTES = 64 << 20

# A film of hours has some hundred thousand blocks, or a few millions with many sounds.
_MOST_HEADS = 1 << 23
# Between two looks whether anybody still waits.
_HEADS_A_LOOK = 1 << 10


class Part(NamedTuple):
    """From ``start`` up to ``end`` in a file. What is not ``needed`` to play it may be blanked unseen."""

    start: int
    end: int
    needed: bool = True


class OpenVideo:
    """An open file of ``size`` bytes; ``is_given_up`` says whether nobody waits for what is in it."""

    def __init__(self, descriptor: int, size: int, is_given_up: Callable[[], bool] = lambda: False) -> None:
        self._descriptor = descriptor
        self.size = size
        self._is_given_up = is_given_up
        self._heads = 0

    def head(self, start: int, length: int) -> bytes:
        """The first of at most ``length`` bytes from ``start`` on, by which an element is known.

        Raises ValueError where too many were asked for, and ServiceError where nobody waits any more.
        """
        self._heads += 1
        if self._heads > _MOST_HEADS:
            raise ValueError("it has too many elements")
        if not self._heads % _HEADS_A_LOOK and self._is_given_up():
            raise ServiceError("Looking through a video was given up, because the index was closed.")
        return os.pread(self._descriptor, length, start)

    def read(self, start: int, end: int) -> bytes:
        """The bytes of a part; raises ValueError where they are many, or are not there."""
        if not 0 <= end - start <= _MOST_BYTES:
            raise ValueError("a part of it is too long, or ends before it begins")
        content = os.pread(self._descriptor, end - start, start)
        if len(content) < end - start:
            raise ValueError("it became shorter")
        return content
