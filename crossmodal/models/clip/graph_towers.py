"""The towers of ``towers`` as graphs that OpenVINO and onnxruntime compute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from crossmodal.models.clip.towers import Activation, Block, ImageTower, Linear, Norm, TextTower, Transformer
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.runtimes.graph import Graph, Value

__all__ = ["image_graph", "text_graph"]

Floats = npt.NDArray[np.float32]


def image_graph(tower: ImageTower, preprocessing: ImagePreprocessing) -> bytes:
    """ONNX: ``pixels`` uint8 (n, size, size, 3) to ``vectors`` float32 (n, dimension) of any length.

    Raises ValueError where it would be larger than protobuf's 2 GiB.
    """
    graph = _TowerGraph()
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
        x = graph.norm(x, tower.norm_before)
    if tower.pool == "first":
        pooled = graph.norm(graph.read(x, tower.transformer, None), tower.norm_after)
    else:
        x = graph.blocks(x, tower.transformer.blocks, tower.transformer, causal=None)
        x = x if tower.norm_pooled else graph.norm(x, tower.norm_after)
        pooled = graph.mean(graph.slice(x, 1, 1, len(tower.positions)), 1)
        pooled = graph.norm(pooled, tower.norm_after) if tower.norm_pooled else pooled
    return graph.finished(pooled, tower.projection, width)


def text_graph(tower: TextTower) -> bytes:
    """ONNX: ``tokens`` int64 (n, length) and ``places`` int64 (n, 1), which of them is read, to ``vectors``
    float32 (n, dimension) of any length. Raises as ``image_graph`` does."""
    graph = _TowerGraph()
    context, width = tower.positions.shape
    tokens = graph.input("tokens", np.int64, ("n", "length"))
    places = graph.input("places", np.int64, ("n", 1))
    positions = graph.beginning(_array(tower.positions), tokens)
    x = graph.add(graph.rows(_array(tower.words), tokens), positions)
    x = graph.read(x, tower.transformer, places, causal=context if tower.reading.causal else None)
    return graph.finished(graph.norm(x, tower.norm), tower.projection, width)


class _TowerGraph(Graph):
    """A graph of the parts that both towers have."""

    def blocks(
        self, x: Value, blocks: Sequence[Block], transformer: Transformer, *, causal: int | None
    ) -> Value:
        """``blocks`` one after the other; ``causal`` as for ``attention``."""
        for block in blocks:
            inner = self.layer(self.norm(x, block.attention_norm), block.attention_in)
            width = len(block.attention_out.weight)
            attended = self.attention(inner, heads=transformer.heads, width=width, causal=causal)
            x = self.add(x, self.layer(attended, block.attention_out))
            x = self._fed(x, block, transformer.activation)
        return x

    def read(
        self, x: Value, transformer: Transformer, places: Value | None, *, causal: int | None = None
    ) -> Value:
        """What all blocks make of one place of each row, the first where ``places`` is None: (n, width).

        The last block computes only that place, as in ``torch_towers``.
        """
        *blocks, last = transformer.blocks
        x = self.blocks(x, blocks, transformer, causal=causal)
        width, heads = len(last.attention_out.weight), transformer.heads
        head = width // heads
        inner = self.norm(x, last.attention_norm)
        query_part, rest = last.attention_in.split(width)
        query = self.layer(self._place(inner, places), query_part)
        query = self.reshape(self.multiply(query, self.number(1 / math.sqrt(head))), (0, heads, 1, head))
        split = self.reshape(self.layer(inner, rest), (0, 0, 2, heads, head))
        parts = self.transpose(split, 2, 0, 3, 1, 4)
        key, value = (self.select(parts, 0, number) for number in range(2))
        scores = self.apply("MatMul", query, self.transpose(key, 0, 1, 3, 2))
        if causal is not None and places is not None:
            scores = self.add(scores, self._later(x, places, causal))
        mixed = self.apply("MatMul", self.apply("Softmax", scores, axis=-1), value)
        attended = self.layer(self.reshape(mixed, (0, width)), last.attention_out)
        return self._fed(self.add(self._place(x, places), attended), last, transformer.activation)

    def finished(self, pooled: Value, projection: Linear | None, width: int) -> bytes:
        """The serialised graph, whose output is the projection of ``pooled`` (n, width)."""
        if projection is None:
            self.output(pooled, "vectors", ("n", width))
        else:
            self.output(self.layer(pooled, projection), "vectors", ("n", len(projection.weight)))
        return self.serialize()

    def layer(self, x: Value, linear: Linear) -> Value:
        """A linear layer."""
        bias = None if linear.bias is None else _array(linear.bias)
        return self.linear(x, _array(linear.weight), bias)

    def norm(self, x: Value, norm: Norm) -> Value:
        """Layer normalisation."""
        return self.layer_norm(x, _array(norm.weight), _array(norm.bias), norm.epsilon)

    def beginning(self, table: npt.NDArray[Any], x: Value) -> Value:
        """As many rows of ``table`` as ``x`` (n, length, ...) is long."""
        start, axis = self.integers(0), self.integers(0)
        return self.apply("Slice", self.constant(table), start, self.length(x, 1), axis)

    def _fed(self, x: Value, block: Block, activation: Activation) -> Value:
        inner = self.layer(self.norm(x, block.feed_norm), block.feed_in)
        return self.add(x, self.layer(self.gelu(inner, activation), block.feed_out))

    def _place(self, x: Value, places: Value | None) -> Value:
        """One place of each row: (n, length, width) to (n, width)."""
        return self.select(x, 1, 0) if places is None else self.apply("GatherND", x, places, batch_dims=1)

    def _later(self, x: Value, places: Value, longest: int) -> Value:
        """-inf where a row of ``x`` goes on after its place, to be added to scores (n, heads, 1, length)."""
        later = self.apply("Greater", self.beginning(np.arange(longest, dtype=np.int64), x), places)
        added = self.apply("Where", later, self.number(-np.inf), self.number(0))
        return self.apply("Unsqueeze", added, self.integers(1, 2))


def _array(tensor: Tensor) -> Floats:
    return np.asarray(tensor.float().numpy())
