"""Vectors on disk: blocks of consecutive rows, each one value in LMDB.

A block is a header, the row numbers, the ids as a JSON list padded with blanks, and the matrix, which
starts at a multiple of 16 bytes; rows that were replaced may be missing from the middle. All numbers
are little-endian.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import StoreFormat
from crossmodal.stores.checksum import checksum

__all__ = ["VectorBlock", "block_length", "decode_block", "encode_block", "join_blocks"]

# A checksum of all that follows it; then the number of rows, the dimension and the bytes of the ids.
_CHECKSUM = struct.Struct("<Q")
_COUNTS = struct.Struct("<III4x")
_ROWS_START = _CHECKSUM.size + _COUNTS.size
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


def encode_block(block: VectorBlock) -> bytearray:
    """The value that LMDB keeps for ``block``."""
    ids = json.dumps(list(block.ids), separators=(",", ":")).encode()
    count, dimension = block.vectors.shape
    ids_start = _ROWS_START + 8 * count
    ids += b" " * (-(ids_start + len(ids)) % _ALIGNMENT)
    vectors_start = ids_start + len(ids)
    value = bytearray(vectors_start + 4 * count * dimension)
    _COUNTS.pack_into(value, _CHECKSUM.size, count, dimension, len(ids))
    np.frombuffer(value, "<u8", count, _ROWS_START)[:] = block.rows
    value[ids_start:vectors_start] = ids
    np.frombuffer(value, "<f4", count * dimension, vectors_start)[:] = block.vectors.reshape(-1)
    _CHECKSUM.pack_into(value, 0, checksum(memoryview(value)[_CHECKSUM.size :]))
    return value


def block_length(value: bytes | memoryview) -> int:
    """The number of rows in an encoded block, without decoding it."""
    return int(_COUNTS.unpack_from(value, _CHECKSUM.size)[0])


def decode_block(value: bytes | memoryview) -> VectorBlock:
    """The block in ``value``; its arrays are views of it. Raises ``StoreFormat`` if it is damaged."""
    try:
        count, dimension, ids_length = _COUNTS.unpack_from(value, _CHECKSUM.size)
    except struct.error as error:
        raise StoreFormat(f"a block of vectors has only {len(value)} bytes") from error
    ids_start = _ROWS_START + 8 * count
    vectors_start = ids_start + ids_length
    length = vectors_start + 4 * count * dimension
    if len(value) != length or _CHECKSUM.unpack_from(value) != (checksum(value[_CHECKSUM.size :]),):
        raise StoreFormat(f"a block of {len(value):,} bytes of vectors does not match its checksum")
    rows = np.frombuffer(value, "<u8", count, _ROWS_START)
    vectors = np.frombuffer(value, "<f4", count * dimension, vectors_start).reshape(count, dimension)
    return VectorBlock(rows, json.loads(str(value[ids_start:vectors_start], "ascii")), vectors)
