"""Weights as safetensors: fp16, or int8 with a scale for each row; always read as float32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError

__all__ = ["quantize_rows", "read_weights", "weights_as_bytes"]

# int8 without -128, so that both signs reach equally far.
_LARGEST = 127
_SCALE = ".scale"


def quantize_rows(
    matrix: npt.NDArray[np.floating[Any]],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """A matrix (rows, columns) as int8 of the same shape and float32 scales (rows,); row = int8 * scale.

    Symmetric: a row's largest absolute value becomes 127, and no value moves by more than half a scale.
    """
    scales = (np.abs(matrix).max(axis=1) / _LARGEST).astype(np.float32)
    divisors = np.where(scales > 0, scales, 1)
    return np.round(matrix / divisors[:, None]).clip(-_LARGEST, _LARGEST).astype(np.int8), scales


def weights_as_bytes(
    weights: Mapping[str, npt.NDArray[np.floating[Any]]], *, quantize: bool = False
) -> bytes:
    """A safetensors file; the same weights always make the same bytes, in whatever order they come.

    Each weight becomes fp16; with ``quantize``, one with two axes becomes int8 under its name and float32
    scales under its name and ``.scale``. Raises ModelError where a weight isn't finite in fp16.
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
        if quantize and half.ndim == 2:
            stored[name], stored[name + _SCALE] = quantize_rows(weights[name])
        else:
            stored[name] = half
    return bytes(save(stored))


def read_weights(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The weights of ``weights_as_bytes`` by name, float32. Raises ModelError where they cannot be read."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The weight file {path} cannot be read: {error}.") from error
    scales = {
        name: stored.pop(name + _SCALE) for name in list(stored) if stored.get(name + _SCALE) is not None
    }
    weights = {name: value.astype(np.float32) for name, value in stored.items()}
    for name, scale in scales.items():
        try:
            weights[name] *= scale[:, None]
        except (IndexError, ValueError) as error:
            raise ModelError(
                f"The weight file {path} is damaged: {name} has the shape {weights[name].shape} and "
                f"{scale.shape} scales."
            ) from error
    return weights
