"""The original VSE++ checkpoints: a random one of the same layout, its towers by hand, its words."""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from model_samples import PHOTOS, squares
from photos import toy_photo
from torch import nn

from crossmodal.errors import ModelError
from crossmodal.models import identify_model, load_image_encoder, load_preprocessing, load_text_encoder
from crossmodal.models.libraries import import_torchvision
from crossmodal.models.vsepp.vocabulary import VseppVocabulary, words_of

DIMENSION, WORD = 40, 12
WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "cat", "on", "sofa", ".", ",", "two", "dogs", "n't", "ca"]
SENTENCES = ["A cat on a sofa.", "Two dogs, two cats", "", "word " * 300, "A dog can't"]


def numbers_of(words: list[str]) -> list[int]:
    """What the original makes of a caption's words."""
    inner = [WORDS.index(word) if word in WORDS else 3 for word in words]
    return [1, *inner, 2]


class Reference:
    """The original's two towers in plain torch, and a checkpoint as its ``train.py`` writes it."""

    def __init__(self, cnn: str, **options: Any) -> None:
        import_torchvision()
        from torchvision import models

        self.kind, self.options = cnn, options
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            self.cnn = getattr(models, cnn)(weights=None).eval()
            if cnn.startswith("resnet"):
                self.cnn.fc = nn.Sequential()
                width = 512
            else:
                width = 24
                self.cnn.classifier = nn.Sequential(
                    *(nn.Linear(25088, 16), nn.ReLU(), nn.Dropout()),
                    *(nn.Linear(16, width), nn.ReLU(), nn.Dropout()),
                ).eval()
            self.fc = nn.Linear(width, DIMENSION)
            self.embed = nn.Embedding(len(WORDS), WORD)
            self.rnn = nn.GRU(WORD, DIMENSION, 1, batch_first=True)

    def images(self, pixels: torch.Tensor) -> npt.NDArray[np.float32]:
        features = self.cnn(pixels)
        features = self.fc(features / features.norm(dim=1, keepdim=True))
        features = features / features.norm(dim=1, keepdim=True)
        return np.asarray((features.abs() if self.options.get("use_abs") else features).detach().numpy())

    def text(self, numbers: list[int]) -> npt.NDArray[np.float32]:
        state = self.rnn(self.embed(torch.tensor([numbers])))[0][0, -1]
        state = state / state.norm()
        return np.asarray((state.abs() if self.options.get("use_abs") else state).detach().numpy())

    def save(self, path: Path, *, data_name: str = "f30k", old: bool = False) -> None:
        image = {f"fc.{name}": value for name, value in self.fc.state_dict().items()}
        for name, value in self.cnn.state_dict().items():
            if self.kind.startswith("resnet"):
                image[f"cnn.module.{name}"] = value
            elif name.startswith("features."):
                image[f"cnn.features.module.{name.removeprefix('features.')}"] = value
            else:
                renamed = {"classifier.0": "classifier.1", "classifier.3": "classifier.4"} if old else {}
                layer = name.rpartition(".")[0]
                image[f"cnn.{renamed.get(layer, layer)}.{name.rpartition('.')[2]}"] = value
        text = {f"embed.{name}": value for name, value in self.embed.state_dict().items()}
        text |= {f"rnn.{name}": value for name, value in self.rnn.state_dict().items()}
        options = {"cnn_type": self.kind, "data_name": data_name, "measure": "cosine", **self.options}
        checkpoint = {
            "epoch": 30,
            "model": [image, text],
            "best_rsum": 400.1,
            "opt": argparse.Namespace(**options),
            "Eiters": 100,
        }
        # The published ones are of torch's older format.
        torch.save(checkpoint, path, _use_new_zipfile_serialization=False)


