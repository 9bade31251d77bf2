"""Our ONNX files are byte for byte those of the onnx package, which only the tests need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY

from crossmodal.models.native import graphs
from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint
from crossmodal.models.runtimes import onnx_file
from crossmodal.models.runtimes.graph import Graph

onnx = pytest.importorskip("onnx")

TYPES = ("float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "bool", "float16", "float64")


def image_network(name: str) -> bytes:
    checkpoint = NativeCheckpoint.open(SHIPPED[name], name)
    return graphs.image_graph(checkpoint.image_weights(), checkpoint.preprocessing)


def text_network(name: str) -> bytes:
    checkpoint = NativeCheckpoint.open(SHIPPED[name], name)
    return graphs.text_graph(checkpoint.text_weights(), checkpoint.text)


def read(content: bytes) -> Any:
    """The file as the onnx package reads it, after its own checks."""
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("network", [image_network, text_network])
@pytest.mark.parametrize("name", SHIPPED)
def test_the_networks_of_shipped_models_are_what_onnx_writes(name: str, network: Any) -> None:
    content = network(name)
    # Compared by hand: pytest would print both in full.
    assert read(content).SerializeToString() == content, "written again by onnx, it is another file"


def test_a_graph_is_the_one_that_onnx_helpers_make() -> None:
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    graph = Graph()
    x = graph.input("x", np.float32, ("n", 3))
    product = graph.apply("Gemm", x, graph.constant(weight), alpha=0.5, transB=0)
    shaped = graph.transpose(graph.gelu(product, "tanh"), 1, 0)
    graph.output(graph.reshape(shaped, (-1,)), "y", ("m",))

    helper = onnx.helper
    nodes = [
        helper.make_node("Gemm", ["x", "c0"], ["v0"], alpha=0.5, transB=0),
        helper.make_node("Gelu", ["v0"], ["v1"], approximate="tanh"),
        helper.make_node("Transpose", ["v1"], ["v2"], perm=[1, 0]),
        helper.make_node("Reshape", ["v2", "c1"], ["v3"]),
        helper.make_node("Identity", ["v3"], ["y"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(weight, "c0"),
        onnx.numpy_helper.from_array(np.array([-1], np.int64), "c1"),
    ]
    inputs = [helper.make_tensor_value_info("x", 1, ["n", 3])]
    outputs = [helper.make_tensor_value_info("y", 1, ["m"])]
    made = helper.make_model(
        helper.make_graph(nodes, "network", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    assert graph.serialize() == made.SerializeToString()
    read(graph.serialize())


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (300,), (2, 0, 3), (2, 3, 4)])
def test_arrays_of_every_type_and_shape_come_back(name: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(name)
    content = bytes(onnx_file.tensor("weights", array))
    assert content == onnx.numpy_helper.from_array(array, "weights").SerializeToString()
    assert onnx_file.type_number(array.dtype) == onnx.helper.np_dtype_to_tensor_dtype(array.dtype)


def test_arrays_in_any_order_of_memory_are_written_by_rows() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = bytes(onnx_file.tensor("x", rows))
    assert bytes(onnx_file.tensor("x", np.asfortranarray(rows))) == expected
    assert bytes(onnx_file.tensor("x", rows.astype(">f4"))) == expected
    assert bytes(onnx_file.tensor("x", np.repeat(rows, 2, axis=1)[:, ::2])) == expected


@pytest.mark.parametrize(
    "value", [0, 1, -1, 127, 128, 2**31, -(2**31), 2**62, 0.0, 0.1, -1e30, "", "é", [1, -2, 300], True]
)
def test_attributes_of_every_kind_are_what_onnx_writes(value: Any) -> None:
    ours = bytes(onnx_file.node("Op", ["a", ""], ["b"], {"z": value, "a": 1}))
    assert ours == onnx.helper.make_node("Op", ["a", ""], ["b"], z=value, a=1).SerializeToString()


@pytest.mark.parametrize("value", [None, [], [1.5], ["x"], {}])
def test_an_attribute_of_another_kind_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="the attribute axis is neither a number"):
        onnx_file.node("Op", [], [], {"axis": value})


def test_an_array_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="not with complex128"):
        onnx_file.tensor("x", np.zeros(2, np.complex128))


def test_a_file_beyond_two_gibibytes_is_refused() -> None:
    # Repeated, so that it takes no memory.
    block = onnx_file.tensor("c", np.zeros(2**28, np.uint8))
    with pytest.raises(ValueError, match="an ONNX file at most 2,147,483,647"):
        onnx_file.model("network", [], [], [], [block] * 8, opset=20, ir_version=9)


def test_networks_are_made_without_the_onnx_package(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "sys.modules['onnx'] = None\n"
        "from pathlib import Path\n"
        "from crossmodal.models import load_text_encoder\n"
        "encoder = load_text_encoder('vse', cache=Path(sys.argv[1]), runtime='openvino')\n"
        "assert encoder.encode(['a dog']).shape == (1, 512)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=REPOSITORY, check=True, timeout=120)
