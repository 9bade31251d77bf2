"""What tests of decoding share: one small photo, its colours, and processes that decode."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from photos import toy_photo
from PIL import Image

from crossmodal.images.budget import MemoryBudget
from crossmodal.images.cropping import Square
from crossmodal.images.pool import DecodePool, PhotoRequest

WANTED = PhotoRequest(Square(64, "crop"), short_side=64, thumbnail=True)


@contextmanager
def small_pool() -> Iterator[DecodePool]:
    """One process that decodes, with a budget of its own."""
    budget = MemoryBudget(512 << 20)
    with DecodePool(budget, most=1) as made:
        yield made
    budget.close()


def reference() -> Image.Image:
    """What all files of the folder show."""
    return toy_photo().resize((96, 64), Image.Resampling.BICUBIC)


def parts(pixels: np.ndarray) -> np.ndarray:
    """The mean colours of 4 x 6 parts: float (4, 6, 3)."""
    small = Image.fromarray(pixels).resize((6, 4), Image.Resampling.BOX)
    return np.asarray(small).astype(float)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
