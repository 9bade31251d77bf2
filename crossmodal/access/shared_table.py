"""A small table in memory that all serving processes share."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["SharedState", "SharedTable"]

# The places that a record may lie at; where all are taken, the one that ends first makes room.
_WAYS = 8

_DIGEST_BYTES = 16
_SHA256_BYTES = 32
_SLOTS = 4096

_HEAD = struct.Struct(f"={_DIGEST_BYTES}sd")


class SharedTable:
    """Records of ``payload`` bytes by name, each until a time of ``time.monotonic``; at most ``slots``.

    Processes that are forked off after it was made share it: what one of them writes, the others read, and
    it outlives each of them. Names are stored as hashes. Not for several threads.
    """

    def __init__(self, slots: int, payload: int = 0) -> None:
        self._groups = max(1, slots // _WAYS)
        self._record = struct.Struct(f"={_DIGEST_BYTES}sd{payload}s")
        self._memory = mmap.mmap(-1, self._groups * _WAYS * self._record.size)
        # A lock of the kernel's: it ends with the process that holds it, however that ends.
        self._lock = os.memfd_create("crossmodal-table")

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            os.close(self._lock)

    def get(self, name: str) -> tuple[float, bytes] | None:
        """Until when the record holds, and its payload; None where there is none, or its time is over."""
        digest = _digest(name)
        with self._locked():
            place = self._place(digest)
            if place is None:
                return None
            _, until, payload = self._record.unpack_from(self._memory, place)
        return None if until < time.monotonic() else (until, payload)

    def put(self, name: str, until: float, payload: bytes = b"") -> None:
        """Writes the record of that name, whatever it held before."""
        digest = _digest(name)
        with self._locked():
            place = self._place(digest)
            if place is None:
                place = min(self._places(digest), key=lambda p: float(_HEAD.unpack_from(self._memory, p)[1]))
            self._record.pack_into(self._memory, place, digest, until, payload)

    def remove(self, name: str) -> None:
        """Removes the record of that name, where there is one."""
        digest = _digest(name)
        with self._locked():
            if (place := self._place(digest)) is not None:
                self._memory[place : place + self._record.size] = bytes(self._record.size)

    def _places(self, digest: bytes) -> range:
        size = self._record.size
        first = int.from_bytes(digest[:8]) % self._groups * _WAYS * size
        return range(first, first + _WAYS * size, size)

    def _place(self, digest: bytes) -> int | None:
        for place in self._places(digest):
            if self._memory[place : place + _DIGEST_BYTES] == digest:
                return place
        return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)


@dataclass(frozen=True, slots=True)
class SharedState:
    """What all serving processes of a server know together; make it before they are forked off.

    ``sessions`` holds of each session the SHA-256 of its key, ``rates`` how often each caller came.
    """

    sessions: SharedTable = field(default_factory=lambda: SharedTable(_SLOTS, _SHA256_BYTES))
    rates: SharedTable = field(default_factory=lambda: SharedTable(_SLOTS))


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
