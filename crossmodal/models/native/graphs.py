"""The towers of the project's own models as ONNX graphs, which need no torch: what ``towers`` defines.

Text towers take ``numbers`` int32 (n, longest), padded at the end, and ``lengths`` int32 (n,), and give
``vectors`` float32 (n, dimension) of any length. Padding doesn't reach a vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from crossmodal.models.native.mobilenet_blocks import FIRST_BESIDE, branches_of, same_padding, stages
from crossmodal.models.native.text_config import LAYER_NORM_EPSILON, GruConfig, TextConfig, TransformerConfig
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.runtimes.graph import Graph, Value

__all__ = ["image_graph", "text_graph"]

Floats = npt.NDArray[np.float32]

# Added to the scores of places without a piece: their share is 0 in float32 and in bfloat16. Not -inf, which
# times 0 is not a number.
_UNSEEN = -1e9


def image_graph(weights: Mapping[str, Floats], preprocessing: ImagePreprocessing) -> bytes:
    """ONNX: ``pixels`` uint8 (n, size, size, 3) to ``vectors`` float32 (n, dimension) of unit length.

    ``weights`` are those of ``towers.ImageTower``. Raises KeyError where one is missing.
    """
    tower = _ImageTower(weights, preprocessing.size)
    graph = tower.graph
    pixels = graph.input("pixels", np.uint8, ("n", preprocessing.size, preprocessing.size, 3))
    mean, std = (np.array(values, np.float32) * 255 for values in (preprocessing.mean, preprocessing.std))
    scaled = graph.multiply(
        graph.add(graph.cast(pixels, np.float32), graph.constant(-mean)), graph.constant(1 / std)
    )
    features = tower.features(graph.transpose(scaled, 0, 3, 1, 2))
    projection = weights["projection.weight"]
    vectors = graph.normalize(graph.linear(features, projection, weights["projection.bias"]))
    graph.output(vectors, "vectors", ("n", len(projection)))
    return graph.serialize()


def text_graph(weights: Mapping[str, Floats], config: TextConfig) -> bytes:
    """ONNX of the text tower of ``config``'s kind; ``weights`` are its parameters."""
    return _gru_graph(weights) if isinstance(config, GruConfig) else _transformer_graph(weights, config)


