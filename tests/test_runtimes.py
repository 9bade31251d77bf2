"""What computes a model's vectors changes their last digits and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import REPOSITORY, TOY_IMAGES
from hypothesis import given, settings
from hypothesis import strategies as st
from native_checkpoints import DIMENSION, PIECES, SMALL, padded, save_random_checkpoint, toy_captions
from torch.nn import functional as F

from crossmodal.errors import ModelError
from crossmodal.images import decode_image
from crossmodal.models import ImageEncoder, TextEncoder, load_image_encoder, load_text_encoder
from crossmodal.models.encoders import encode_by_length, encode_in_batches
from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint
from crossmodal.models.native.vocabularies import WordPieces
from crossmodal.models.runtimes.choice import FAITHFUL, centred_cosine, photo_probes, sentence_probes
from crossmodal.models.runtimes.forms import ONNX_F32, OPENVINO_F32
from crossmodal.models.runtimes.graph import Graph
from crossmodal.models.runtimes.networks import Network, open_network

Floats = npt.NDArray[np.float32]
RUNTIMES = ("openvino", "onnx")


@cache
def image_encoder(name: str, runtime: str) -> ImageEncoder:
    return load_image_encoder(name, runtime=runtime)


@cache
def text_encoder(name: str, runtime: str) -> TextEncoder:
    return load_text_encoder(name, runtime=runtime)


@cache
def toy_squares(name: str) -> npt.NDArray[np.uint8]:
    preprocessing = image_encoder(name, "torch").preprocessing
    photos = sorted(TOY_IMAGES.glob("*.jpg"))
    return np.stack([preprocessing.crop(decode_image(path.read_bytes())) for path in photos])


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", SHIPPED)
def test_vectors_and_rankings_are_those_of_the_plain_model(name: str, runtime: str) -> None:
    vectors = {}
    for used in ("torch", runtime):
        photos = image_encoder(name, used).encode(toy_squares(name))
        captions = text_encoder(name, used).encode(toy_captions())
        assert image_encoder(name, used).runtime.split()[0] == used
        vectors[used] = photos, captions
    for found, plain in zip(vectors[runtime], vectors["torch"], strict=True):
        assert found.dtype == np.float32
        assert centred_cosine(found, plain) >= FAITHFUL
        np.testing.assert_allclose(np.linalg.norm(found.astype(np.float64), axis=1), 1, atol=1e-6)
    scores = {used: captions @ photos.T for used, (photos, captions) in vectors.items()}
    np.testing.assert_allclose(scores[runtime], scores["torch"], atol=0.015)
    # The best photo is another one only where the plain model is undecided as well.
    best_two = np.sort(scores["torch"], axis=1)[:, -2:]
    decided = best_two[:, 1] - best_two[:, 0] > 0.03
    assert decided.sum() > 25
    first = {used: values.argmax(axis=1)[decided] for used, values in scores.items()}
    np.testing.assert_array_equal(first[runtime], first["torch"])


@pytest.mark.parametrize("name", SHIPPED)
def test_auto_takes_a_faithful_runtime_that_is_not_the_plain_one(name: str) -> None:
    images, texts = image_encoder(name, "auto"), text_encoder(name, "auto")
    assert {images.runtime.split()[0], texts.runtime.split()[0]} == {"openvino"}
    assert text_encoder(name, "torch").runtime == "torch f32"
    assert images.identity == texts.identity == image_encoder(name, "torch").identity


def test_probes_are_of_many_kinds() -> None:
    photos = photo_probes(image_encoder("vse", "torch").preprocessing)
    assert photos.shape == (20, 224, 224, 3)
    assert len({photo.tobytes() for photo in photos}) == 20
    sentences = sentence_probes()
    assert len(set(sentences)) == 40
    words = [len(sentence.split()) for sentence in sentences]
    assert min(words) == 1
    assert max(words) > 20


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_threads_and_streams_do_not_change_a_bit(runtime: str) -> None:
    # As many as two runs and one more take.
    squares, captions = toy_squares("clip-mini")[:9], toy_captions()[:33]
    expected, many = [], []
    for load, items in ((load_image_encoder, squares), (load_text_encoder, captions)):
        one, three = (load("clip-mini", runtime=runtime, threads=threads) for threads in (1, 3))
        assert (one.concurrency, three.concurrency) == (1, 3)
        expected.append(one.encode(items))
        many.append(three)
    with ThreadPoolExecutor(4) as threads:
        photos = [threads.submit(many[0].encode, squares) for _ in range(2)]
        texts = [threads.submit(many[1].encode, captions) for _ in range(4)]
    for vectors, done in ((expected[0], photos), (expected[1], texts)):
        for result in done:
            np.testing.assert_array_equal(result.result(), vectors)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_any_sentence_is_encoded_without_its_neighbours_padding(runtime: str, tmp_path: Path) -> None:
    trained = save_random_checkpoint(tmp_path)
    texts = ["", "dog", "a WOMAN runs", "?!", "dog " * 100, *toy_captions()]
    with torch.inference_mode():
        expected = trained(*padded(WordPieces(PIECES, SMALL.positions), texts)).numpy()
    encoder = load_text_encoder(str(tmp_path), runtime=runtime, cache=tmp_path / "cache")
    assert encoder.encode([]).shape == (0, DIMENSION)
    vectors = encoder.encode(texts)
    assert centred_cosine(vectors, expected) >= FAITHFUL
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert centred_cosine(alone, expected) >= FAITHFUL
    np.testing.assert_allclose(alone, vectors, atol=1e-6)
    if encoder.independent:
        np.testing.assert_array_equal(alone, vectors)
    backwards = encoder.encode([*texts, *reversed(texts)])
    np.testing.assert_array_equal(backwards[: len(texts)], backwards[len(texts) :][::-1])


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    save_random_checkpoint(tmp_path)
    weights = load_file(tmp_path / "image.safetensors")
    del weights["cnn.conv_head.bias"]
    save_file(weights, tmp_path / "image.safetensors")
    with pytest.raises(ModelError, match=r"don't fit the network: 'cnn\.conv_head\.bias' is missing"):
        load_image_encoder(str(tmp_path), runtime="onnx", cache=tmp_path / "cache")


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), max_size=40),
    st.integers(1, 7),
    st.booleans(),
    st.booleans(),
)
def test_rows_sorted_by_length_come_back_in_order(
    rows: list[list[int]], batch: int, at_once: bool, unpadded: bool
) -> None:
    seen: list[Sequence[Sequence[int]]] = []

    def encode(part: Sequence[Sequence[int]]) -> Floats:
        seen.append(part)
        return np.array([[len(row), sum(row), row[0], row[-1]] for row in part], np.float32)

    with ThreadPoolExecutor(2) as threads:
        found = encode_by_length(
            rows, encode, 4, batch=batch, threads=threads if at_once else None, unpadded=unpadded
        )
    expected = encode(rows) if rows else np.empty((0, 4), np.float32)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-6)
    parts = seen[:-1] if rows else seen
    assert sorted(row for part in parts for row in part) == sorted({tuple(row) for row in rows})
    for part in parts:
        assert len(part) <= batch
        lengths = [len(row) for row in part]
        assert lengths == sorted(lengths)
        assert not unpadded or len(set(lengths)) == 1


def test_an_error_in_a_batch_reaches_the_caller_from_any_thread() -> None:
    def encode(part: Sequence[int]) -> Floats:
        if 5 in part:
            raise RuntimeError("five")
        return np.ones((len(part), 2), np.float32)

    with ThreadPoolExecutor(2) as threads:
        for used in (None, threads):
            with pytest.raises(RuntimeError, match="five"):
                encode_in_batches(list(range(8)), encode, 2, batch=2, threads=used)


def both(graph: Graph) -> list[Network]:
    content = graph.serialize()
    return [open_network(form, lambda: content, threads=1) for form in (OPENVINO_F32, ONNX_F32)]


def test_operations_compute_what_torch_does() -> None:
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=(2, 5, 12)).astype(np.float32)
    weight, bias = (
        numbers.normal(size=(12, 12)).astype(np.float32),
        numbers.normal(size=12).astype(np.float32),
    )
    values, weights, biases = (torch.from_numpy(array) for array in (x, weight, bias))
    graph = Graph()
    y = graph.layer_norm(graph.input("x", np.float32, ("n", "length", 12)), weight[0], bias, 1e-5)
    expected = F.layer_norm(values, (12,), weights[0], biases, 1e-5)
    for kind in ("erf", "tanh", "quick"):
        y = graph.linear(graph.gelu(y, kind), weight, bias)
        if kind == "quick":
            expected = expected * torch.sigmoid(1.702 * expected)
        else:
            expected = F.gelu(expected, approximate="tanh" if kind == "tanh" else "none")
        expected = F.linear(expected, weights, biases)
    graph.output(graph.normalize(y), "y", ("n", "length", 12))
    for network in both(graph):
        np.testing.assert_allclose(network.run(x), F.normalize(expected, dim=-1).numpy(), atol=2e-5)


@pytest.mark.parametrize("causal", [None, 7])
def test_attention_computes_what_torch_does(causal: int | None) -> None:
    x = np.random.default_rng(1).normal(size=(3, 7, 24)).astype(np.float32)
    unseen = np.zeros((3, 1, 1, 7), np.float32)
    unseen[1, :, :, 4:] = -1e9
    graph = Graph()
    inputs = (
        graph.input("x", np.float32, ("n", "length", 24)),
        graph.input("m", np.float32, ("n", 1, 1, "length")),
    )
    graph.output(
        graph.attention(inputs[0], heads=2, width=8, added=inputs[1], causal=causal), "y", ("n", "length", 8)
    )
    parts = torch.from_numpy(x).reshape(3, 7, 3, 2, 4).permute(2, 0, 3, 1, 4)
    mask = torch.from_numpy(unseen).expand(3, 1, 7, 7)
    if causal:
        mask = mask + torch.full((7, 7), -torch.inf).triu(1)
    expected = F.scaled_dot_product_attention(*parts, attn_mask=mask).transpose(1, 2).reshape(3, 7, 8)
    for network in both(graph):
        np.testing.assert_allclose(network.run(x, unseen), expected.numpy(), atol=1e-5)
        short = network.run(x[:1, :3], unseen[:1, :, :, :3])
        assert short.shape == (1, 3, 8)
        if causal:
            np.testing.assert_allclose(short[0], expected.numpy()[0, :3], atol=1e-5)


def test_neither_torch_nor_the_network_is_touched(tmp_path: Path) -> None:
    """What was measured of the model is known; the second start reads what the first one compiled."""
    script = (
        "import sys\n"
        "reached = []\n"
        "sys.addaudithook(lambda event, _: reached.append(event) if event == 'socket.connect' else None)\n"
        "from pathlib import Path\n"
        "import numpy\n"
        "from crossmodal.models import load_image_encoder, load_text_encoder\n"
        "cache = Path(sys.argv[1])\n"
        "images, texts = load_image_encoder('vse', cache=cache), load_text_encoder('vse', cache=cache)\n"
        "assert images.encode(numpy.zeros((1, 224, 224, 3), numpy.uint8)).shape == (1, 512)\n"
        "assert texts.encode(['a dog']).shape == (1, 512)\n"
        "assert not reached\n"
        "heavy = sorted({'torch', 'onnx', 'PIL'} & set(sys.modules))\n"
        "print(images.runtime, '|', texts.runtime, '|', *heavy)\n"
    )

    def start() -> list[str]:
        command = [sys.executable, "-c", script, str(tmp_path)]
        done = subprocess.run(
            command, cwd=REPOSITORY, check=True, timeout=120, capture_output=True, text=True
        )
        return [part.strip() for part in done.stdout.split("|")]

    first, second = start(), start()
    assert first[:2] == second[:2]
    assert all(runtime.startswith("openvino") for runtime in first[:2])
    assert second[2] == ""


@pytest.mark.parametrize("name", SHIPPED)
def test_what_was_measured_of_shipped_models_is_of_their_weights(name: str) -> None:
    import json

    weights = NativeCheckpoint.open(SHIPPED[name], name).identity.weights
    measured = json.loads((SHIPPED[name] / "runtimes.json").read_text(encoding="utf-8"))
    # bfloat16 can be measured where the processor has it, at the first use if not here.
    forms = {OPENVINO_F32, ONNX_F32}
    for tower in ("image", "text"):
        for form in forms:
            values = [
                value for key, value in measured.items() if key.startswith(f"{weights} {tower}: {form},")
            ]
            assert values, f"{name}'s {tower} tower was not measured in {form}"
            assert min(values) >= FAITHFUL
    assert all(key.startswith(weights) for key in measured)
