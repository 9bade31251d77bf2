"""The encoders of a checkpoint of our own: photos through torch, sentences in numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crossmodal.models.identity import ModelIdentity
from crossmodal.models.native.checkpoint import NativeCheckpoint
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.protocols import TextEncoder, encode_in_batches

__all__ = ["NativeImageEncoder", "native_text_encoder"]

Floats = npt.NDArray[np.float32]


class NativeImageEncoder:
    """The photo's side, through torch."""

    def __init__(self, checkpoint: NativeCheckpoint, *, threads: int | None = None) -> None:
        import torch

        from crossmodal.models.native.loading import load_image_tower

        if threads is not None:
            torch.set_num_threads(threads)
        self.identity: ModelIdentity = checkpoint.identity
        self.preprocessing: ImagePreprocessing = checkpoint.preprocessing
        tower = load_image_tower(checkpoint)
        # Channels last is what CPU convolutions compute in.
        self._tower = tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """As ``ImageEncoder.encode`` says."""
        return encode_in_batches(pixels, self._encode, self.identity.dimension)

    def _encode(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        import torch

        x = torch.from_numpy(self.preprocessing.scale(pixels)).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            vectors: Floats = self._tower(x).numpy()
        return vectors


def native_text_encoder(checkpoint: NativeCheckpoint) -> TextEncoder:
    """The encoder of sentences that ``checkpoint`` needs; only its code is imported, and no torch."""
    if checkpoint.text.kind == "gru":
        from crossmodal.models.native.gru_encoder import GruTextEncoder

        return GruTextEncoder(checkpoint)
    from crossmodal.models.native.transformer_encoder import TransformerTextEncoder

    return TransformerTextEncoder(checkpoint)
