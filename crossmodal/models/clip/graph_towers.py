"""The towers of ``towers`` as graphs that OpenVINO and onnxruntime compute."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from crossmodal.models.clip.towers import Activation, Block, ImageTower, Linear, Norm, TextTower, Transformer
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.runtimes.graph import Graph, Value

__all__ = ["image_graph", "text_graph"]

Floats = npt.NDArray[np.float32]


def image_graph(tower: ImageTower, preprocessing: ImagePreprocessing) -> bytes:
    """ONNX: ``pixels`` uint8 (n, size, size, 3) to ``vectors`` float32 (n, dimension) of any length."""
    graph = Graph()
    width, _, side, _ = tower.patches.shape
    size = preprocessing.size
    pixels = graph.cast(graph.input("pixels", np.uint8, ("n", size, size, 3)), np.float32)
    mean, std = (np.array(values, np.float32) * 255 for values in (preprocessing.mean, preprocessing.std))
    scaled = graph.multiply(graph.add(pixels, graph.constant(-mean)), graph.constant(1 / std))
    x = graph.convolution(graph.transpose(scaled, 0, 3, 1, 2), _array(tower.patches), stride=side)
    x = graph.transpose(graph.reshape(x, (0, width, -1)), 0, 2, 1)
    # The place before the patches is the same for each photo; it has to be repeated as often as there are.
    first = graph.constant((_array(tower.first) + _array(tower.positions)[0])[None, None])
    counts = graph.concatenate([graph.length(x, 0), graph.integers(1, 1)], 0)
    rest = graph.add(x, graph.constant(_array(tower.positions)[None, 1:]))
    x = graph.concatenate([graph.apply("Expand", first, counts), rest], 1)
    if tower.norm_before is not None:
        x = _norm(graph, x, tower.norm_before)
    if tower.pool == "first":
        pooled = _norm(graph, _read(graph, x, tower.transformer, None), tower.norm_after)
    else:
        x = _blocks(graph, x, tower.transformer.blocks, tower.transformer, causal=None)
        x = x if tower.norm_pooled else _norm(graph, x, tower.norm_after)
        pooled = graph.mean(graph.slice(x, 1, 1, len(tower.positions)), 1)
        pooled = _norm(graph, pooled, tower.norm_after) if tower.norm_pooled else pooled
    if tower.projection is not None:
        pooled = graph.linear(pooled, _array(tower.projection.T))
    return _finished(graph, pooled, width if tower.projection is None else tower.projection.shape[1])


def text_graph(tower: TextTower) -> bytes:
    """ONNX: ``tokens`` int64 (n, length) and ``places`` int64 (n, 1), which of them is read, to ``vectors``
    float32 (n, dimension) of any length."""
    graph = Graph()
    context, width = tower.positions.shape
    tokens = graph.input("tokens", np.int64, ("n", "length"))
    places = graph.input("places", np.int64, ("n", 1))
    starts, axes = graph.integers(0), graph.integers(0)
    positions = graph.apply(
        "Slice", graph.constant(_array(tower.positions)), starts, graph.length(tokens, 1), axes
    )
    x = graph.add(graph.rows(_array(tower.words), tokens), positions)
    x = _read(graph, x, tower.transformer, places, causal=context if tower.causal else None)
    pooled = _norm(graph, x, tower.norm)
    if tower.projection is None:
        return _finished(graph, pooled, width)
    return _finished(graph, _linear(graph, pooled, tower.projection), len(tower.projection.weight))


def _finished(graph: Graph, vectors: Value, dimension: int) -> bytes:
    graph.output(vectors, "vectors", ("n", dimension))
    return graph.serialize()


def _blocks(
    graph: Graph, x: Value, blocks: Sequence[Block], transformer: Transformer, *, causal: int | None
) -> Value:
    for block in blocks:
        inner = _linear(graph, _norm(graph, x, block.attention_norm), block.attention_in)
        width = len(block.attention_out.weight)
        attended = graph.attention(inner, heads=transformer.heads, width=width, causal=causal)
        x = graph.add(x, _linear(graph, attended, block.attention_out))
        x = _fed(graph, x, block, transformer.activation)
    return x


def _read(
    graph: Graph, x: Value, transformer: Transformer, places: Value | None, *, causal: int | None = None
) -> Value:
    """What all blocks make of one place of each row, the first where ``places`` is None: (n, width).

    The last block computes only that place, as in ``torch_towers``.
    """
    *blocks, last = transformer.blocks
    x = _blocks(graph, x, blocks, transformer, causal=causal)
    width, heads = len(last.attention_out.weight), transformer.heads
    inner = _norm(graph, x, last.attention_norm)
    query_part, rest = last.attention_in.split(width)
    query = _linear(graph, _place(graph, inner, places), query_part)
    query = graph.multiply(query, graph.number(1 / math.sqrt(width // heads)))
    query = graph.reshape(query, (0, heads, 1, width // heads))
    split = graph.reshape(_linear(graph, inner, rest), (0, 0, 2, heads, width // heads))
    parts = graph.transpose(split, 2, 0, 3, 1, 4)
    key, value = (graph.select(parts, 0, number) for number in range(2))
    scores = graph.apply("MatMul", query, graph.transpose(key, 0, 1, 3, 2))
    if causal is not None and places is not None:
        scores = graph.add(scores, _later(graph, x, places, causal))
    mixed = graph.apply("MatMul", graph.apply("Softmax", scores, axis=-1), value)
    attended = _linear(graph, graph.reshape(mixed, (0, width)), last.attention_out)
    return _fed(graph, graph.add(_place(graph, x, places), attended), last, transformer.activation)


def _place(graph: Graph, x: Value, places: Value | None) -> Value:
    """One place of each row: (n, length, width) to (n, width)."""
    return graph.select(x, 1, 0) if places is None else graph.apply("GatherND", x, places, batch_dims=1)


def _later(graph: Graph, x: Value, places: Value, longest: int) -> Value:
    """-inf where a row of ``x`` goes on after its place, to be added to scores (n, heads, 1, length)."""
    numbers = graph.constant(np.arange(longest, dtype=np.int64))
    numbers = graph.apply("Slice", numbers, graph.integers(0), graph.length(x, 1), graph.integers(0))
    later = graph.apply("Greater", numbers, places)
    added = graph.apply("Where", later, graph.number(-np.inf), graph.number(0))
    return graph.apply("Unsqueeze", added, graph.integers(1, 2))


def _fed(graph: Graph, x: Value, block: Block, activation: Activation) -> Value:
    inner = _linear(graph, _norm(graph, x, block.feed_norm), block.feed_in)
    return graph.add(x, _linear(graph, graph.gelu(inner, activation), block.feed_out))


def _linear(graph: Graph, x: Value, linear: Linear) -> Value:
    return graph.linear(x, _array(linear.weight), None if linear.bias is None else _array(linear.bias))


def _norm(graph: Graph, x: Value, norm: Norm) -> Value:
    return graph.layer_norm(x, _array(norm.weight), _array(norm.bias), norm.epsilon)


def _array(tensor: Tensor) -> Floats:
    return np.asarray(tensor.float().numpy())
