"""Sentences through a transformer: any text, as the trained network computes it, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from native_checkpoints import DIMENSION, PIECES, SMALL, SQUASH, padded, save_random_checkpoint, toy_captions
from photos import REPOSITORY

from crossmodal.errors import ModelError
from crossmodal.models import (
    TextEncoder,
    identify_model,
    load_image_encoder,
    load_preprocessing,
    load_text_encoder,
)
from crossmodal.models.encoders import encode_by_length
from crossmodal.models.native.checkpoint import NativeCheckpoint
from crossmodal.models.native.encoders import write_probe_vectors
from crossmodal.models.native.graphs import text_graph
from crossmodal.models.native.text_config import TransformerConfig
from crossmodal.models.native.towers import load_text_tower
from crossmodal.models.native.vocabularies import WordPieces
from crossmodal.models.native.vocabularies import padded as network_inputs
from crossmodal.models.runtimes.forms import ONNX_F32, OPENVINO_F32
from crossmodal.models.runtimes.networks import open_network

TEXTS = ["", "dog", "a WOMAN runs", "?!", "dog " * 100, *toy_captions()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small")
    save_random_checkpoint(path)
    write_probe_vectors(NativeCheckpoint.open(path, str(path)))
    return path


@cache
def encoder_of(folder: Path) -> TextEncoder:
    return load_text_encoder(str(folder))


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_every_runtime_computes_what_the_trained_network_does(
    layers: int, quantize: bool, tmp_path: Path
) -> None:
    config = replace(SMALL, layers=layers)
    trained = save_random_checkpoint(tmp_path, config, quantize_text=quantize)
    checkpoint = NativeCheckpoint.open(tmp_path, "small")
    assert checkpoint.text == config
    tower = load_text_tower(checkpoint)
    vocabulary = WordPieces(PIECES, config.positions)
    batch = padded(vocabulary, TEXTS)
    with torch.inference_mode():
        expected, before = tower(*batch).numpy(), trained(*batch).numpy()
    vectors = load_text_encoder(str(tmp_path), runtime="torch").encode(TEXTS)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    for form in (OPENVINO_F32, ONNX_F32):
        network = open_network(form, lambda: text_graph(checkpoint.text_weights(), config), threads=1)
        found = encode_by_length(
            [vocabulary.numbers_of(text) for text in TEXTS],
            lambda rows, network=network: network.run(*network_inputs(rows)),
            DIMENSION,
            batch=4,
        )
        np.testing.assert_allclose(found, expected, atol=1e-5)
    # Rounding moves the vectors a little; these texts are far more apart.
    assert (vectors * before).sum(axis=1).min() > 0.995
    as_read = {tuple(vocabulary.numbers_of(text)) for text in TEXTS}
    assert len(np.unique(vectors.round(3), axis=0)) == len(as_read)


def test_equal_captions_of_a_batch_have_equal_vectors() -> None:
    # To the last bit: they tie, and are ranked by id.
    texts = ["a cup of coffee", "a dog runs over green grass", "A cup of coffee", "a cup of coffee"]
    vectors = load_text_encoder("clip-mini").encode(texts)
    np.testing.assert_array_equal(vectors[[0, 0]], vectors[[2, 3]])
    assert vectors[0] @ vectors[1] < 0.9


def test_attention_sees_the_order_of_words(folder: Path) -> None:
    one, other = encoder_of(folder).encode(["dog runs a woman", "woman runs a dog"])
    assert one @ other < 0.99


@given(st.lists(st.text(max_size=40), max_size=70))
def test_any_strings_get_unit_vectors_that_do_not_depend_on_their_neighbours(
    folder: Path, sentences: list[str]
) -> None:
    encoder = encoder_of(folder)
    vectors = encoder.encode(sentences)
    assert vectors.shape == (len(sentences), DIMENSION)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)
    for sentence, vector in zip(sentences[:3], vectors, strict=False):
        np.testing.assert_allclose(encoder.encode([sentence])[0], vector, atol=2e-6)


def test_a_long_text_counts_as_far_as_it_is_read(folder: Path) -> None:
    read = "dog " * (SMALL.positions - 2)
    short, long, longer = encoder_of(folder).encode([read, read + "woman", "woman " + read])
    np.testing.assert_array_equal(short, long)
    assert short @ longer < 0.999


def test_a_checkpoint_is_found_by_its_folder(folder: Path) -> None:
    identity = identify_model(str(folder))
    assert (identity.name, identity.dimension) == (str(folder), DIMENSION)
    assert identity == load_text_encoder(str(folder)).identity == load_image_encoder(str(folder)).identity
    assert load_preprocessing(str(folder)) == SQUASH
    photo = load_image_encoder(str(folder)).encode(np.zeros((1, 224, 224, 3), np.uint8))
    assert photo.shape == (1, DIMENSION)


def test_neither_torch_nor_transformers_is_imported(folder: Path) -> None:
    script = (
        "import sys\n"
        "from crossmodal.models import TextEncoder, identify_model, load_text_encoder\n"
        "name = sys.argv[1]\n"
        "identify_model(name)\n"
        "assert 'tokenizers' not in sys.modules\n"
        "assert load_text_encoder(name).encode(['a dog']).shape[0] == 1\n"
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script, str(folder)], cwd=REPOSITORY, check=True, timeout=60)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": 3}, r"layers\.2\.\S+ should have the shape \(.*\) and has None"),
        ({"layers": 1}, r"layers\.1\.\S+ should have the shape None and has"),
        ({"positions": 12}, r"positions should have the shape \(12, 48\) and has \(24, 48\)"),
        ({"heads": 5}, r"width \(48\) must divide by its heads \(5\)"),
        ({"layers": 0}, r"layers must be at least 1, not 0"),
        ({"kind": "lstm"}, r"not a text tower's configuration: .*'lstm'"),
        ({"depth": 3}, r"not a text tower's configuration: .*depth"),
        ({"width": "wide"}, r"not a text tower's configuration: .*'wide'"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    save_random_checkpoint(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["text"] |= change
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=said):
        load_text_encoder(str(tmp_path))


def test_a_vocabulary_of_another_length_is_named(tmp_path: Path) -> None:
    save_random_checkpoint(tmp_path)
    WordPieces(PIECES[:-1]).save(tmp_path / "vocabulary.txt")
    with pytest.raises(ModelError, match=rf"embedding\.weight .* \({len(PIECES) + 3}, 48\) and has"):
        load_text_encoder(str(tmp_path))
    with pytest.raises(ModelError, match="don't fit its configuration and vocabulary"):
        load_text_tower(NativeCheckpoint.open(tmp_path, "small"))


def test_three_positions_are_the_least() -> None:
    assert TransformerConfig(positions=3).positions == 3
    with pytest.raises(ModelError, match="at least 3 positions"):
        TransformerConfig(positions=2)
