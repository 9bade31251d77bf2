"""Arrays on disk, each found by the digest of what it was made from."""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ContentStore"]

_DIGEST_BYTES = 32


class ContentStore:
    """Rows of one shape and type, appended to one file and never changed; readers map it into memory.

    A second file holds each row's digest (32 bytes). Rows are on disk before their digests, so that whatever
    ends the process, a digest stands for a whole row; several processes may append at the same time.
    """

    def __init__(self, path: Path, shape: Sequence[int], dtype: npt.DTypeLike) -> None:
        """The store in ``path.rows`` and ``path.keys``; its folder is made. Whoever chooses ``path`` names in
        it all that rows depend on beside their digest."""
        self._rows_path, self._keys_path = (
            path.with_name(f"{path.name}.rows"),
            path.with_name(f"{path.name}.keys"),
        )
        self._shape = tuple(shape)
        self._dtype = np.dtype(dtype)
        self._bytes_a_row = math.prod(self._shape) * self._dtype.itemsize
        self._numbers: dict[bytes, int] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rows_path.touch()
        self._keys_path.touch()
        self._read_keys()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def numbers(self, digests: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """The rows of ``rows`` that belong to these digests. Raises KeyError for one that isn't there."""
        return np.array([self._numbers[digest] for digest in digests], np.int64)

    def rows(self) -> npt.NDArray[Any]:
        """All rows (N, *shape) on disk now, read-only; memory is used only for those looked at."""
        count = min(self._rows_path.stat().st_size // self._bytes_a_row, len(self._numbers))
        if count == 0:
            return np.empty((0, *self._shape), self._dtype)
        return np.memmap(self._rows_path, self._dtype, "r", shape=(count, *self._shape))

    def add(self, digests: Sequence[bytes], rows: npt.NDArray[Any]) -> None:
        """Append one row for each digest, (N, *shape); those that another process has stored meanwhile are
        left out."""
        with self._keys_path.open("r+b") as keys, self._rows_path.open("r+b") as data:
            fcntl.flock(keys, fcntl.LOCK_EX)
            whole = self._read_keys()
            keys.truncate(whole * _DIGEST_BYTES)
            data.truncate(whole * self._bytes_a_row)
            new = [number for number, digest in enumerate(digests) if digest not in self._numbers]
            # A digest may be given twice.
            new = list({digests[number]: number for number in new}.values())
            data.seek(0, os.SEEK_END)
            data.write(np.ascontiguousarray(rows[new], self._dtype).tobytes())
            data.flush()
            os.fsync(data.fileno())
            keys.seek(0, os.SEEK_END)
            keys.write(b"".join(digests[number] for number in new))
        for number, position in enumerate(new, start=whole):
            self._numbers[digests[position]] = number

    def _read_keys(self) -> int:
        """Learn the digests on disk; returns how many rows are whole."""
        keys = self._keys_path.read_bytes()
        whole = min(len(keys) // _DIGEST_BYTES, self._rows_path.stat().st_size // self._bytes_a_row)
        for number in range(len(self._numbers), whole):
            self._numbers[keys[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES]] = number
        return whole
