"""Whether an embedding, a step's own or one that a client sent, can be stored or searched with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import DataError

__all__ = ["unit_vector"]

# Vectors that were kept as float16 are off by up to 2**-11 of their length; scaling those would change
# the last bits of scores for nothing.
_LENGTH_TOLERANCE = 1e-3


def unit_vector(embedding: Any, *, dimension: int | None) -> NDArray[np.float32]:
    """``embedding`` as float32 (dimension,) of length 1; any dimension is right where None is given.

    One of another length is scaled, so that inner products are cosines. Raises DataError for another shape,
    for values that are not finite numbers, and for a length that cannot be scaled.
    """
    if embedding is None:
        raise DataError("The document has no embedding; send its text or its blob as well.")
    given = np.asarray(embedding)
    if given.dtype.kind not in "fiu":
        raise DataError(f"The embedding holds values of type {given.dtype}; it must hold numbers.")
    if given.ndim != 1 or len(given) != (dimension or len(given)) or not len(given):
        raise DataError(
            f"The embedding has the shape {given.shape}, but this index needs "
            f"({dimension or 'dimension'},). Encode with the model that built the index."
        )
    if not np.isfinite(given).all():
        raise DataError("The embedding has a value that is not a finite number.")
    length = float(np.linalg.norm(given.astype(np.float64)))
    if not 0.0 < length < float("inf"):
        raise DataError(f"The embedding has the length {length}, so it cannot be scaled to length 1.")
    scaled = given if abs(length - 1.0) <= _LENGTH_TOLERANCE else given / length
    return np.ascontiguousarray(scaled, dtype=np.float32)
