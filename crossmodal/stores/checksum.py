"""The one checksum of everything that a store keeps."""

from __future__ import annotations

import xxhash

__all__ = ["checksum"]


def checksum(data: bytes | bytearray | memoryview) -> int:
    """The XXH3-64 of ``data``, 0 to 2**64 - 1: against accidents, not against people."""
    return xxhash.xxh3_64_intdigest(data)
