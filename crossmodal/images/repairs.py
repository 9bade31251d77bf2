"""Files that are damaged or cut off, made into files that decode as far as they go."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["LEAST_SHARE", "MISSING_COLOUR", "Repaired", "repaired_jpeg", "repaired_png"]

# Of a file with less than this the picture is gone; it is a failure and not half a photo.
LEAST_SHARE = 0.5

# What libjpeg makes of blocks that it has no data of.
MISSING_COLOUR = 128

_END_OF_JPEG = b"\xff\xd9"

# What changes how the pixels look; everything else of a PNG is left out.
_PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"eXIf")
_PNG_SIGNATURE_BYTES = 8
_PIECE_BYTES = 1 << 16
# Small, as what is left of it is copied each time.
_READ_BYTES = 1 << 12

# Of each of the seven passes of Adam7 the first column and row, and the steps (PNG, third edition, 8.1).
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@dataclass(frozen=True, slots=True)
class Repaired:
    """A file that decodes: ``share`` is how much of the picture it has, None where only decoding tells.

    ``from_top`` says that what is missing are the last rows, and not some pixels everywhere.
    """

    blob: bytes
    share: float | None
    from_top: bool = True


def repaired_jpeg(blob: bytes) -> Repaired | None:
    """With the end marker that is missing, so that the decoder makes grey of what it has no data of."""
    return Repaired(blob + _END_OF_JPEG, None)


def repaired_png(blob: bytes) -> Repaired | None:
    """Only what the pixels need, with right checksums, and black where data is missing or damaged.

    None where there is no header or no pixel. Takes about three times the memory of the file.
    """
    chunks = list(_chunks(blob))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        return None
    header = struct.unpack(">IIBBBBB", chunks[0][1])
    packed = b"".join(data for kind, data in chunks if kind == b"IDAT")
    expected = _raw_bytes(*header)
    found = sum(map(len, _unpacked(packed, expected)))
    if not found or not expected:
        return None
    if found < expected:
        packed = _padded(packed, expected)
    kept = [(kind, data) for kind, data in chunks if kind in _PNG_KEPT]
    whole = b"".join(_chunk(kind, data) for kind, data in (*kept, (b"IDAT", packed), (b"IEND", b"")))
    return Repaired(blob[:_PNG_SIGNATURE_BYTES] + whole, found / expected, from_top=header[6] == 0)


def _chunks(blob: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of each; of the last one perhaps only the beginning."""
    place = _PNG_SIGNATURE_BYTES
    while place + 8 <= len(blob):
        size = int.from_bytes(blob[place : place + 4])
        kind = blob[place + 4 : place + 8]
        # Only of what is needed a copy.
        yield kind, blob[place + 8 : place + 8 + size] if kind in (*_PNG_KEPT, b"IDAT") else b""
        place += 12 + size


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _raw_bytes(
    width: int, height: int, depth: int, colour: int, compression: int, filtering: int, interlace: int
) -> int:
    """How many bytes the rows unpack to, each with the number of its filter."""
    bits = depth * _CHANNELS.get(colour, 0)
    passes = _ADAM7 if interlace else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _unpacked(packed: bytes, most: int) -> Iterator[bytes]:
    """What ``packed`` holds, piece after piece, up to the first damage and to ``most`` bytes."""
    inflater = zlib.decompressobj()
    for start in range(0, len(packed), _READ_BYTES):
        waiting = packed[start : start + _READ_BYTES]
        while waiting and most > 0 and not inflater.eof:
            try:
                piece = inflater.decompress(waiting, min(_PIECE_BYTES, most))
            except zlib.error:
                return
            waiting = inflater.unconsumed_tail
            most -= len(piece)
            yield piece


def _padded(packed: bytes, expected: int) -> bytes:
    """The same rows, and zeros for those that are missing."""
    deflater = zlib.compressobj(1)
    parts: list[bytes] = []
    for piece in _unpacked(packed, expected):
        parts.append(deflater.compress(piece))
        expected -= len(piece)
    while expected > 0:
        parts.append(deflater.compress(bytes(min(expected, _PIECE_BYTES))))
        expected -= _PIECE_BYTES
    return b"".join((*parts, deflater.flush()))
