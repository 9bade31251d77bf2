"""The encoders of an open_clip model, each with one tower in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from crossmodal.models.clip.source import ClipSource
from crossmodal.models.clip.text import load_tokenizer
from crossmodal.models.clip.weights import build_network
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.protocols import encode_in_batches

__all__ = ["ClipImageEncoder", "ClipTextEncoder"]

# What the text's side of open_clip's model classes is made of.
_TEXT_PARTS = ("text", "text_decoder", "transformer", "token_embedding", "ln_final")


class ClipImageEncoder:
    """The photo's side."""

    def __init__(self, source: ClipSource, identity: ModelIdentity, *, threads: int | None = None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self.identity = identity
        self.preprocessing: ImagePreprocessing = source.preprocessing
        self._network = build_network(source)
        for part in _TEXT_PARTS:
            if hasattr(self._network, part):
                delattr(self._network, part)

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """As ``ImageEncoder.encode`` says."""
        return encode_in_batches(pixels, self._encode, self.identity.dimension)

    def _encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            vectors = self._network.encode_image(torch.from_numpy(self.preprocessing.scale(pixels)))
        return np.asarray(vectors.float().numpy())


class ClipTextEncoder:
    """The sentence's side.

    A text longer than the model's context (77 tokens in CLIP, 64 in SigLIP) is cut, a shorter one padded as
    the model was trained.
    """

    def __init__(self, source: ClipSource, identity: ModelIdentity, *, threads: int | None = None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self.identity = identity
        self._network = build_network(source)
        del self._network.visual
        self._tokenize = load_tokenizer(source)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """As ``TextEncoder.encode`` says."""
        return encode_in_batches(texts, self._encode, self.identity.dimension)

    def _encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            vectors = self._network.encode_text(self._tokenize(list(texts)))
        return np.asarray(vectors.float().numpy())
