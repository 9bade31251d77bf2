"""Sentences to vectors by a GRU, in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError
from crossmodal.models.batching import encode_in_batches
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.native.checkpoint import NativeCheckpoint
from crossmodal.models.native.text_config import GruConfig
from crossmodal.models.runtimes.forms import NUMPY_F32

__all__ = ["GruTextEncoder", "gru_shapes"]

Floats = npt.NDArray[np.float32]


class GruTextEncoder:
    """The sentence's side, in numpy: one caption is a dozen small matrix products, and not having to import
    torch (over a second) is what makes a query from the command line quick.

    A test compares it with ``towers.GruTextTower``, which is what is trained.
    """

    runtime = str(NUMPY_F32)
    # numpy's matrix products have threads of their own.
    concurrency = 1
    independent = False

    def __init__(self, checkpoint: NativeCheckpoint) -> None:
        """Raises ModelError where the checkpoint's files are missing, damaged or don't fit together."""
        if not isinstance(checkpoint.text, GruConfig):
            raise ModelError(f"The checkpoint {checkpoint.folder} has a {checkpoint.text.kind}, not a gru.")
        self.identity: ModelIdentity = checkpoint.identity
        self._vocabulary = checkpoint.vocabulary()
        shapes = gru_shapes(checkpoint.text, len(self._vocabulary), checkpoint.dimension)
        weights = checkpoint.text_weights(shapes)
        self._embedding = weights["embedding.weight"]
        self._input, self._input_bias = weights["gru.weight_ih_l0"].T, weights["gru.bias_ih_l0"]
        self._hidden, self._hidden_bias = weights["gru.weight_hh_l0"].T, weights["gru.bias_hh_l0"]

    def encode(self, texts: Sequence[str]) -> Floats:
        """As ``TextEncoder.encode`` says. Words that aren't known all count as the same unknown word."""
        return encode_in_batches(texts, self._encode, self.identity.dimension)

    def _encode(self, texts: Sequence[str]) -> Floats:
        numbers = [self._vocabulary.numbers_of(text) for text in texts]
        lengths = np.array([len(row) for row in numbers])
        # Longest first: those still running at a step are then the first rows.
        order = np.argsort(-lengths, kind="stable")
        state = np.zeros((len(texts), self.identity.dimension), np.float32)
        for step in range(int(lengths.max())):
            running = int((lengths > step).sum())
            words = [numbers[row][step] for row in order[:running]]
            state[:running] = self._step(self._embedding[words], state[:running])
        vectors = np.empty_like(state)
        vectors[order] = state
        return vectors

    def _step(self, x: Floats, state: Floats) -> Floats:
        """One step of a GRU as torch defines it: the reset gate scales the hidden part after its bias."""
        from_input = x @ self._input + self._input_bias
        from_state = state @ self._hidden + self._hidden_bias
        input_reset, input_update, input_new = np.split(from_input, 3, axis=1)
        state_reset, state_update, state_new = np.split(from_state, 3, axis=1)
        reset = _sigmoid(input_reset + state_reset)
        update = _sigmoid(input_update + state_update)
        new: Floats = np.tanh(input_new + reset * state_new)
        return (1 - update) * new + update * state


def gru_shapes(config: GruConfig, words: int, dimension: int) -> dict[str, tuple[int, ...]]:
    """The parameters of ``towers.GruTextTower`` and their shapes."""
    return {
        "embedding.weight": (words, config.word_dimension),
        "gru.weight_ih_l0": (3 * dimension, config.word_dimension),
        "gru.weight_hh_l0": (3 * dimension, dimension),
        "gru.bias_ih_l0": (3 * dimension,),
        "gru.bias_hh_l0": (3 * dimension,),
    }


def _sigmoid(x: Floats) -> Floats:
    # By tanh, which doesn't overflow for any x.
    value: Floats = np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1))
    return value
