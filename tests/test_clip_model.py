"""open_clip models: the whole path with a small random checkpoint, and a real one where there is one.

With the environment variable CROSSMODAL_CLIP_CHECKPOINT set to OpenAI's ViT-B/32 (the published ViT-B-32.pt,
or a safetensors file of it), the genuine embeddings in the development data are compared too.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from photos import REPOSITORY, SHARED_DATA, encoded, toy_photo
from safetensors.torch import save_file

from crossmodal.errors import ModelError
from crossmodal.models import identify_model, load_image_encoder, load_preprocessing, load_text_encoder
from crossmodal.models.cache import remembered_fingerprint
from crossmodal.models.clip.source import ClipSource
from crossmodal.models.clip.weight_files import find_weights
from crossmodal.models.identity import fingerprint
from crossmodal.models.libraries import import_open_clip

ARCHITECTURE = "test-tiny"
CONFIGURATION = {
    "embed_dim": 64,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 128, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}
SENTENCES = ["a cat on a sofa", "", "Ein Satz mit Umlauten: \u00e4\u00f6\u00fc \U0001f408", "word " * 500]
PHOTOS = ("cat.jpg", "coffee.jpg", "rocket.jpg")


@dataclass
class Tiny:
    """A random model of a small architecture, and what open_clip itself makes of photos and sentences."""

    model: Any
    folder: Path
    cache: Path
    images: np.ndarray
    texts: np.ndarray

    @property
    def file(self) -> Path:
        return self.folder / "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    folder = tmp_path_factory.mktemp("tiny")
    open_clip = import_open_clip()
    (folder / "configs").mkdir()
    (folder / "configs" / f"{ARCHITECTURE}.json").write_text(json.dumps(CONFIGURATION), encoding="utf-8")
    open_clip.add_model_config(folder / "configs")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = open_clip.model.CLIP(
            CONFIGURATION["embed_dim"],
            CONFIGURATION["vision_cfg"],
            CONFIGURATION["text_cfg"],
            quick_gelu=True,
        ).eval()
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": CONFIGURATION, "preprocess_cfg": {"size": 64}}), encoding="utf-8"
    )
    transform = open_clip.image_transform(64, is_train=False)
    with torch.inference_mode():
        pixels = torch.stack([transform(toy_photo(name)) for name in PHOTOS])
        images = model.encode_image(pixels, normalize=True).numpy()
        texts = model.encode_text(open_clip.tokenize(SENTENCES), normalize=True).numpy()
    yield Tiny(model, folder, folder / "cache", images, texts)
    open_clip.factory._MODEL_CONFIG_PATHS.remove(folder / "configs")
    open_clip.factory._rescan_model_configs()


def assert_is_tiny(name: str, tiny: Tiny, tolerance: float = 1e-5) -> None:
    """Both encoders of the model ``name`` give what open_clip gives, from the bytes of files."""
    images = load_image_encoder(name, cache=tiny.cache)
    squares = [images.preprocessing.model_input(encoded(toy_photo(photo), "PNG")) for photo in PHOTOS]
    np.testing.assert_allclose(images.encode(np.stack(squares)), tiny.images, atol=tolerance)
    texts = load_text_encoder(name, cache=tiny.cache)
    np.testing.assert_allclose(texts.encode(SENTENCES), tiny.texts, atol=tolerance)
    assert images.identity == texts.identity == identify_model(name, cache=tiny.cache)
    assert images.identity.dimension == 64
    assert images.identity.preprocessing == load_preprocessing(name).describe()


@pytest.mark.usefixtures("without_bfloat16")
def test_an_architecture_with_a_safetensors_file(tiny: Tiny) -> None:
    assert_is_tiny(f"clip:{ARCHITECTURE}/{tiny.file}", tiny)


@pytest.mark.usefixtures("without_bfloat16")
def test_an_architecture_with_a_training_checkpoint(tiny: Tiny, tmp_path: Path) -> None:
    # As open_clip's own training writes it: under state_dict, with the prefix of distributed training.
    state = {f"module.{name}": value for name, value in tiny.model.state_dict().items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": state}, tmp_path / "epoch_3.pt")
    assert_is_tiny(f"clip:{ARCHITECTURE}/{tmp_path / 'epoch_3.pt'}", tiny)


@pytest.mark.usefixtures("without_bfloat16")
def test_a_folder_as_the_model_hub_has_them_and_a_file_in_it(tiny: Tiny) -> None:
    assert_is_tiny(str(tiny.folder), tiny)
    assert_is_tiny(str(tiny.file), tiny)


@pytest.mark.usefixtures("without_bfloat16")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_an_archive_like_openais(tiny: Tiny, tmp_path: Path) -> None:
    example = (torch.zeros(1, 3, 64, 64), torch.zeros(1, 77, dtype=torch.int64))
    torch.jit.trace(tiny.model, example, check_trace=False).save(str(tmp_path / "archive.pt"))
    # Such archives hold fp16, so open_clip rounds their weights, and these are not round.
    assert_is_tiny(f"clip:{ARCHITECTURE}/{tmp_path / 'archive.pt'}", tiny, tolerance=1e-3)
    with pytest.raises(ModelError, match="is not one of OpenAI's ViT archives"):
        load_image_encoder(str(tmp_path / "archive.pt"))


def networks_in_memory(kind: type) -> int:
    """How many networks of open_clip's class ``kind`` there are."""
    gc.collect()
    return sum(type(found) is kind for found in gc.get_objects())


