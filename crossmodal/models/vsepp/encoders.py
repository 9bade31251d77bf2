"""The encoders of an original VSE++ checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from crossmodal.errors import ModelError
from crossmodal.models.batching import encode_in_batches
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.runtimes.forms import TORCH_F32
from crossmodal.models.runtimes.machine import torch_concurrency
from crossmodal.models.vsepp.network import VseppImageTower, VseppTextTower
from crossmodal.models.vsepp.source import VseppSource

__all__ = ["VseppImageEncoder", "VseppTextEncoder"]


class VseppImageEncoder:
    """The photo's side."""

    def __init__(self, source: VseppSource, identity: ModelIdentity, *, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.identity = identity
        self.runtime = str(TORCH_F32)
        self.concurrency = torch_concurrency()
        self.preprocessing: ImagePreprocessing = source.preprocessing
        checkpoint = source.checkpoint
        try:
            tower = VseppImageTower(checkpoint.cnn, checkpoint.image, absolute=checkpoint.absolute)
        except (KeyError, RuntimeError, ValueError) as error:
            raise _unusable(source, error) from error
        self._tower = tower.float().eval()

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """As ``ImageEncoder.encode`` says."""
        return encode_in_batches(pixels, self._encode, self.identity.dimension)

    def _encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(self._tower(torch.from_numpy(self.preprocessing.scale(pixels))).numpy())


class VseppTextEncoder:
    """The sentence's side; a text of any length is read to its end."""

    independent = False

    def __init__(self, source: VseppSource, identity: ModelIdentity, *, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.identity = identity
        self.runtime = str(TORCH_F32)
        self.concurrency = torch_concurrency()
        self._vocabulary = source.vocabulary()
        checkpoint = source.checkpoint
        try:
            tower = VseppTextTower(checkpoint.text, absolute=checkpoint.absolute)
        except (KeyError, RuntimeError, ValueError) as error:
            raise _unusable(source, error) from error
        self._tower = tower.float().eval()

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """As ``TextEncoder.encode`` says."""
        return encode_in_batches(texts, self._encode, self.identity.dimension)

    def _encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = [self._vocabulary.numbers_of(text) for text in texts]
        numbers = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.int64)
        for index, row in enumerate(rows):
            numbers[index, : len(row)] = torch.tensor(row)
        with torch.inference_mode():
            return np.asarray(self._tower(numbers, [len(row) for row in rows]).numpy())


def _unusable(source: VseppSource, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())[:300].rstrip(".")
    return ModelError(f"The weights {source.path} don't fit {source.checkpoint.cnn}: {reason}.")
