"""An array that grows at its end while others go on reading what it held before."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["GrowingArray"]


class GrowingArray:
    """Rows of ``dtype`` (single values, or ``width`` of them each), appended at the end.

    An array that was given out never changes: rows are only written behind it, or into a new buffer.
    """

    def __init__(self, dtype: DTypeLike, width: int | None = None) -> None:
        self._buffer: NDArray[Any] = np.empty((0,) if width is None else (0, width), dtype)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def array(self) -> NDArray[Any]:
        """All rows, without a copy."""
        return self._buffer[: self._length]

    def reserve(self, length: int) -> None:
        """Make room for ``length`` rows at once; growing step by step would copy them again and again."""
        if length > len(self._buffer):
            buffer = np.empty((length, *self._buffer.shape[1:]), self._buffer.dtype)
            buffer[: self._length] = self.array
            self._buffer = buffer

    def extend(self, rows: NDArray[Any]) -> None:
        """Append ``rows``."""
        needed = self._length + len(rows)
        if needed > len(self._buffer):
            self.reserve(max(needed, 3 * len(self._buffer) // 2))
        self._buffer[self._length : needed] = rows
        self._length = needed

    def truncate(self, length: int) -> None:
        """Forget the rows from ``length`` on, none of which may have been given out."""
        self._length = min(length, self._length)
