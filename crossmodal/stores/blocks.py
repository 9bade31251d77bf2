"""Vectors on disk: blocks of consecutive rows, each one value in LMDB.

A block is a header, the row numbers, the ids as a JSON list, and the matrix; rows that were
replaced may be missing from the middle. All numbers are little-endian.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import StoreFormat

__all__ = ["VectorBlock", "block_length", "decode_block", "encode_block", "join_blocks"]

# checksum of all that follows it, number of rows, dimension, bytes of the ids
_HEADER = struct.Struct("<IIII")
_ALIGNMENT = 16


@dataclass(frozen=True, slots=True)
class VectorBlock:
    """Rows of vectors: ``rows`` uint64 (n,) ascending, n ``ids``, ``vectors`` float32 (n, dimension)."""

    rows: NDArray[np.uint64]
    ids: Sequence[str]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, mask: NDArray[np.bool_]) -> VectorBlock:
        """The rows where ``mask`` (n,) is true."""
        return VectorBlock(
            self.rows[mask],
            [id for id, kept in zip(self.ids, mask.tolist(), strict=True) if kept],
            self.vectors[mask],
        )


def join_blocks(blocks: Sequence[VectorBlock]) -> VectorBlock:
    """The rows of all ``blocks``, in their order."""
    return VectorBlock(
        np.concatenate([block.rows for block in blocks]),
        [id for block in blocks for id in block.ids],
        np.concatenate([block.vectors for block in blocks]),
    )


def _padding(length: int) -> int:
    return -length % _ALIGNMENT


def encode_block(block: VectorBlock) -> bytes:
    """The value that LMDB keeps for ``block``."""
    ids = json.dumps(list(block.ids), separators=(",", ":")).encode()
    count, dimension = block.vectors.shape
    ids += b" " * _padding(8 * count + len(ids))
    body = b"".join(
        (
            struct.pack("<III", count, dimension, len(ids)),
            block.rows.astype("<u8", copy=False).tobytes(),
            ids,
            block.vectors.astype("<f4", copy=False).tobytes(),
        )
    )
    return struct.pack("<I", zlib.crc32(body)) + body


def block_length(value: bytes | memoryview) -> int:
    """The number of rows in an encoded block, without decoding it."""
    return int.from_bytes(value[4:8], "little")


def decode_block(value: bytes | memoryview) -> VectorBlock:
    """The block in ``value``; its arrays are views of it. Raises ``StoreFormat`` if it is damaged."""
    try:
        checksum, count, dimension, ids_length = _HEADER.unpack_from(value)
    except struct.error as error:
        raise StoreFormat(f"a block of vectors has only {len(value)} bytes") from error
    ids_start = _HEADER.size + 8 * count
    vectors_start = ids_start + ids_length
    if len(value) != vectors_start + 4 * count * dimension or zlib.crc32(value[4:]) != checksum:
        raise StoreFormat(f"a block of {len(value):,} bytes of vectors does not match its checksum")
    rows = np.frombuffer(value, "<u8", count, _HEADER.size)
    vectors = np.frombuffer(value, "<f4", count * dimension, vectors_start).reshape(count, dimension)
    return VectorBlock(rows, json.loads(bytes(value[ids_start:vectors_start])), vectors)