def test_nothing_but_the_tower_stays_in_memory(tiny: Tiny) -> None:
    name = f"clip:{ARCHITECTURE}/{tiny.file}"
    before = networks_in_memory(type(tiny.model))
    images, texts = load_image_encoder(name, cache=tiny.cache), load_text_encoder(name, cache=tiny.cache)
    assert networks_in_memory(type(tiny.model)) == before
    assert images.identity == texts.identity


@pytest.mark.usefixtures("without_bfloat16")
def test_batches_of_any_size(tiny: Tiny) -> None:
    name = f"clip:{ARCHITECTURE}/{tiny.file}"
    texts = load_text_encoder(name, cache=tiny.cache)
    assert texts.encode([]).shape == (0, 64)
    np.testing.assert_allclose(texts.encode(SENTENCES * 10), np.tile(tiny.texts, (10, 1)), atol=1e-5)
    images = load_image_encoder(name, cache=tiny.cache)
    assert images.encode(np.empty((0, 64, 64, 3), np.uint8)).shape == (0, 64)


class Malice:
    """A pickle that would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_checkpoint_cannot_run_code(tiny: Tiny, tmp_path: Path) -> None:
    target = tmp_path / "written"
    torch.save({"state_dict": Malice(target)}, tmp_path / "bad.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"state_dict": Malice(target)}))
    for name in ("bad.pt", "plain.pt"):
        with pytest.raises(ModelError, match=f"{name} cannot be loaded into {ARCHITECTURE}"):
            load_text_encoder(f"clip:{ARCHITECTURE}/{tmp_path / name}", cache=tiny.cache)
    assert not target.exists()


def test_weights_of_another_network_and_damaged_ones_are_named(tiny: Tiny, tmp_path: Path) -> None:
    save_file({"visual.proj": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(tiny.file.read_bytes()[:1000])
    for name in ("other", "damaged"):
        with pytest.raises(ModelError, match=rf"{name}\.safetensors cannot be loaded into {ARCHITECTURE}: "):
            load_image_encoder(f"clip:{ARCHITECTURE}/{tmp_path / name}.safetensors", cache=tiny.cache)
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(ModelError, match=r"notes\.txt doesn't state its architecture: .*clip:ViT-B-32/"):
        identify_model(str(tmp_path / "notes.txt"))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("clip:ViT-B-33/openai", r"no architecture 'ViT-B-33'; \d+ are known, for instance ViT-B-32"),
        (
            "clip:ViT-B-32/nonsense",
            r"'nonsense' is neither a file nor published weights of ViT-B-32.*laion2b_s34b",
        ),
        ("clip:ViT-B-32", r"clip:ViT-B-32 names no weights; write clip:ARCH/PRETRAINED"),
    ],
)
def test_names_that_mean_nothing(name: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        identify_model(name)


def test_offline_the_error_says_what_is_missing_where_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    import_open_clip()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    connect, asked = socket.socket.connect, []

    def noted(own: socket.socket, address: Any) -> None:
        asked.append(address)
        connect(own, address)

    monkeypatch.setattr(socket.socket, "connect", noted)
    with pytest.raises(ModelError) as caught:
        load_text_encoder("clip", cache=tmp_path)
    # Once, without the pauses of those who try again.
    assert asked == [("127.0.0.1", 9)]
    message = str(caught.value)
    for part in (
        "open_clip_model.safetensors",
        "ViT-B-32/laion2b_s34b_b79k",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        str(tmp_path / "models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K"),
        "http://127.0.0.1:9 cannot be reached",
        "--model clip:ViT-B-32/PATH_OF_THE_FILE",
    ):
        assert part in message


def test_offline_advice_names_the_activation_that_a_file_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="--model clip:ViT-B-32-quickgelu/PATH_OF_THE_FILE"):
        load_text_encoder("clip:ViT-B-32/openai", cache=tmp_path)


def test_weights_in_the_cache_are_found_without_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    repository = tmp_path / "models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K"
    revision = "1" * 40
    for file, content in (
        ("refs/main", revision),
        (f"snapshots/{revision}/open_clip_pytorch_model.bin", "weights"),
    ):
        (repository / file).parent.mkdir(parents=True)
        (repository / file).write_text(content, encoding="utf-8")
    published = {"hf_hub": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K/"}
    found = find_weights("ViT-B-32", "laion2b_s34b_b79k", published, tmp_path)
    assert found.read_text(encoding="utf-8") == "weights"


def test_preprocessing_and_activation_come_with_published_weights() -> None:
    assert ClipSource("tag", "ViT-B-32", tag="openai").quick_gelu
    assert not ClipSource("tag", "ViT-B-32", tag="laion2b_s34b_b79k").quick_gelu
    assert load_preprocessing("clip:ViT-B-16-SigLIP/webli").describe() == (
        "squash 224 bicubic mean=0.5,0.5,0.5 std=0.5,0.5,0.5"
    )
    # A file says nothing about it: what all published weights of its architecture have in common holds.
    assert ClipSource("file", "ViT-B-16-SigLIP-256", path=Path("x")).preprocessing.mode == "squash"
    assert load_preprocessing("clip:ViT-L-14-336/openai").size == 336


def test_a_fingerprint_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file, cache = tmp_path / "weights", tmp_path / "cache"
    file.write_bytes(b"one")
    first = remembered_fingerprint(file, cache)
    assert first == fingerprint([file])
    remembered = json.loads((cache / "fingerprints.json").read_text(encoding="utf-8"))
    remembered[str(file.resolve())][2] = "0123456789abcdef"
    (cache / "fingerprints.json").write_text(json.dumps(remembered), encoding="utf-8")
    assert remembered_fingerprint(file, cache) == "0123456789abcdef"
    file.write_bytes(b"two!")
    assert remembered_fingerprint(file, cache) == fingerprint([file]) != first
    (cache / "fingerprints.json").write_text("not JSON", encoding="utf-8")
    assert remembered_fingerprint(file, cache) == fingerprint([file])
    with pytest.raises(ModelError, match="gone cannot be read"):
        remembered_fingerprint(tmp_path / "gone", cache)


@pytest.mark.slow
def test_torchvision_can_be_imported_and_its_operators_are_left_alone() -> None:
    script = (
        "import torch\n"
        "library = torch.library.Library('torchvision', 'FRAGMENT')\n"
        "library.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "library.define('qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "import torchvision\n"
        "from crossmodal.models import libraries\n"
        "libraries.import_torchvision()\n"
        "assert libraries._declared == []\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=REPOSITORY, check=True, timeout=120)


@pytest.mark.slow
def test_open_clip_is_imported_without_a_warning() -> None:
    script = "from crossmodal.models.libraries import import_open_clip as f\nf().list_models()\n"
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=REPOSITORY, check=True, timeout=120)


@pytest.fixture(scope="module")
def genuine() -> str:
    """The model name of a real OpenAI ViT-B/32 checkpoint."""
    path = os.environ.get("CROSSMODAL_CLIP_CHECKPOINT")
    if not path:
        pytest.skip("CROSSMODAL_CLIP_CHECKPOINT doesn't name OpenAI's ViT-B/32 checkpoint")
    if not (SHARED_DATA / "clip-vit-b32-embeddings").is_dir():
        pytest.skip("the development data clip-vit-b32-embeddings is not there")
    return f"clip:ViT-B-32-quickgelu/{Path(path).resolve()}"


def test_genuine_text_embeddings(genuine: str) -> None:
    data = np.load(SHARED_DATA / "clip-vit-b32-embeddings" / "flickr8k-94-images-470-captions.npz")
    found = load_text_encoder(genuine).encode([str(caption) for caption in data["captions"]])
    assert np.sum(found * data["text"].astype(np.float32), axis=1).min() > 0.999


def test_genuine_image_embeddings(genuine: str) -> None:
    """Only this bound is lower: the photos here are 224 x 224 copies, the embeddings are of the originals."""
    data = np.load(SHARED_DATA / "clip-vit-b32-embeddings" / "flickr8k-999-images.npz")
    encoder = load_image_encoder(genuine)
    wanted, squares = [], []
    for name, embedding, certain in zip(data["names"], data["emb"], data["unambiguous"], strict=True):
        path = SHARED_DATA / "flickr8k" / "images" / str(name)
        if certain and path.is_file():
            squares.append(encoder.preprocessing.model_input(path.read_bytes()))
            wanted.append(embedding.astype(np.float32))
        if len(squares) == 64:
            break
    assert squares
    found = encoder.encode(np.stack(squares))
    assert np.median(np.sum(found * np.stack(wanted), axis=1)) > 0.9
