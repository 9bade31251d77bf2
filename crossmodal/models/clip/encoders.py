"""The encoders of an open_clip model, whatever computes its towers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from crossmodal.models.batching import encode_by_length, encode_in_batches
from crossmodal.models.clip.runner import Runner
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.preprocessing import ImagePreprocessing

__all__ = ["ClipImageEncoder", "ClipTextEncoder"]

Floats = npt.NDArray[np.float32]


class ClipImageEncoder:
    """The photo's side."""

    def __init__(self, identity: ModelIdentity, preprocessing: ImagePreprocessing, runner: Runner) -> None:
        self.identity = identity
        self.preprocessing = preprocessing
        self.runtime = runner.runtime
        self.concurrency = runner.concurrency
        self._runner = runner
        self._threads = ThreadPoolExecutor(runner.concurrency, thread_name_prefix="photos")

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """As ``ImageEncoder.encode`` says."""
        runner = self._runner
        return encode_in_batches(
            pixels, runner.run, self.identity.dimension, batch=runner.batch, threads=self._threads
        )


class ClipTextEncoder:
    """The sentence's side.

    A text longer than the model's context (77 tokens in CLIP, 64 in SigLIP) is cut, a shorter one padded as
    the model was trained; padding that cannot reach a vector is left out.
    """

    independent = False

    def __init__(
        self, identity: ModelIdentity, rows_of: Callable[[list[str]], list[list[int]]], runner: Runner
    ) -> None:
        """``rows_of`` makes the tokens of texts that ``runner`` wants."""
        self.identity = identity
        self.runtime = runner.runtime
        self.concurrency = runner.concurrency
        self._rows_of = rows_of
        self._runner = runner
        self._threads = ThreadPoolExecutor(runner.concurrency, thread_name_prefix="sentences")

    def encode(self, texts: Sequence[str]) -> Floats:
        """As ``TextEncoder.encode`` says."""
        rows = self._rows_of(list(texts)) if texts else []
        runner = self._runner
        return encode_by_length(
            rows, runner.run, self.identity.dimension, batch=runner.batch, threads=self._threads
        )
