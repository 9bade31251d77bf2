"""The shipped `vse`: its parts against torch and timm, its vectors, and what it really retrieves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from photos import REPOSITORY, SHARED_DATA, toy_photo

from crossmodal.errors import ModelError
from crossmodal.models import (
    ImageEncoder,
    ModelIdentity,
    TextEncoder,
    identify_model,
    load_image_encoder,
    load_preprocessing,
    load_text_encoder,
)
from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint
from crossmodal.models.native.mobilenet import MobileNetEdgeTPU, fold_batch_norm
from crossmodal.models.native.towers import GruTextTower
from crossmodal.models.native.vocabularies import MAX_WORDS, Vocabulary, words_of

SENTENCE = "a brown dog runs through the grass"


@pytest.fixture(scope="module")
def images() -> ImageEncoder:
    return load_image_encoder("vse")


@pytest.fixture(scope="module")
def texts() -> TextEncoder:
    return load_text_encoder("vse")


def square_of(name: str, encoder: ImageEncoder) -> np.ndarray:
    return encoder.preprocessing.crop(np.asarray(toy_photo(name)))


def test_the_shipped_files_are_small_and_described() -> None:
    from safetensors.numpy import load_file

    files = [path for path in SHIPPED["vse"].iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12_000_000
    for name in ("image.safetensors", "text.safetensors"):
        stored = load_file(SHIPPED["vse"] / name)
        assert {value.dtype for value in stored.values()} == {np.dtype(np.int8), np.dtype(np.float16)}
    card = (SHIPPED["vse"] / "MODEL_CARD.md").read_text(encoding="utf-8")
    training = json.loads((SHIPPED["vse"] / "config.json").read_text(encoding="utf-8"))["training"]
    for direction in ("text2image", "image2text"):
        assert f"{training['metrics'][direction]['hit@10']:.4g}" in card
    for said in (training["command"], f"Seed {training['config']['seed']}", "flickr8k"):
        assert said in card


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_configuration_is_the_committed_one(name: str) -> None:
    from crossmodal.training import TrainingConfig

    file = {"clip-mini": "clip-mini.json", "vse": "vse.json"}[name]
    committed = TrainingConfig.load(REPOSITORY / "crossmodal/training/configs" / file)
    stored = json.loads((SHIPPED[name] / "config.json").read_text(encoding="utf-8"))["training"]["config"]
    assert committed.to_json() == stored


def test_the_plain_text_encoder_computes_what_the_trained_network_does() -> None:
    texts = load_text_encoder("vse", runtime="torch")
    checkpoint = NativeCheckpoint.open(SHIPPED["vse"], "vse")
    vocabulary = checkpoint.vocabulary()
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.text_weights().items()}
    words, word_dimension = weights["embedding.weight"].shape
    tower = GruTextTower(words, word_dimension, checkpoint.dimension).eval()
    tower.load_state_dict(weights)
    sentences = [SENTENCE, "two children", "", "zzz unknownword", " ".join(["a man"] * 40)]
    rows = [vocabulary.numbers_of(sentence) for sentence in sentences]
    padded = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.tensor(row)
    with torch.inference_mode():
        expected = tower(padded, [len(row) for row in rows]).numpy()
    np.testing.assert_allclose(texts.encode(sentences), expected, atol=2e-6)


def test_the_cnn_computes_what_timm_does() -> None:
    from safetensors.torch import load_file

    from crossmodal.models.libraries import import_torchvision

    path = SHARED_DATA / "imagenet-init" / "mobilenet_edgetpu_100.safetensors"
    if not path.is_file():
        pytest.skip("the ImageNet initialisation imagenet-init is not there")
    import_torchvision()
    import timm

    state = {name: value.float() for name, value in load_file(path).items()}
    generator = torch.Generator().manual_seed(0)
    for name, value in state.items():
        # The file's batch normalisation does nothing; here it must do something, to be folded rightly.
        if ".bn" in name or name.startswith("bn"):
            noise = torch.rand(value.shape, generator=generator)
            state[name] = (
                value * (0.8 + 0.4 * noise) if name.endswith(("weight", "var")) else value + 0.1 * noise
            )
    reference: Any = timm.create_model("mobilenet_edgetpu_100", pad_type="same", num_classes=1000)
    reference.blocks[0][0].bn1.act = torch.nn.Identity()
    reference.load_state_dict(state, strict=False)
    reference.eval()
    ours = MobileNetEdgeTPU().eval()
    ours.load_state_dict(fold_batch_norm(state))
    for side in (224, 97):
        x = torch.rand(2, 3, side, side, generator=generator) * 2 - 1
        with torch.inference_mode():
            expected = reference.forward_head(reference.forward_features(x), pre_logits=True)
            difference = (ours(x) - expected).abs().max() / expected.abs().max()
        assert difference < 1e-5


@pytest.mark.parametrize("model", SHIPPED)
def test_the_blocks_that_stayed_frozen_are_the_imagenet_initialisation_rounded(model: str) -> None:
    from safetensors.torch import load_file

    path = SHARED_DATA / "imagenet-init" / "mobilenet_edgetpu_100.safetensors"
    if not path.is_file():
        pytest.skip("the ImageNet initialisation imagenet-init is not there")
    folded = fold_batch_norm(load_file(path))
    shipped = NativeCheckpoint.open(SHIPPED[model], model).image_weights()
    # frozen_blocks of clip-mini's configuration, whose CNN vse took over.
    frozen = ("conv_stem.", "blocks.0.", "blocks.1.")

    def unchanged(name: str, value: torch.Tensor) -> bool:
        half, stored = value.half().float().numpy(), shipped[name]
        if value.ndim == 1:
            return np.array_equal(stored, half)
        # int8 with a scale for each 128 values of an output: half a step, and the scale's own rounding.
        largest = np.abs(half.reshape(len(half), -1)).max(axis=1)
        return bool((np.abs(stored - half).reshape(len(half), -1).max(axis=1) <= 0.0045 * largest).all())

    same = {name: unchanged(f"cnn.{name}", value) for name, value in folded.items()}
    assert {name for name, equal in same.items() if equal} == {n for n in same if n.startswith(frozen)}
    beside = {name for name in folded if f"cnn.beside.{name}" in shipped}
    assert all(unchanged(f"cnn.beside.{name}", folded[name]) for name in beside)
    assert len(beside) == len({n for n in folded if not n.startswith((*frozen, "blocks.2."))})


@given(st.lists(st.text(max_size=80), max_size=70))
def test_any_strings_get_unit_vectors_that_do_not_depend_on_their_neighbours(sentences: list[str]) -> None:
    encoder = load_text_encoder("vse")
    vectors = encoder.encode(sentences)
    assert vectors.shape == (len(sentences), encoder.identity.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)
    for sentence, vector in zip(sentences[:3], vectors, strict=False):
        np.testing.assert_allclose(encoder.encode([sentence])[0], vector, atol=1e-6)


def test_batches_of_any_size_give_the_same_vectors(images: ImageEncoder) -> None:
    squares = np.stack([square_of(name, images) for name in ("cat.jpg", "coffee.jpg", "rocket.jpg")])
    many = images.encode(np.concatenate([squares] * 12))
    assert many.shape == (36, images.identity.dimension)
    np.testing.assert_allclose(many, np.concatenate([images.encode(squares)] * 12), atol=1e-6)
    np.testing.assert_allclose(many[1], images.encode(squares[1:2])[0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(many.astype(np.float64), axis=1), 1, atol=1e-6)
    empty = images.encode(np.empty((0, 224, 224, 3), np.uint8))
    assert (empty.shape, empty.dtype) == ((0, images.identity.dimension), np.dtype(np.float32))


def test_words_and_their_numbers() -> None:
    assert words_of("A dog's TWO-year-old \u201ctoy\u201d, nr. 7!") == [
        "a",
        "dog's",
        "two",
        "year",
        "old",
        "toy",
        "nr",
        "7",
    ]
    vocabulary = Vocabulary.of_captions(["b a", "A b c", "a"], min_count=2)
    assert vocabulary.words == ("a", "b")
    assert vocabulary.numbers_of("a B zebra") == [2, 4, 5, 1, 3]
    assert vocabulary.numbers_of("") == vocabulary.numbers_of("?!") == [2, 3]
    assert len(vocabulary.numbers_of("a " * 5000)) == MAX_WORDS + 2


def test_case_and_punctuation_do_not_change_a_vector(texts: TextEncoder) -> None:
    one, other = texts.encode(["A brown dog runs, through the GRASS!", SENTENCE])
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_identity_names_weights_and_preprocessing(tmp_path: Path) -> None:
    identity = identify_model("vse")
    assert identity.name == "vse"
    assert len(identity.weights) == 16
    assert identity.preprocessing == load_preprocessing("vse").describe()
    assert identity == load_text_encoder("vse").identity == load_image_encoder("vse").identity
    assert ModelIdentity.from_json(json.loads(json.dumps(identity.to_json()))) == identity
    assert identity.weights in str(identity)
    copied = tmp_path / "copy"
    shutil.copytree(SHIPPED["vse"], copied)
    assert identify_model(str(copied)) == identity_of_file(copied) == identity
    words = (copied / "vocabulary.txt").read_text(encoding="utf-8")
    (copied / "vocabulary.txt").write_text(words.replace("\ndog\n", "\nhound\n"), encoding="utf-8")
    assert identify_model(str(copied)).weights != identity.weights


def identity_of_file(folder: Path) -> ModelIdentity:
    return identify_model(str(folder / "text.safetensors"))


def test_damaged_checkpoints_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(SHIPPED["vse"], broken)
    (broken / "image.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match=r"weight file .*image\.safetensors cannot be read"):
        load_image_encoder(str(broken))
    (broken / "text.safetensors").unlink()
    with pytest.raises(ModelError, match=r"is not complete: .*text\.safetensors"):
        identify_model(str(broken))
    for version in ("native 9", "vse++ 1"):
        (broken / "config.json").write_text(json.dumps({"format": version}), encoding="utf-8")
        with pytest.raises(ModelError, match=re.escape(f"format {version!r}; this version reads 'native 1'")):
            identify_model(str(broken))
    (broken / "config.json").write_text('{"format": "another program\'s"}', encoding="utf-8")
    with pytest.raises(ModelError, match=r"config\.json describes a model of type None"):
        identify_model(str(broken))


def test_a_vocabulary_of_another_length_is_named(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED["vse"], tmp_path / "copy")
    Vocabulary(["dog", "cat"]).save(tmp_path / "copy" / "vocabulary.txt")
    with pytest.raises(ModelError, match=r"embedding\.weight should have the shape \(6, 300\)"):
        load_text_encoder(str(tmp_path / "copy"))


def test_an_unknown_name_says_what_is_near_and_where_the_others_are_listed() -> None:
    for load in (identify_model, load_preprocessing, load_image_encoder, load_text_encoder):
        with pytest.raises(ModelError, match=r"There is no model 'vsee'\. Did you mean vse\? Known are:"):
            load("vsee")


def test_a_text_query_imports_no_torch_and_an_identity_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from crossmodal.models import identify_model, load_preprocessing, load_text_encoder\n"
        "identify_model('vse'); load_preprocessing('vse')\n"
        "assert load_text_encoder('vse').encode(['a dog']).shape[0] == 1\n"
        "heavy = {'torch', 'torchvision', 'timm', 'open_clip', 'PIL', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=60)


def test_photos_need_neither_timm_nor_torchvision() -> None:
    script = (
        "import sys, numpy\n"
        "from crossmodal.models import load_image_encoder\n"
        "encoder = load_image_encoder('vse', threads=1)\n"
        "assert encoder.encode(numpy.zeros((1, 224, 224, 3), numpy.uint8)).shape[0] == 1\n"
        "heavy = {'torchvision', 'timm', 'open_clip', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=120)


def test_it_finds_what_flickr8k_knows_on_photos_it_has_never_seen(
    images: ImageEncoder, texts: TextEncoder
) -> None:
    """A small honest sample of dev: 100 photos, each with its first caption, from raw JPEG bytes."""
    import csv

    from crossmodal.evaluation import evaluate
    from crossmodal.records import Record, caption_id, record_id

    folder = SHARED_DATA / "flickr8k"
    if not folder.is_dir():
        pytest.skip("the development data flickr8k is not there")
    names = (folder / "dev.txt").read_text(encoding="utf-8").split()[:100]
    records = [
        Record(record_id(name), "image", content=(folder / "images" / name).read_bytes()) for name in names
    ]
    with (folder / "captions.txt").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["image"] in set(names)]
    records += [
        Record(
            caption_id(record_id(row["image"]), row["caption"], number),
            "text",
            text=row["caption"],
            photo_id=record_id(row["image"]),
        )
        for number, row in enumerate(rows)
    ]
    result = evaluate("vse", records)
    assert (result["gallery"], result["queries"]) == (
        {"text2image": 100, "image2text": 500},
        {"text2image": 500, "image2text": 100},
    )
    assert result["failures"] == []
    # Chance is .10 and .10 (ten of a hundred photos; ten of 500 captions of which 5 fit).
    assert result["text2image"]["hit@10"] >= 0.85
    assert result["image2text"]["hit@10"] >= 0.85
