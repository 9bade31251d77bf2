"""The few directions in which vectors differ most: codes of these alone are short, and miss little."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from crossmodal.index.embedded.compared import EXTRA

__all__ = ["PROJECTED_EXTRA", "projection"]

# Of what stands behind a vector only its hubness says anything; with another, pairs of components are even.
PROJECTED_EXTRA = 2

# So many rows say what the directions are: some tens for each of a thousand dimensions.
_ROWS = 16_384


def projection(sample: NDArray[np.float32], directions: int) -> Any:
    """faiss's linear transform of rows (n, dimension + EXTRA) to (n, ``directions`` + PROJECTED_EXTRA).

    It keeps the principal directions of the vectors in ``sample`` (m, dimension + EXTRA), not centred, since
    inner products are compared and not distances; and the hubness as it is, which may decide as much as the
    whole vector. A code stands for a pair of directions: the strongest goes with the weakest, so that all
    pairs differ about as much.
    """
    width = sample.shape[1]
    dimension = width - EXTRA
    rows = sample[:: -(-len(sample) // _ROWS), :dimension].astype(np.float64)
    # In order of the eigenvalues, which rise.
    _, found = np.linalg.eigh(rows.T @ rows)
    strongest = found[:, ::-1][:, :directions]
    order = np.empty(directions, np.intp)
    order[0::2] = np.arange((directions + 1) // 2)
    order[1::2] = np.arange(directions - 1, (directions + 1) // 2 - 1, -1)
    matrix = np.zeros((directions + PROJECTED_EXTRA, width), np.float32)
    matrix[:directions, :dimension] = strongest[:, order].T
    matrix[directions:, dimension : dimension + PROJECTED_EXTRA] = np.eye(PROJECTED_EXTRA)
    # faiss's annotations don't know what its Python layer adds.
    library: Any = faiss
    transform = library.LinearTransform(width, len(matrix), False)
    library.copy_array_to_vector(matrix.ravel(), transform.A)
    transform.is_trained = True
    transform.set_is_orthonormal()
    return transform
