"""The sentence's towers as graphs: what ``towers`` defines, up to the scaling to unit length.

Each takes ``numbers`` int32 (n, longest), padded at the end, and ``lengths`` int32 (n,), and gives
``vectors`` float32 (n, dimension). What stands in the padding doesn't reach a vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from crossmodal.models.native.text_config import LAYER_NORM_EPSILON, TransformerConfig
from crossmodal.models.runtimes.graph import Graph, Value

__all__ = ["gru_graph", "transformer_graph"]

Floats = npt.NDArray[np.float32]

# Added to the scores of places without a piece: their share is 0 in float32 and in bfloat16. Not -inf, which
# times 0 is not a number.
_UNSEEN = -1e9


def transformer_graph(weights: Mapping[str, Floats], config: TransformerConfig) -> bytes:
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


def gru_graph(weights: Mapping[str, Floats]) -> bytes:
    """ONNX of ``towers.GruTextTower``; ``weights`` are its parameters."""
    graph = Graph()
    numbers, lengths = _inputs(graph)
    state = weights["gru.weight_hh_l0"].shape[1]
    words = graph.transpose(graph.rows(weights["embedding.weight"], numbers), 1, 0, 2)
    biases = [_gates(weights[f"gru.bias_{kind}_l0"]) for kind in ("ih", "hh")]
    # Without the lengths, which OpenVINO's kernel takes no notice of: all states, of which the one after a
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
