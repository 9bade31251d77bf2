"""Networks as ONNX graphs, made from numpy weights without torch and without an exporter.

OpenVINO and onnxruntime both read them, so a network that torch isn't needed for is described once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NewType

import numpy as np
import numpy.typing as npt

from crossmodal.models.runtimes import onnx_file

__all__ = ["Gelu", "Graph", "Value"]

# A tensor of a graph, by its name there.
Value = NewType("Value", str)

Floats = npt.NDArray[np.float32]
Gelu = Literal["erf", "tanh", "quick"]

# The first with Gelu; LayerNormalization is there since 17.
_OPSET = 20
# What belongs to opset 20, so that older runtimes read it too.
_IR_VERSION = 9

# torch.nn.functional.normalize's.
_SHORTEST = 1e-12


class Graph:
    """A network under construction: each method adds one operation and returns its result.

    Axes of unknown length are written as names: ``graph.input("pixels", np.uint8, ("n", 224, 224, 3))``.
    Weights are float32 and shaped as torch has them: linear (outputs, inputs), convolutions (outputs,
    inputs / groups, height, width).
    """

    def __init__(self) -> None:
        self._nodes: list[onnx_file.Message] = []
        self._constants: list[onnx_file.Message] = []
        self._inputs: list[onnx_file.Message] = []
        self._outputs: list[onnx_file.Message] = []

    def input(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> Value:
        """An input of the network."""
        self._inputs.append(onnx_file.tensor_type(name, dtype, shape))
        return Value(name)

    def output(self, value: Value, name: str, shape: Sequence[int | str]) -> None:
        """Makes ``value``, float32 of ``shape``, an output of the network called ``name``."""
        self._add("Identity", [value], name=name)
        self._outputs.append(onnx_file.tensor_type(name, np.float32, shape))

    def constant(self, array: npt.NDArray[Any]) -> Value:
        """An array of any type as a value of the graph; weights come in through here."""
        name = f"c{len(self._constants)}"
        self._constants.append(onnx_file.tensor(name, array))
        return Value(name)

    def apply(self, operator: str, *inputs: Value, **attributes: Any) -> Value:
        """Any ONNX operator with one output; the other methods are made of it."""
        return self._add(operator, list(inputs), attributes=attributes)

    def number(self, value: float) -> Value:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def integers(self, *values: int) -> Value:
        """An int64 vector, as shapes and axes are."""
        return self.constant(np.array(values, np.int64))

    def cast(self, x: Value, dtype: npt.DTypeLike) -> Value:
        """``x`` as another type."""
        return self.apply("Cast", x, to=onnx_file.type_number(dtype))

    def add(self, x: Value, y: Value) -> Value:
        """The sum, with broadcasting."""
        return self.apply("Add", x, y)

    def multiply(self, x: Value, y: Value) -> Value:
        """The product, with broadcasting."""
        return self.apply("Mul", x, y)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """As numpy's; 0 keeps the axis that is there, -1 is what is left."""
        return self.apply("Reshape", x, self.integers(*shape))

    def transpose(self, x: Value, *axes: int) -> Value:
        """As numpy's."""
        return self.apply("Transpose", x, perm=list(axes))

    def concatenate(self, parts: Sequence[Value], axis: int) -> Value:
        """As numpy's; no broadcasting."""
        return self.apply("Concat", *parts, axis=axis)

    def slice(self, x: Value, axis: int, start: int, stop: int) -> Value:
        """``x[start:stop]`` along ``axis``."""
        limits = (self.integers(number) for number in (start, stop, axis))
        return self.apply("Slice", x, *limits)

    def select(self, x: Value, axis: int, position: int) -> Value:
        """One position of ``axis``, which disappears."""
        return self.apply("Gather", x, self.constant(np.array(position, np.int64)), axis=axis)

    def rows(self, table: Floats, numbers: Value) -> Value:
        """An embedding: ``table[numbers]``, integers (...) to (..., width)."""
        return self.apply("Gather", self.constant(table), numbers, axis=0)

    def relu(self, x: Value) -> Value:
        """max(x, 0)."""
        return self.apply("Relu", x)

    def sigmoid(self, x: Value) -> Value:
        """1 / (1 + exp(-x))."""
        return self.apply("Sigmoid", x)

    def gelu(self, x: Value, kind: Gelu = "erf") -> Value:
        """GELU (Hendrycks and Gimpel, 2016): exact, by its tanh approximation, or x * sigmoid(1.702 x)."""
        if kind == "quick":
            return self.multiply(x, self.sigmoid(self.multiply(x, self.number(1.702))))
        return self.apply("Gelu", x, approximate="tanh" if kind == "tanh" else "none")

    def linear(self, x: Value, weight: Floats, bias: Floats | None = None) -> Value:
        """``x @ weight.T + bias`` over the last axis."""
        product = self.apply("MatMul", x, self.constant(weight.T))
        return product if bias is None else self.add(product, self.constant(bias))

    def convolution(
        self,
        x: Value,
        weight: Floats,
        bias: Floats | None = None,
        *,
        stride: int = 1,
        padding: int | Sequence[int] = 0,
        groups: int = 1,
    ) -> Value:
        """A convolution over (N, channels, height, width); ``padding`` all around, or (top, left, bottom,
        right)."""
        sides = [padding] * 4 if isinstance(padding, int) else list(padding)
        inputs = [x, self.constant(weight)] + ([] if bias is None else [self.constant(bias)])
        return self.apply("Conv", *inputs, strides=[stride, stride], pads=sides, group=groups)

    def layer_norm(self, x: Value, weight: Floats, bias: Floats, epsilon: float) -> Value:
        """Layer normalisation over the last axis."""
        return self.apply(
            "LayerNormalization", x, self.constant(weight), self.constant(bias), axis=-1, epsilon=epsilon
        )

    def attention(
        self,
        queries_keys_values: Value,
        *,
        heads: int,
        width: int,
        added: Value | None = None,
        causal: int | None = None,
    ) -> Value:
        """Self-attention of ``heads`` heads: (N, length, 3 * width) to (N, length, width).

        The input holds queries, keys and values one after the other. ``added`` is added to the scores (N,
        heads, length, length) by broadcasting: -inf, or a large negative number, where nothing is to be seen.
        ``causal`` is the longest length there can be where no place sees those after it.
        """
        head = width // heads
        split = self.reshape(queries_keys_values, (0, 0, 3, heads, head))
        parts = self.transpose(split, 2, 0, 3, 1, 4)
        query, key, value = (self.select(parts, 0, number) for number in range(3))
        query = self.multiply(query, self.number(1 / math.sqrt(head)))
        scores = self.apply("MatMul", query, self.transpose(key, 0, 1, 3, 2))
        if causal is not None:
            scores = self.add(scores, self._causal_mask(queries_keys_values, causal))
        if added is not None:
            scores = self.add(scores, added)
        mixed = self.apply("MatMul", self.apply("Softmax", scores, axis=-1), value)
        return self.reshape(self.transpose(mixed, 0, 2, 1, 3), (0, 0, width))

    def length(self, x: Value, axis: int) -> Value:
        """The length of an axis, as an int64 vector of one number."""
        return self.apply("Shape", x, start=axis, end=axis + 1)

    def mean(self, x: Value, *axes: int) -> Value:
        """The mean over ``axes``, which disappear."""
        return self.apply("ReduceMean", x, self.integers(*axes), keepdims=0)

    def normalize(self, x: Value) -> Value:
        """Rows of unit length along the last axis."""
        length = self.apply("ReduceL2", x, self.integers(-1), keepdims=1)
        return self.apply("Div", x, self.apply("Max", length, self.number(_SHORTEST)))

    def serialize(self) -> bytes:
        """The graph as an ONNX file. Raises ValueError where it would be larger than protobuf's 2 GiB."""
        return onnx_file.model(
            "network",
            self._nodes,
            self._inputs,
            self._outputs,
            self._constants,
            opset=_OPSET,
            ir_version=_IR_VERSION,
        )

    def _causal_mask(self, x: Value, longest: int) -> Value:
        """-inf above the diagonal, as much of it as ``x`` (N, length, ...) is long."""
        mask = self.constant(np.triu(np.full((longest, longest), -np.inf, np.float32), 1))
        length = self.length(x, 1)
        ends = self.concatenate([length, length], 0)
        return self.apply("Slice", mask, self.integers(0, 0), ends, self.integers(0, 1))

    def _add(
        self,
        operator: str,
        inputs: Sequence[Value],
        *,
        name: str | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> Value:
        result = Value(name or f"v{len(self._nodes)}")
        self._nodes.append(onnx_file.node(operator, inputs, [result], attributes or {}))
        return result
