"""The few numbers that every transaction of a store changes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from crossmodal.errors import StoreFormat

__all__ = ["State"]

_LAYOUT = struct.Struct("<QQQQQQd")


@dataclass(frozen=True, slots=True)
class State:
    """What a store counts.

    ``sequence`` grows by one with each commit that changes something; ``next_row`` is the number that the
    next vector gets and ``next_number`` that of the next new document, neither used twice; the log of
    dead rows is complete for sequences above ``deaths_pruned``; ``last_change`` is in seconds since 1970, 0
    for never.
    """

    sequence: int = 0
    documents: int = 0
    vectors: int = 0
    next_row: int = 0
    next_number: int = 0
    deaths_pruned: int = 0
    last_change: float = 0.0

    def to_bytes(self) -> bytes:
        """The value in LMDB, 56 bytes."""
        return _LAYOUT.pack(
            self.sequence,
            self.documents,
            self.vectors,
            self.next_row,
            self.next_number,
            self.deaths_pruned,
            self.last_change,
        )

    @classmethod
    def from_bytes(cls, value: bytes | memoryview) -> State:
        """The reverse of ``to_bytes``; raises ``StoreFormat`` if ``value`` has another length."""
        try:
            return cls(*_LAYOUT.unpack(value))
        except struct.error as error:
            raise StoreFormat(f"its counters have {len(value)} bytes instead of {_LAYOUT.size}") from error
