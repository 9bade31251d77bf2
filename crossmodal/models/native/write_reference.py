"""Writes what the plain form of each shipped model makes of the probes, beside its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint
from crossmodal.models.native.encoders import plain_text_encoder
from crossmodal.models.native.reference import FILE, WEIGHTS
from crossmodal.models.runtimes.probes import photo_probes, sentence_probes

__all__ = ["write_reference"]


def write_reference(checkpoint: NativeCheckpoint) -> Path:
    """Computes them in the plain form, which needs torch, and writes them beside the weights."""
    from safetensors.numpy import save_file

    from crossmodal.models.native.torch_encoder import TorchImageEncoder

    vectors = {
        "image": TorchImageEncoder(checkpoint, threads=None).encode(photo_probes(checkpoint.preprocessing)),
        "text": plain_text_encoder(checkpoint).encode(sentence_probes()),
    }
    path = checkpoint.folder / FILE
    # Half precision moves a cosine by a ten-millionth.
    halves = {tower: made.astype(np.float16) for tower, made in vectors.items()}
    save_file(halves, path, {WEIGHTS: checkpoint.identity.weights})
    return path


if __name__ == "__main__":
    for name, folder in SHIPPED.items():
        print(write_reference(NativeCheckpoint.open(folder, name)))
