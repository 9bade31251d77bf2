"""Photos to vectors by torch: the plain form, which the others are compared with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crossmodal.models.batching import encode_in_batches
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.native.checkpoint import NativeCheckpoint
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.runtimes.forms import TORCH_F32

__all__ = ["TorchImageEncoder"]

Floats = npt.NDArray[np.float32]


class TorchImageEncoder:
    """The photo's side, through torch."""

    runtime = str(TORCH_F32)
    # One call keeps all of torch's threads busy.
    concurrency = 1

    def __init__(self, checkpoint: NativeCheckpoint, *, threads: int | None = None) -> None:
        """``threads`` is how many threads torch uses in this process (None: as it is). Raises ModelError
        where the weights are missing or don't fit."""
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