def save_vocabulary(path: Path) -> None:
    """A pickle as the original's ``vocab.py`` writes it, under Python 2."""
    module = types.ModuleType("vocab")
    module.Vocabulary = type("Vocabulary", (), {"__module__": "vocab"})  # type: ignore[attr-defined]
    vocabulary = module.Vocabulary()
    vocabulary.word2idx = {word: row for row, word in enumerate(WORDS)}
    vocabulary.idx2word = dict(enumerate(WORDS))
    vocabulary.idx = len(WORDS)
    sys.modules["vocab"] = module
    try:
        path.write_bytes(pickle.dumps(vocabulary, protocol=2))
    finally:
        del sys.modules["vocab"]


def reference_pixels(name: str) -> torch.Tensor:
    """A photo as the original's ``data.py`` prepares it."""
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    pixels: torch.Tensor = transform(toy_photo(name))
    return pixels


@pytest.mark.parametrize(
    ("cnn", "options", "old"),
    [("resnet18", {}, False), ("vgg11", {"use_abs": True}, False), ("vgg11", {}, True)],
)
def test_a_checkpoint_gives_what_the_original_computes(
    cnn: str, options: dict[str, Any], old: bool, tmp_path: Path
) -> None:
    reference = Reference(cnn, **options)
    run = tmp_path / "runs" / "f30k_vse++"
    run.mkdir(parents=True)
    (tmp_path / "vocab").mkdir()
    path = run / "model_best.pth.tar"
    reference.save(path, old=old)
    save_vocabulary(tmp_path / "vocab" / "f30k_vocab.pkl")
    (tmp_path / "vocab" / "coco_vocab.pkl").write_bytes(b"another")
    # A VGG takes eight times as long for a photo as the small ResNet.
    photos = PHOTOS if cnn == "resnet18" else PHOTOS[:1]
    with torch.inference_mode():
        images = reference.images(torch.stack([reference_pixels(name) for name in photos]))
    name = f"vse++-f30k-resnet:{path}"
    encoder = load_image_encoder(name, cache=tmp_path / "cache")
    pixels = squares(name, tmp_path / "cache")[: len(photos)]
    np.testing.assert_allclose(encoder.encode(pixels), images, atol=1e-5)
    texts = np.stack([reference.text(numbers_of(words_of(sentence))) for sentence in SENTENCES])
    found = load_text_encoder(name, cache=tmp_path / "cache").encode(SENTENCES)
    np.testing.assert_allclose(found, texts, atol=1e-5)
    identity = identify_model(name, cache=tmp_path / "cache")
    assert (identity.name, identity.dimension) == (name, DIMENSION)
    # The folder and the bare path mean the same.
    for other in (f"vse++-f30k-resnet:{run}", str(path), str(run)):
        assert identify_model(other, cache=tmp_path / "cache") == identity


def test_preprocessing_is_the_originals(tmp_path: Path) -> None:
    Reference("resnet18").save(tmp_path / "model_best.pth.tar")
    preprocessing = load_preprocessing(str(tmp_path), cache=tmp_path)
    assert preprocessing.describe() == (
        "crop 224 of 256 bilinear mean=0.485,0.456,0.406 std=0.229,0.224,0.225"
    )
    import_torchvision()
    for name in PHOTOS:
        ours = preprocessing.scale(preprocessing.crop(np.asarray(toy_photo(name)))[None])[0]
        apart = np.abs(ours - reference_pixels(name).numpy())
        # Scaling only what is seen rounds a few values to the next step of grey.
        assert np.mean(apart > 1e-5) < 0.002
        assert apart.max() < 1 / 255 / min(preprocessing.std) + 1e-5


def test_a_vocabulary_as_json(tmp_path: Path) -> None:
    (tmp_path / "f30k_vocab.json").write_text(
        json.dumps({"word2idx": {word: row for row, word in enumerate(WORDS)}, "idx": len(WORDS)}),
        encoding="utf-8",
    )
    vocabulary = VseppVocabulary.load(tmp_path / "f30k_vocab.json")
    assert len(vocabulary) == len(WORDS)
    assert vocabulary.numbers_of("A CAT, on a zebra.") == [1, 4, 5, 9, 6, 4, 3, 8, 2]


