"""What every model of this project offers: two encoders into one space, which can be loaded apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from crossmodal.models.identity import ModelIdentity
from crossmodal.models.preprocessing import ImagePreprocessing

__all__ = ["BATCH", "ImageEncoder", "TextEncoder", "encode_in_batches", "encode_slices"]

# Rows that go through a network at once: enough to keep a CPU busy, few enough to bound the memory.
BATCH = 32

Item = TypeVar("Item")


class ImageEncoder(Protocol):
    """Photos to vectors."""

    @property
    def identity(self) -> ModelIdentity: ...

    @property
    def preprocessing(self) -> ImagePreprocessing: ...

    @property
    def runtime(self) -> str:
        """What computes, for people to read, such as ``openvino bf16``."""
        ...

    @property
    def concurrency(self) -> int:
        """How many threads can usefully call ``encode`` at once."""
        ...

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Squares uint8 (N, size, size, 3) as ``preprocessing.crop`` makes them, N from 0 on, to vectors
        float32 (N, dimension) of unit length. Safe from any number of threads; the same squares in the same
        order make the same vectors to the last bit."""
        ...


class TextEncoder(Protocol):
    """Sentences to vectors."""

    @property
    def identity(self) -> ModelIdentity: ...

    @property
    def runtime(self) -> str:
        """As ``ImageEncoder.runtime``."""
        ...

    @property
    def concurrency(self) -> int:
        """As ``ImageEncoder.concurrency``."""
        ...

    @property
    def independent(self) -> bool:
        """Whether a sentence's vector is the same to the last bit whatever is encoded together with it."""
        ...

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Any number of sentences, from 0 on, to vectors float32 (N, dimension) of unit length. Safe from any
        number of threads; the same sentences in the same order make the same vectors to the last bit."""
        ...


def encode_in_batches(
    items: Sequence[Item] | npt.NDArray[np.uint8],
    encode: Callable[..., npt.NDArray[np.float32]],
    dimension: int,
    *,
    batch: int = BATCH,
    threads: Executor | None = None,
) -> npt.NDArray[np.float32]:
    """``encode`` of ``batch`` items at a time, scaled to unit length: float32 (len(items), dimension).

    With ``threads`` several batches are encoded at once; what a batch holds doesn't depend on that.
    """
    slices = [slice(start, start + batch) for start in range(0, len(items), batch)]
    return encode_slices(items, slices, encode, dimension, threads=threads)


def encode_slices(
    items: Sequence[Item] | npt.NDArray[np.uint8],
    slices: Sequence[slice],
    encode: Callable[..., npt.NDArray[np.float32]],
    dimension: int,
    *,
    threads: Executor | None = None,
) -> npt.NDArray[np.float32]:
    """``encode_in_batches`` with batches of any lengths, which together are all of ``items``."""
    vectors = np.empty((len(items), dimension), np.float32)

    def fill(part: slice) -> None:
        rows = encode(items[part])
        # In float64, so that the length is 1 to the last bit that float32 has.
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        vectors[part] = rows / lengths

    done: Iterable[Any] = map(fill, slices)
    if threads is not None and len(slices) > 1:
        done = threads.map(fill, slices)
    for _ in done:
        pass
    return vectors
