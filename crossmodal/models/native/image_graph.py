"""The photo's tower as a graph: what ``towers.ImageTower`` computes, from the squares' bytes on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from crossmodal.models.native.mobilenet_blocks import same_padding, stages
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.runtimes.graph import Graph, Value

__all__ = ["image_graph"]

Floats = npt.NDArray[np.float32]


def image_graph(weights: Mapping[str, Floats], preprocessing: ImagePreprocessing) -> bytes:
    """ONNX: ``pixels`` uint8 (n, size, size, 3) to ``vectors`` float32 (n, dimension) of unit length.

    ``weights`` are those of ``towers.ImageTower``. Raises KeyError where one is missing.
    """
    tower = _Tower(weights, preprocessing.size)
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


class _Tower:
    """The CNN, layer by layer; ``_side`` is the side of the present feature map, which padding depends on."""

    def __init__(self, weights: Mapping[str, Floats], size: int) -> None:
        self.graph = Graph()
        self._weights = weights
        self._side = size

    def features(self, x: Value) -> Value:
        """As ``mobilenet.MobileNetEdgeTPU``: (n, 3, side, side) to (n, 1280)."""
        x = self.graph.relu(self._convolution(x, "conv_stem", stride=2))
        x = self._convolution(x, "blocks.0.0.conv")
        for number, blocks in enumerate(stages(), start=1):
            for place, block in enumerate(blocks):
                name = f"blocks.{number}.{place}"
                if block.fused:
                    y = self.graph.relu(self._convolution(x, f"{name}.conv_exp", stride=block.stride))
                else:
                    y = self.graph.relu(self._convolution(x, f"{name}.conv_pw"))
                    wide = block.inputs * block.expansion
                    y = self._convolution(y, f"{name}.conv_dw", stride=block.stride, groups=wide)
                    y = self.graph.relu(y)
                y = self._convolution(y, f"{name}.conv_pwl")
                x = self.graph.add(x, y) if block.skip else y
        return self.graph.mean(self.graph.relu(self._convolution(x, "conv_head")), 2, 3)

    def _convolution(self, x: Value, name: str, *, stride: int = 1, groups: int = 1) -> Value:
        weight, bias = (self._weights[f"cnn.{name}.{part}"] for part in ("weight", "bias"))
        before, after = same_padding(self._side, weight.shape[-1], stride)
        self._side = -(-self._side // stride)
        return self.graph.convolution(
            x, weight, bias, stride=stride, padding=(before, before, after, after), groups=groups
        )