class Malice:
    """A pickle that would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_neither_file_can_run_code(tmp_path: Path) -> None:
    target, path = tmp_path / "written", tmp_path / "model_best.pth.tar"
    (tmp_path / "f30k_vocab.pkl").write_bytes(pickle.dumps({"word2idx": Malice(target)}, protocol=2))
    with pytest.raises(ModelError, match=r"f30k_vocab\.pkl cannot be used: it names .*only a Vocabulary"):
        VseppVocabulary.load(tmp_path / "f30k_vocab.pkl")
    torch.save({"model": [Malice(target), {}], "opt": argparse.Namespace()}, path)
    with pytest.raises(ModelError, match=r"model_best\.pth\.tar is not a VSE\+\+ checkpoint"):
        identify_model(str(path), cache=tmp_path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda saved: vars(saved["opt"]).update(measure="order"), "order embeddings"),
        (lambda saved: vars(saved["opt"]).update(no_imgnorm=True), r"--no_imgnorm \(VSE0\)"),
        (lambda saved: vars(saved["opt"]).update(cnn_type="alexnet"), "the checkpoint's CNN is 'alexnet'"),
        (
            lambda saved: [saved["model"][0].pop(k) for k in list(saved["model"][0]) if "cnn" in k],
            "precomputed",
        ),
        (lambda saved: saved["model"][0].pop("fc.weight"), "don't fit resnet18"),
        (lambda saved: saved.pop("opt"), "is not a VSE"),
    ],
)
def test_checkpoints_that_cannot_be_searched_with_say_why(
    change: Callable[[dict[str, Any]], Any], sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "model_best.pth.tar"
    Reference("resnet18").save(path)
    save_vocabulary(tmp_path / "f30k_vocab.pkl")
    with torch.serialization.safe_globals([argparse.Namespace]):
        saved = torch.load(path, weights_only=True)
    change(saved)
    torch.save(saved, path)
    with pytest.raises(ModelError, match=f"(?i){sentence}"):
        load_image_encoder(str(path), cache=tmp_path)


def test_a_vocabulary_that_is_missing_or_anothers_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run" / "model_best.pth.tar"
    path.parent.mkdir()
    Reference("resnet18").save(path)
    with pytest.raises(ModelError, match=r"vocabulary of .* is missing: f30k_vocab\.pkl or \.json"):
        identify_model(str(path), cache=tmp_path)
    WORDS.append("zebra")
    try:
        save_vocabulary(path.parent / "f30k_vocab.pkl")
    finally:
        WORDS.pop()
    with pytest.raises(
        ModelError, match=r"has 15 words and the checkpoint .* 14: they don't belong together"
    ):
        load_text_encoder(str(path), cache=tmp_path)


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man's dog can't run.", ["a", "man", "'s", "dog", "ca", "n't", "run", "."]),
        ("Two men, one ball; 3,000 fans!", ["two", "men", ",", "one", "ball", ";", "3,000", "fans", "!"]),
        ('A sign says "stop" .', ["a", "sign", "says", "``", "stop", "''", "."]),
        ("He jumps. She waits", ["he", "jumps", ".", "she", "waits"]),
        ("Mr. Smith vs. a dog", ["mr.", "smith", "vs.", "a", "dog"]),
        ("the dogs' toys (red)", ["the", "dogs", "'", "toys", "(", "red", ")"]),
        ("cannot gonna t-shirt -- ok", ["can", "not", "gon", "na", "t-shirt", "--", "ok"]),
        ("wait... what?", ["wait", "...", "what", "?"]),
        ("", []),
    ],
)
def test_words_are_cut_as_the_penn_treebank_cuts_them(caption: str, words: list[str]) -> None:
    assert words_of(caption) == words
