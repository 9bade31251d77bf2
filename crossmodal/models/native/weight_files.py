"""Weights as safetensors: fp16, or int8 with scales; always read as float32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError

__all__ = ["GROUP", "dequantize", "quantize", "read_weights", "weights_as_bytes"]

# Columns that share a scale. A few columns of a transformer's matrices are far larger than the others, and
# with one scale for a whole row they cost all the others their precision.
GROUP = 128

# int8 without -128, so that both signs reach equally far.
_LARGEST = 127
_SCALE = ".scale"


def quantize(
    matrix: npt.NDArray[np.floating[Any]],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """A matrix (rows, columns) as int8 of the same shape, and fp16 scales (rows, groups of 128 columns).

    Symmetric: the largest absolute value of a row's group becomes 127, and no value moves by more than half
    a scale (and the rounding of the scale itself to fp16).
    """
    rows, columns = matrix.shape
    padded = np.zeros((rows, -(-columns // GROUP) * GROUP), np.float32)
    padded[:, :columns] = np.abs(matrix)
    scales = (padded.reshape(rows, -1, GROUP).max(axis=2) / _LARGEST).astype(np.float16)
    # By the rounded scales, because those are what the values will be multiplied by.
    divisors = _spread(np.where(scales > 0, scales, np.float16(1)), columns)
    return np.round(matrix / divisors).clip(-_LARGEST, _LARGEST).astype(np.int8), scales


def dequantize(values: npt.NDArray[np.int8], scales: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """The reverse of ``quantize``, up to its rounding. Raises ValueError where the shapes don't fit."""
    rows, columns = values.shape
    if scales.shape != (rows, -(-columns // GROUP)):
        raise ValueError(f"int8 values {values.shape} with scales {scales.shape}")
    return values * _spread(scales, columns)


def _spread(scales: npt.NDArray[np.float16], columns: int) -> npt.NDArray[np.float32]:
    return np.repeat(scales.astype(np.float32), GROUP, axis=1)[:, :columns]


def weights_as_bytes(
    weights: Mapping[str, npt.NDArray[np.floating[Any]]], *, quantized: bool = False
) -> bytes:
    """A safetensors file; the same weights always make the same bytes, in whatever order they come.

    Each weight becomes fp16. With ``quantized``, those with two axes and more become int8 under their name,
    and scales under their name and ``.scale``: a row is all that makes one output. Raises ModelError where a
    weight isn't finite in fp16.
    """
    from safetensors.numpy import save

    stored: dict[str, npt.NDArray[Any]] = {}
    for name in sorted(weights):
        with np.errstate(over="ignore"):
            half = np.ascontiguousarray(weights[name], np.float16)
        if not np.isfinite(half).all():
            raise ModelError(
                f"The weight {name} cannot be stored: it holds values that are infinite, not a number, or "
                f"larger than {np.finfo(np.float16).max:.0f}. Did the training diverge?"
            )
        if quantized and half.ndim >= 2:
            values, stored[name + _SCALE] = quantize(weights[name].reshape(len(half), -1))
            stored[name] = values.reshape(half.shape)
        else:
            stored[name] = half
    return bytes(save(stored))


def read_weights(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The weights of ``weights_as_bytes`` by name, float32. Raises ModelError where they cannot be read."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        stored = load_file(path)
        return {
            name: dequantize(value.reshape(len(value), -1), stored[name + _SCALE]).reshape(value.shape)
            if value.dtype == np.int8
            else value.astype(np.float32)
            for name, value in stored.items()
            if not name.endswith(_SCALE)
        }
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"The weight file {path} cannot be read: {error}.") from error
