"""Keys of the trees inside an environment."""

from __future__ import annotations

import struct

__all__ = ["LONGEST_ID_BYTES", "id_key", "id_of", "pack_number", "unpack_number", "usable_key"]

# LMDB's own limit for a key (MDB_MAXKEYSIZE).
LONGEST_ID_BYTES = 511

_NUMBER = struct.Struct(">Q")  # big-endian, so that keys sort as numbers


def id_key(id: str) -> bytes:
    """The id of a document as a key."""
    return id.encode("utf-8", "surrogatepass")


def id_of(key: bytes | memoryview) -> str:
    """The reverse of ``id_key``."""
    return str(key, "utf-8", "surrogatepass")


def usable_key(id: str) -> bool:
    """Whether LMDB can have ``id`` as a key: 1 to 511 bytes of UTF-8."""
    return 0 < len(id_key(id)) <= LONGEST_ID_BYTES


def pack_number(number: int) -> bytes:
    """The number of a document, a row or a commit as a key."""
    return _NUMBER.pack(number)


def unpack_number(key: bytes | memoryview) -> int:
    """The reverse of ``pack_number``."""
    return int(_NUMBER.unpack(key)[0])
