"""What the plain form of a shipped model makes of the probes: it ships with the model.

Other forms are compared with it without loading the plain one, so that the model needs no torch.
``python -m crossmodal.models.native.write_reference`` writes the files again.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from crossmodal.models.native.checkpoint import NativeCheckpoint

__all__ = ["FILE", "WEIGHTS", "Tower", "read_reference"]

Tower = Literal["image", "text"]

FILE = "probes.safetensors"
WEIGHTS = "weights"


def read_reference(checkpoint: NativeCheckpoint, tower: Tower) -> npt.NDArray[np.float32] | None:
    """The plain vectors of the probes, (probes, dimension); None where none came with these very weights."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(checkpoint.folder / FILE, framework="np") as held:
            if (held.metadata() or {}).get(WEIGHTS) != checkpoint.identity.weights:
                return None
            vectors: npt.NDArray[np.float32] = held.get_tensor(tower).astype(np.float32)
            return vectors
    except (OSError, SafetensorError):
        return None
