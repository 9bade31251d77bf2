"""Sentences as numbers, in an order that suits a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from itertools import groupby

import numpy as np
import numpy.typing as npt

from crossmodal.models.native.vocabulary import PADDING
from crossmodal.models.protocols import encode_slices

__all__ = ["encode_by_length", "padded"]

Floats = npt.NDArray[np.float32]


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


def padded(rows: Sequence[Sequence[int]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Rows of different lengths as int32 (N, longest), and their lengths int32 (N,)."""
    lengths = np.array([len(row) for row in rows], np.int32)
    numbers = np.full((len(rows), lengths.max()), PADDING, np.int32)
    numbers[np.arange(numbers.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return numbers, lengths
