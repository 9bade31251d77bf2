"""Photos and sentences to vectors by OpenVINO or onnxruntime; nothing of it imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError
from crossmodal.models.batching import encode_by_length, encode_in_batches
from crossmodal.models.identity import ModelIdentity, fingerprint
from crossmodal.models.native import image_graph, mobilenet_blocks, text_graph
from crossmodal.models.native.checkpoint import NativeCheckpoint
from crossmodal.models.native.gru_encoder import gru_shapes
from crossmodal.models.native.sentences import padded
from crossmodal.models.native.text_config import GruConfig
from crossmodal.models.native.transformer_encoder import transformer_shapes
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.runtimes import graph, onnx_file
from crossmodal.models.runtimes.forms import Form
from crossmodal.models.runtimes.network import Keep, open_network

__all__ = ["GraphImageEncoder", "GraphTextEncoder"]

Floats = npt.NDArray[np.float32]

# Rows of one run. More make a photo no quicker, and a sentence's neighbours longer; with fewer, a request's
# rows can be shared out between the cores.
_PHOTOS = 8
_SENTENCES = 16


class GraphImageEncoder:
    """The photo's side."""

    def __init__(
        self,
        checkpoint: NativeCheckpoint,
        identity: ModelIdentity,
        form: Form,
        *,
        threads: int | None,
        cache: Path | None,
    ) -> None:
        """``identity`` is the checkpoint's; ``threads`` as in ``network.open_network``; ``cache`` is the
        folder that keeps compiled networks (None: nothing does).

        Raises ModelError where the weights are missing or don't fit, RuntimeError where the form's library
        cannot compute the network.
        """
        self.identity = identity
        self.preprocessing: ImagePreprocessing = checkpoint.preprocessing
        self.runtime = str(form)

        def build() -> bytes:
            try:
                return image_graph.image_graph(checkpoint.image_weights(), checkpoint.preprocessing)
            except KeyError as error:
                raise ModelError(
                    f"The weights in {checkpoint.folder} don't fit the network: {error} is missing."
                ) from error

        keep = _keep(cache, checkpoint, self.identity, "image")
        self._network = open_network(form, build, threads=threads, keep=keep)
        self.concurrency = self._network.concurrency
        self._threads = ThreadPoolExecutor(self.concurrency, thread_name_prefix="photos")

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """As ``ImageEncoder.encode`` says."""
        return encode_in_batches(
            pixels, self._network.run, self.identity.dimension, batch=_PHOTOS, threads=self._threads
        )


class GraphTextEncoder:
    """The sentence's side."""

    def __init__(
        self,
        checkpoint: NativeCheckpoint,
        identity: ModelIdentity,
        form: Form,
        *,
        threads: int | None,
        cache: Path | None,
    ) -> None:
        """Arguments and errors as for ``GraphImageEncoder``."""
        self.identity = identity
        self.runtime = str(form)
        # What OpenVINO computes for a row of a batch without padding is what it computes for that row alone.
        self.independent = form.library == "openvino"
        self._vocabulary = checkpoint.vocabulary()

        def build() -> bytes:
            config = checkpoint.text
            if isinstance(config, GruConfig):
                shapes = gru_shapes(config, len(self._vocabulary), checkpoint.dimension)
                return text_graph.gru_graph(checkpoint.text_weights(shapes))
            shapes = transformer_shapes(config, len(self._vocabulary), checkpoint.dimension)
            return text_graph.transformer_graph(checkpoint.text_weights(shapes), config)

        keep = _keep(cache, checkpoint, self.identity, "text")
        self._network = open_network(form, build, threads=threads, keep=keep)
        self.concurrency = self._network.concurrency
        self._threads = ThreadPoolExecutor(self.concurrency, thread_name_prefix="sentences")

    def encode(self, texts: Sequence[str]) -> Floats:
        """As ``TextEncoder.encode`` says. What a text says after the model's last position is not read."""
        return encode_by_length(
            [self._vocabulary.numbers_of(text) for text in texts],
            lambda rows: self._network.run(*padded(rows)),
            self.identity.dimension,
            batch=_SENTENCES,
            threads=self._threads,
            # What makes it independent of its neighbours.
            unpadded=True,
        )


def _keep(
    cache: Path | None, checkpoint: NativeCheckpoint, identity: ModelIdentity, tower: str
) -> Keep | None:
    if cache is None:
        return None
    modules = (graph, onnx_file, image_graph, mobilenet_blocks, text_graph)
    code = fingerprint(Path(str(module.__file__)) for module in modules)
    decisive = f"{code}\n{identity.preprocessing}\n{checkpoint.text}"
    return Keep(cache / "compiled", f"{identity.weights}-{tower}", decisive)
