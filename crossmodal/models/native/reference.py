"""What the plain form of a shipped model makes of the probes: it ships with the model.

Other forms are compared with it without loading the plain one, so that the model needs no torch.
``python -m crossmodal.models.native.reference`` writes the files again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint
from crossmodal.models.runtimes.probes import photo_probes, sentence_probes

__all__ = ["read_reference", "write_reference"]

Tower = Literal["image", "text"]

_FILE = "probes.safetensors"
_WEIGHTS = "weights"


def read_reference(checkpoint: NativeCheckpoint, tower: Tower) -> npt.NDArray[np.float32] | None:
    """The plain vectors of the probes, (probes, dimension); None where none came with these very weights."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(checkpoint.folder / _FILE, framework="np") as held:
            if (held.metadata() or {}).get(_WEIGHTS) != checkpoint.identity.weights:
                return None
            vectors: npt.NDArray[np.float32] = held.get_tensor(tower).astype(np.float32)
            return vectors
    except (OSError, SafetensorError):
        return None


def write_reference(checkpoint: NativeCheckpoint) -> Path:
    """Computes them in the plain form, which needs torch, and writes them beside the weights."""
    from safetensors.numpy import save_file

    from crossmodal.models.native.encoders import plain_text_encoder
    from crossmodal.models.native.torch_encoder import TorchImageEncoder

    vectors = {
        "image": TorchImageEncoder(checkpoint, threads=None).encode(photo_probes(checkpoint.preprocessing)),
        "text": plain_text_encoder(checkpoint).encode(sentence_probes()),
    }
    path = checkpoint.folder / _FILE
    # Half precision moves a cosine by a ten-millionth.
    halves = {tower: made.astype(np.float16) for tower, made in vectors.items()}
    save_file(halves, path, {_WEIGHTS: checkpoint.identity.weights})
    return path


if __name__ == "__main__":
    for name, folder in SHIPPED.items():
        print(write_reference(NativeCheckpoint.open(folder, name)))
