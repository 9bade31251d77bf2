"""Photos and sentences through a network some at a time, in order again and at unit length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["BATCH", "encode_by_length", "encode_in_batches", "encode_slices"]

# Rows that go through a network at once: enough to keep a CPU busy, few enough to bound the memory.
BATCH = 32

Floats = npt.NDArray[np.float32]

Item = TypeVar("Item")


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


def encode_by_length(
    numbers: Sequence[Sequence[int]],
    encode: Callable[[Sequence[Sequence[int]]], Floats],
    dimension: int,
    *,
    batch: int,
    threads: Executor | None = None,
    unpadded: bool = False,
) -> Floats:
    """``encode`` of ``batch`` rows of ``numbers`` at a time, in order again and at unit length.

    ``encode`` sees rows sorted by length, so that little of a batch is padding, or none if ``unpadded`` lets
    only rows of one length into a batch. Equal rows are encoded once: in a matrix product the last bits of a
    row depend on where it stands, and equal captions would not tie.
    """
    rows = [tuple(row) for row in numbers]
    distinct = sorted(dict.fromkeys(rows), key=len)
    slices = _slices([len(row) if unpadded else 0 for row in distinct], batch)
    vectors = encode_slices(distinct, slices, encode, dimension, threads=threads)
    place_of = {row: place for place, row in enumerate(distinct)}
    return vectors[[place_of[row] for row in rows]]


def _slices(kinds: Sequence[int], batch: int) -> list[slice]:
    """Slices of at most ``batch`` neighbours of one kind each, which together are everything."""
    slices: list[slice] = []
    for _, places in groupby(range(len(kinds)), key=kinds.__getitem__):
        same = list(places)
        slices += [
            slice(start, min(start + batch, same[-1] + 1)) for start in range(same[0], same[-1] + 1, batch)
        ]
    return slices
