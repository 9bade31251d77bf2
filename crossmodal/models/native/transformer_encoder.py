"""Sentences to vectors by a transformer, in numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError
from crossmodal.models.batching import BATCH, encode_by_length
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.native.checkpoint import NativeCheckpoint
from crossmodal.models.native.sentences import padded
from crossmodal.models.native.text_config import LAYER_NORM_EPSILON, TransformerConfig
from crossmodal.models.runtimes.forms import NUMPY_F32

__all__ = ["TransformerTextEncoder", "transformer_shapes"]

Floats = npt.NDArray[np.float32]


class TransformerTextEncoder:
    """The sentence's side, in numpy: for one caption that is as quick as torch, and importing torch takes
    longer than everything else that a query from the command line does.

    A test compares it with ``towers.TransformerTextTower``, which is what is trained.
    """

    runtime = str(NUMPY_F32)
    # numpy's matrix products have threads of their own.
    concurrency = 1
    independent = False

    def __init__(self, checkpoint: NativeCheckpoint) -> None:
        """Raises ModelError where the checkpoint's files are missing, damaged or don't fit together."""
        config = checkpoint.text
        if not isinstance(config, TransformerConfig):
            raise ModelError(f"The checkpoint {checkpoint.folder} has a {config.kind}, not a transformer.")
        self.identity: ModelIdentity = checkpoint.identity
        self._vocabulary = checkpoint.vocabulary()
        shapes = transformer_shapes(config, len(self._vocabulary), checkpoint.dimension)
        self._weights = checkpoint.text_weights(shapes)
        self._layers = [
            _Layer(self._weights, f"layers.{number}.", config.heads) for number in range(config.layers)
        ]

    def encode(self, texts: Sequence[str]) -> Floats:
        """As ``TextEncoder.encode`` says. What a text says after the model's last position is not read."""
        numbers = [self._vocabulary.numbers_of(text) for text in texts]
        return encode_by_length(numbers, self._encode, self.identity.dimension, batch=BATCH)

    def _encode(self, rows: Sequence[Sequence[int]]) -> Floats:
        numbers, lengths = padded(rows)
        real = np.arange(numbers.shape[1]) < lengths[:, None]
        weights = self._weights
        x = weights["embedding.weight"][numbers] + weights["positions"][: real.shape[1]]
        x = _layer_norm(x, weights["norm.weight"], weights["norm.bias"])
        # All pieces of all rows as one matrix, which numpy multiplies at once; three axes it would loop over.
        x = x.reshape(-1, x.shape[-1])
        unseen = np.where(real, np.float32(0), np.float32(-np.inf))[:, None, None, :]
        for layer in self._layers:
            x = layer(x, unseen)
        x = x.reshape(*real.shape, -1) * real[:, :, None]
        pooled = x.sum(axis=1) / lengths[:, None].astype(np.float32)
        vectors: Floats = pooled @ weights["projection.weight"].T + weights["projection.bias"]
        return vectors


class _Layer:
    """One layer as ``towers`` defines it."""

    def __init__(self, weights: Mapping[str, Floats], prefix: str, heads: int) -> None:
        def parameters(name: str) -> tuple[Floats, Floats]:
            return weights[f"{prefix}{name}.weight"], weights[f"{prefix}{name}.bias"]

        self._heads = heads
        self._attention_in = parameters("attention_in")
        self._attention_out = parameters("attention_out")
        self._attention_norm = parameters("attention_norm")
        self._feed_in = parameters("feed_in")
        self._feed_out = parameters("feed_out")
        self._feed_norm = parameters("feed_norm")

    def __call__(self, x: Floats, unseen: Floats) -> Floats:
        """``x`` (N * longest, width); ``unseen`` (N, 1, 1, longest) is -inf where a row has ended."""
        attended = _linear(self._attend(x, unseen), *self._attention_out)
        attended += x
        x = _layer_norm(attended, *self._attention_norm)
        fed = _linear(_gelu(_linear(x, *self._feed_in)), *self._feed_out)
        fed += x
        return _layer_norm(fed, *self._feed_norm)

    def _attend(self, x: Floats, unseen: Floats) -> Floats:
        """Each piece's mixture of all pieces' values, one head after the other: (N * longest, width)."""
        rows, longest, width = len(unseen), unseen.shape[-1], x.shape[-1]
        head = width // self._heads
        split = _linear(x, *self._attention_in).reshape(rows, longest, 3, self._heads, head)
        query, key, value = split.transpose(2, 0, 3, 1, 4)
        scores = query @ key.transpose(0, 1, 3, 2)
        scores *= np.float32(1 / math.sqrt(head))
        scores += unseen
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed: Floats = (scores @ value).transpose(0, 2, 1, 3).reshape(x.shape)
        return mixed


def _linear(x: Floats, weight: Floats, bias: Floats) -> Floats:
    y: Floats = x @ weight.T
    y += bias
    return y


def _layer_norm(x: Floats, weight: Floats, bias: Floats) -> Floats:
    x = x - x.mean(axis=-1, keepdims=True)
    variance = np.einsum("...i,...i->...", x, x)[..., None] / np.float32(x.shape[-1])
    x /= np.sqrt(variance + np.float32(LAYER_NORM_EPSILON))
    x *= weight
    x += bias
    return x


def _gelu(x: Floats) -> Floats:
    """GELU by its tanh approximation (Hendrycks and Gimpel, 2016), as ``towers`` has it."""
    inner = x * x
    inner *= np.float32(0.044715)
    inner += np.float32(1)
    inner *= x
    inner *= np.float32(math.sqrt(2 / math.pi))
    np.tanh(inner, out=inner)
    inner += np.float32(1)
    inner *= x
    inner *= np.float32(0.5)
    return inner


def transformer_shapes(config: TransformerConfig, pieces: int, dimension: int) -> dict[str, tuple[int, ...]]:
    """The parameters of ``towers.TransformerTextTower`` and their shapes."""
    width, hidden = config.width, config.hidden
    shapes: dict[str, tuple[int, ...]] = {
        "embedding.weight": (pieces, width),
        "positions": (config.positions, width),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "projection.weight": (dimension, width),
        "projection.bias": (dimension,),
    }
    linear = {
        "attention_in": (3 * width, width),
        "attention_out": (width, width),
        "feed_in": (hidden, width),
        "feed_out": (width, hidden),
    }
    for number in range(config.layers):
        for name, shape in linear.items():
            shapes[f"layers.{number}.{name}.weight"] = shape
            shapes[f"layers.{number}.{name}.bias"] = shape[:1]
        for name in ("attention_norm", "feed_norm"):
            shapes[f"layers.{number}.{name}.weight"] = shapes[f"layers.{number}.{name}.bias"] = (width,)
    return shapes
