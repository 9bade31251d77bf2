"""Sentences as the numbers that a network takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from crossmodal.models.native.vocabulary import PADDING

__all__ = ["padded"]

Floats = npt.NDArray[np.float32]


def padded(rows: Sequence[Sequence[int]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Rows of different lengths as int32 (N, longest), and their lengths int32 (N,)."""
    lengths = np.array([len(row) for row in rows], np.int32)
    numbers = np.full((len(rows), lengths.max()), PADDING, np.int32)
    numbers[np.arange(numbers.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return numbers, lengths