class _ImageTower:
    """The CNN, layer by layer; ``_side`` is the side of the current feature map, on which padding depends."""

    def __init__(self, weights: Mapping[str, Floats], size: int) -> None:
        self.graph = Graph()
        self._weights = weights
        self._side = size

    def features(self, x: Value) -> Value:
        """As ``mobilenet.MobileNetEdgeTPU``: (n, 3, side, side) to (n, 1280 a branch)."""
        x = self.graph.relu(self._convolution(x, "conv_stem", stride=2))
        x = self._convolution(x, "blocks.0.0.conv")
        shared = self._stages(x, "", range(1, FIRST_BESIDE))
        side = self._side
        own = self._branch(shared, "")
        if branches_of(self._weights) == 1:
            return own
        self._side = side
        return self.graph.concatenate([own, self._branch(shared, "beside.")], 1)

    def _branch(self, x: Value, prefix: str) -> Value:
        rows = stages()
        x = self._stages(x, prefix, range(FIRST_BESIDE, len(rows) + 1))
        return self.graph.mean(self.graph.relu(self._convolution(x, f"{prefix}conv_head")), 2, 3)

    def _stages(self, x: Value, prefix: str, numbers: range) -> Value:
        rows = stages()
        for number in numbers:
            for place, block in enumerate(rows[number - 1]):
                name = f"{prefix}blocks.{number}.{place}"
                if block.fused:
                    y = self.graph.relu(self._convolution(x, f"{name}.conv_exp", stride=block.stride))
                else:
                    y = self.graph.relu(self._convolution(x, f"{name}.conv_pw"))
                    wide = block.inputs * block.expansion
                    y = self._convolution(y, f"{name}.conv_dw", stride=block.stride, groups=wide)
                    y = self.graph.relu(y)
                y = self._convolution(y, f"{name}.conv_pwl")
                x = self.graph.add(x, y) if block.skip else y
        return x

    def _convolution(self, x: Value, name: str, *, stride: int = 1, groups: int = 1) -> Value:
        weight, bias = (self._weights[f"cnn.{name}.{part}"] for part in ("weight", "bias"))
        before, after = same_padding(self._side, weight.shape[-1], stride)
        self._side = -(-self._side // stride)
        return self.graph.convolution(
            x, weight, bias, stride=stride, padding=(before, before, after, after), groups=groups
        )


def _transformer_graph(weights: Mapping[str, Floats], config: TransformerConfig) -> bytes:
    """ONNX of ``towers.TransformerTextTower``; ``weights`` are its parameters."""
    graph = Graph()
    numbers, lengths = _inputs(graph)

    def linear(x: Value, name: str) -> Value:
        return graph.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x: Value, name: str) -> Value:
        return graph.layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"], LAYER_NORM_EPSILON)

    places = np.arange(config.positions, dtype=np.int32)
    real = graph.apply("Less", _first(graph, places, numbers), graph.reshape(lengths, (-1, 1)))
    real = graph.cast(real, np.float32)
    unseen = graph.multiply(graph.add(real, graph.number(-1)), graph.number(-_UNSEEN))
    unseen = graph.apply("Unsqueeze", unseen, graph.integers(1, 2))

    positions = _first(graph, weights["positions"], numbers)
    x = norm(graph.add(graph.rows(weights["embedding.weight"], numbers), positions), "norm")
    for number in range(config.layers):
        layer = f"layers.{number}"
        inner = linear(x, f"{layer}.attention_in")
        inner = graph.attention(inner, heads=config.heads, width=config.width, added=unseen)
        x = norm(graph.add(x, linear(inner, f"{layer}.attention_out")), f"{layer}.attention_norm")
        inner = graph.gelu(linear(x, f"{layer}.feed_in"), "tanh")
        x = norm(graph.add(x, linear(inner, f"{layer}.feed_out")), f"{layer}.feed_norm")
    x = graph.multiply(x, graph.apply("Unsqueeze", real, graph.integers(2)))
    total = graph.apply("ReduceSum", x, graph.integers(1), keepdims=0)
    pooled = graph.apply("Div", total, graph.cast(graph.reshape(lengths, (-1, 1)), np.float32))
    projection = weights["projection.weight"]
    graph.output(
        graph.linear(pooled, projection, weights["projection.bias"]), "vectors", ("n", len(projection))
    )
    return graph.serialize()


def _gru_graph(weights: Mapping[str, Floats]) -> bytes:
    """ONNX of ``towers.GruTextTower``; ``weights`` are its parameters."""
    graph = Graph()
    numbers, lengths = _inputs(graph)
    state = weights["gru.weight_hh_l0"].shape[1]
    words = graph.transpose(graph.rows(weights["embedding.weight"], numbers), 1, 0, 2)
    biases = [_gates(weights[f"gru.bias_{kind}_l0"]) for kind in ("ih", "hh")]
    # Without the lengths, which OpenVINO's kernel ignores: all states, of which the one after a
    # row's last word is picked, since padding comes after it.
    states = graph.apply(
        "GRU",
        words,
        graph.constant(_gates(weights["gru.weight_ih_l0"])[None]),
        graph.constant(_gates(weights["gru.weight_hh_l0"])[None]),
        graph.constant(np.concatenate(biases)[None]),
        hidden_size=state,
        linear_before_reset=1,
    )
    by_row = graph.transpose(graph.apply("Squeeze", states, graph.integers(1)), 1, 0, 2)
    last = graph.add(graph.cast(graph.reshape(lengths, (-1, 1)), np.int64), graph.integers(-1))
    graph.output(graph.apply("GatherND", by_row, last, batch_dims=1), "vectors", ("n", state))
    return graph.serialize()


def _inputs(graph: Graph) -> tuple[Value, Value]:
    return graph.input("numbers", np.int32, ("n", "length")), graph.input("lengths", np.int32, ("n",))


def _first(graph: Graph, table: npt.NDArray[np.generic], numbers: Value) -> Value:
    """As many rows of ``table`` as ``numbers`` (n, length) is long."""
    zero = graph.integers(0)
    return graph.apply("Slice", graph.constant(table), zero, graph.length(numbers, 1), zero)


def _gates(weight: Floats) -> Floats:
    """From torch's order of gates (reset, update, new) to ONNX's (update, reset, new)."""
    reset, update, new = np.split(weight, 3)
    return np.concatenate([update, reset, new])
