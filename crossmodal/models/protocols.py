"""What every model of this project offers: two encoders into one space, which can be loaded apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from crossmodal.models.identity import ModelIdentity
from crossmodal.models.preprocessing import ImagePreprocessing

__all__ = ["ImageEncoder", "TextEncoder", "encode_in_batches"]

# Rows that go through a network at once: enough to keep a CPU busy, few enough to bound the memory.
BATCH = 32

Item = TypeVar("Item")


class ImageEncoder(Protocol):
    """Photos to vectors."""

    @property
    def identity(self) -> ModelIdentity: ...

    @property
    def preprocessing(self) -> ImagePreprocessing: ...

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Squares uint8 (N, size, size, 3) as ``preprocessing.crop`` makes them, N from 0 on, to vectors
        float32 (N, dimension) of unit length."""
        ...


class TextEncoder(Protocol):
    """Sentences to vectors."""

    @property
    def identity(self) -> ModelIdentity: ...

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Any number of sentences, from 0 on, to vectors float32 (N, dimension) of unit length."""
        ...


def encode_in_batches(
    items: Sequence[Item] | npt.NDArray[np.uint8],
    encode: Callable[..., npt.NDArray[np.float32]],
    dimension: int,
) -> npt.NDArray[np.float32]:
    """``encode`` of 32 items at a time, scaled to unit length: float32 (len(items), dimension)."""
    vectors = np.empty((len(items), dimension), np.float32)
    for start in range(0, len(items), BATCH):
        rows = encode(items[start : start + BATCH])
        # In float64, so that the length is 1 to the last bit that float32 has.
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        vectors[start : start + BATCH] = rows / lengths
    return vectors
