"""Many ids in little memory: their bytes in one piece, and where each one ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["IdList", "encode_ids"]


@dataclass(frozen=True, slots=True, eq=False)
class IdList:
    """A list of n ids: ``ends`` uint64 (n,), where each one ends in ``text`` uint8 (bytes,), UTF-8.

    A Python string takes some 50 bytes more than its characters and its place in a list 8.
    """

    ends: NDArray[np.uint64]
    text: NDArray[np.uint8]

    @classmethod
    def of(cls, ids: Sequence[str]) -> IdList:
        """The list of ``ids``."""
        text, lengths = encode_ids(ids)
        return cls(np.cumsum(lengths, dtype=np.uint64), text)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, position: int) -> str:
        if position < 0 or position >= len(self.ends):
            raise IndexError(f"{position} is no position in a list of {len(self.ends)} ids")
        start = int(self.ends[position - 1]) if position else 0
        return self.text[start : int(self.ends[position])].tobytes().decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[position] for position in range(len(self)))

    def take(self, positions: Iterable[int]) -> list[str]:
        """The ids at ``positions``."""
        return [self[position] for position in positions]


def encode_ids(ids: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """The bytes of all ``ids`` in one piece, and the length of each one in bytes: uint64 (n,)."""
    encoded = [id.encode("utf-8", "surrogatepass") for id in ids]
    return np.frombuffer(b"".join(encoded), np.uint8), np.array([len(id) for id in encoded], np.uint64)
