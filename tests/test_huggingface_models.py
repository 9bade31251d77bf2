"""Models in the form of transformers: CLIP and SigLIP folders, and models that bring code of their own.

The reference is transformers itself: its processors and its model classes. jina-clip's repositories cannot be
had here, so a small model with the same interface and the same kind of files stands in for them.
"""

from __future__ import annotations

import inspect
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import run_here
from model_samples import PHOTOS, SENTENCES, assert_vectors, save_tokenizer, squares
from photos import toy_photo

from crossmodal.errors import ModelError
from crossmodal.models import (
    ImagePreprocessing,
    identify_model,
    load_image_encoder,
    load_preprocessing,
    load_text_encoder,
    require_trust,
)
from crossmodal.models.huggingface.preprocessing import read_preprocessing
from crossmodal.models.libraries import import_transformers

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
CLIP_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
SIGLIP_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
TEXT = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
}


@dataclass
class Saved:
    """A model folder, and what transformers makes of photos and sentences with it."""

    folder: Path
    images: npt.NDArray[np.float32]
    texts: npt.NDArray[np.float32]


def unit(vectors: Any) -> npt.NDArray[np.float32]:
    """Rows of unit length from what a model of transformers answers."""
    rows = vectors if isinstance(vectors, torch.Tensor) else vectors.pooler_output
    return np.asarray(torch.nn.functional.normalize(rows, dim=1).numpy())


def save_model(kind: str, folder: Path) -> Saved:
    """A random CLIP or SigLIP with processors, saved as the model hub has them."""
    transformers = import_transformers()
    clip = kind == "clip"
    if clip:
        text = {
            **TEXT,
            "max_position_embeddings": 77,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 3,
        }
        config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=48)
        processor = transformers.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=64)
    else:
        text = {**TEXT, "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": 1}
        config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
        processor = transformers.SiglipImageProcessor(size={"height": 64, "width": 64})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = transformers.AutoModel.from_config(config).eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    tokenizer = save_tokenizer(folder, CLIP_TOKENS if clip else SIGLIP_TOKENS, lower_case=clip)
    sentences = SENTENCES if clip else [sentence.lower() for sentence in SENTENCES]
    tokens = tokenizer(
        sentences,
        padding=True if clip else "max_length",
        max_length=text["max_position_embeddings"],
        truncation=True,
        return_tensors="pt",
    )
    mask = {"attention_mask": tokens["attention_mask"]} if clip else {}
    preprocessing = read_preprocessing(folder / "preprocessor_config.json")
    pixels = torch.from_numpy(
        preprocessing.scale(np.stack([preprocessing.crop(np.asarray(toy_photo(name))) for name in PHOTOS]))
    )
    with torch.inference_mode():
        images = unit(model.get_image_features(pixel_values=pixels))
        texts = unit(model.get_text_features(input_ids=tokens["input_ids"], **mask))
    return Saved(folder, images, texts)


@pytest.fixture(scope="module", params=["clip", "siglip"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return save_model(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.usefixtures("without_bfloat16")
def test_a_folder_equals_transformers(saved: Saved, tmp_path: Path) -> None:
    assert_vectors(str(saved.folder), saved.images, saved.texts, tmp_path)
    weights = str(saved.folder / "model.safetensors")
    assert identify_model(weights, cache=tmp_path).name == str(saved.folder)


def test_preprocessing_equals_the_processor_of_transformers(saved: Saved, tmp_path: Path) -> None:
    processor = import_transformers().AutoImageProcessor.from_pretrained(saved.folder)
    preprocessing = load_preprocessing(str(saved.folder), cache=tmp_path)
    for name in PHOTOS:
        theirs = processor(images=toy_photo(name), return_tensors="np")["pixel_values"][0]
        ours = preprocessing.scale(preprocessing.crop(np.asarray(toy_photo(name)))[None])[0]
        assert ours.shape == theirs.shape
        # Where a margin is odd, they cut the larger half at the other side: one pixel.
        shifts = [(slice(0, -1), slice(1, None)), (slice(None), slice(None)), (slice(1, None), slice(0, -1))]
        differences = [
            np.abs(ours[:, our_rows, our_columns] - theirs[:, their_rows, their_columns])
            for our_rows, their_rows in shifts
            for our_columns, their_columns in shifts
        ]
        # Grey values differ by rounding alone, of which one step is up to 0.015 here.
        assert min(difference.mean() for difference in differences) < 0.008, name


def test_each_encoder_keeps_only_its_tower(saved: Saved, tmp_path: Path) -> None:
    images: Any = load_image_encoder(str(saved.folder), cache=tmp_path)
    texts: Any = load_text_encoder(str(saved.folder), cache=tmp_path)

    def parameters(encoder: Any) -> list[str]:
        return list(inspect.getclosurevars(encoder._runner.run).nonlocals["model"].state_dict())

    assert not any(name.startswith("text_") for name in parameters(images))
    assert not any(name.startswith("vision_") for name in parameters(texts))


def test_the_identity_knows_weights_and_tokenizer(tmp_path: Path) -> None:
    folder = save_model("clip", tmp_path / "one").folder
    before = identify_model(str(folder), cache=tmp_path)
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text(encoding="utf-8").replace('"cat"', '"dog"'), encoding="utf-8")
    assert identify_model(str(folder), cache=tmp_path) != before


class Malice:
    """A pickle that would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_weights_cannot_run_code(tmp_path: Path) -> None:
    folder = save_model("clip", tmp_path / "one").folder
    (folder / "model.safetensors").unlink()
    target = tmp_path / "written"
    for write in (
        lambda path: torch.save({"weight": Malice(target)}, path),
        lambda path: path.write_bytes(pickle.dumps({"weight": Malice(target)})),
    ):
        write(folder / "pytorch_model.bin")
        with pytest.raises(ModelError, match=r"cannot be loaded"):
            load_text_encoder(str(folder), cache=tmp_path)
    assert not target.exists()


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    folder = save_model("siglip", tmp_path / "one").folder
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(ModelError, match=r"one cannot be loaded: "):
        load_image_encoder(str(folder), cache=tmp_path)
    weights.unlink()
    with pytest.raises(ModelError, match=r"has none of the files model\.safetensors"):
        identify_model(str(folder), cache=tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"preprocessor_config\.json cannot be used"):
        load_preprocessing(str(folder), cache=tmp_path)
    (folder / "config.json").write_text('{"model_type": "siglip2"}', encoding="utf-8")
    with pytest.raises(ModelError, match=r"of type 'siglip2', which cannot be used \(SigLIP 2's NaFlex"):
        identify_model(str(folder), cache=tmp_path)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"image_processor_type": "CLIPImageProcessor", "size": 224, "crop_size": 224, "resample": 3},
            ImagePreprocessing(224, "crop", OPENAI_MEAN, OPENAI_STD),
        ),
        (
            {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "resample": 2},
            ImagePreprocessing(224, "crop", OPENAI_MEAN, OPENAI_STD, "bilinear", short_side=256),
        ),
        (
            {
                "image_processor_type": "SiglipImageProcessor",
                "size": {"height": 384, "width": 384},
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "resample": 2,
            },
            ImagePreprocessing(384, "squash", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear"),
        ),
        (
            {"size": 512, "resize_mode": "shortest", "interpolation": "bicubic"},
            ImagePreprocessing(512, "crop", OPENAI_MEAN, OPENAI_STD),
        ),
    ],
)
def test_preprocessing_files(values: dict[str, Any], expected: ImagePreprocessing, tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    assert read_preprocessing(path) == expected


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"do_normalize": False}, "do_normalize is false"),
        ({"do_center_crop": False}, "do_center_crop is false"),
        ({"resample": 1}, "resampled by 1"),
        ({"rescale_factor": 1.0}, r"rescale_factor is 1\.0"),
        ({"size": {"height": 224, "width": 336}}, "336 x 224 pixels is wanted"),
        ({"do_pad": True}, "do_pad is true"),
        ({"resize_mode": "longest", "size": 224}, "resize_mode 'longest'"),
        ([1], "not an object"),
    ],
)
def test_preprocessing_that_cannot_be_followed_is_refused(values: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ModelError, match=rf"preprocessor_config\.json cannot be used: .*{reason}"):
        read_preprocessing(path)


# What a repository with a model of its own holds. Importing it leaves a trace, so a test sees whether it ran.
CODE = """
import pathlib
import torch
from transformers import PretrainedConfig, PreTrainedModel
# As jina-clip's code does; transformers 5 has renamed it.
from transformers.models.clip.modeling_clip import CLIPOutput, clip_loss

pathlib.Path(r"{trace}").touch()


class TinyConfig(PretrainedConfig):
    model_type = "tiny_jina_clip"

    def __init__(self, text_config=None, add_projections=False, **kwargs):
        self.text_config = text_config or {{}}
        self.add_projections = add_projections
        super().__init__(**kwargs)


class TinyModel(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.words = torch.nn.Embedding(60, 16)
        self.pixels = torch.nn.Linear(3, 16)
        self.post_init()

    def get_text_features(self, input_ids=None, *_, **__):
        mask = (input_ids != 3).unsqueeze(-1)
        positions = torch.arange(1, input_ids.shape[1] + 1).view(1, -1, 1)
        return (self.words(input_ids) * mask * positions).sum(1) / (mask * positions).sum(1)

    def get_image_features(self, pixel_values=None, *_, **__):
        return self.pixels(pixel_values.mean((2, 3)))
"""


@dataclass
class Custom:
    """A folder with a model of its own, the file that its code writes, and its weights."""

    folder: Path
    trace: Path
    weights: dict[str, torch.Tensor]

    def images(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        mean = torch.from_numpy(pixels).mean((2, 3))
        return unit(mean @ self.weights["pixels.weight"].T + self.weights["pixels.bias"])

    def text(self, numbers: list[int]) -> npt.NDArray[np.float32]:
        """The vector of one sentence by hand."""
        positions = torch.arange(1, len(numbers) + 1).view(-1, 1)
        words = self.weights["words.weight"][numbers]
        vector: npt.NDArray[np.float32] = unit(((words * positions).sum(0) / positions.sum())[None])[0]
        return vector


@pytest.fixture
def custom(tmp_path: Path) -> Custom:
    from safetensors.torch import save_file

    folder, trace = tmp_path / "custom", tmp_path / "trace"
    folder.mkdir()
    (folder / "modeling_tiny.py").write_text(CODE.format(trace=trace), encoding="utf-8")
    config = {
        "model_type": "tiny_jina_clip",
        "architectures": ["TinyModel"],
        "auto_map": {"AutoConfig": "modeling_tiny.TinyConfig", "AutoModel": "modeling_tiny.TinyModel"},
        "text_config": {"embed_dim": 16},
        "add_projections": False,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    preprocessing = {"size": 32, "resize_mode": "shortest", "interpolation": "bicubic"}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing), encoding="utf-8")
    save_tokenizer(folder, CLIP_TOKENS)
    generator = torch.Generator().manual_seed(2)
    weights = {
        "words.weight": torch.randn(60, 16, generator=generator),
        "pixels.weight": torch.randn(16, 3, generator=generator),
        "pixels.bias": torch.randn(16, generator=generator),
    }
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return Custom(folder, trace, weights)


def test_code_of_a_model_does_not_run_unless_it_is_trusted(custom: Custom, tmp_path: Path) -> None:
    for name in (str(custom.folder), f"jina-clip-v2:{custom.folder}"):
        sentence = (
            r"The model .* runs Python code of its own, from .*modeling_tiny\.py, which can do on this "
            r"machine whatever you can\. Read it, and add --trust-remote-code if you trust it\."
        )
        for load in (load_image_encoder, load_text_encoder):
            with pytest.raises(ModelError, match=sentence):
                load(name, cache=tmp_path / "cache")
        with pytest.raises(ModelError, match=sentence):
            require_trust(name, trust_remote_code=False, cache=tmp_path / "cache")
        # What doesn't load the model doesn't need its code.
        assert identify_model(name, cache=tmp_path / "cache").dimension == 16
        assert load_preprocessing(name, cache=tmp_path / "cache").size == 32
    assert not custom.trace.exists()


def test_trusted_code_runs_and_reads_long_texts(custom: Custom, tmp_path: Path) -> None:
    name, cache = f"jina-clip-v2:{custom.folder}", tmp_path / "cache"
    images = load_image_encoder(name, cache=cache, trust_remote_code=True)
    pixels = squares(name, cache)
    np.testing.assert_allclose(
        images.encode(pixels), custom.images(images.preprocessing.scale(pixels)), atol=1e-5
    )
    texts = load_text_encoder(name, cache=cache, trust_remote_code=True)
    # <s> a cat </s>, and a text of 5,000 words: jina-clip reads 8,192 tokens.
    long = [0, *[17] * 5000, 1]
    expected = np.stack([custom.text([0, 4, 5, 1]), custom.text(long)])
    np.testing.assert_allclose(texts.encode(["a cat", "word " * 5000]), expected, atol=1e-5)
    assert custom.trace.exists()


def test_other_code_is_another_model(custom: Custom, tmp_path: Path) -> None:
    before = identify_model(str(custom.folder), cache=tmp_path)
    with (custom.folder / "modeling_tiny.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert identify_model(str(custom.folder), cache=tmp_path) != before


def test_a_model_of_the_hub_is_refused_before_anything_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"jina-clip-v2 runs Python code of its own, from the repository jina"
    ):
        load_text_encoder("jina-clip-v2", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_switch_is_read_in_every_form_that_a_flow_makes_of_it() -> None:
    from crossmodal.steps.step import switched_on

    assert [switched_on(value) for value in (True, "true", "True")] == [True] * 3
    assert [switched_on(value) for value in (False, "false", "False", "", "no")] == [False] * 5


def test_the_command_line_asks_for_trust_and_passes_it_on(custom: Custom, tmp_path: Path) -> None:
    model, workspace = f"jina-clip-v2:{custom.folder}", tmp_path / "workspace"
    options = (
        "-t",
        "index",
        "-n",
        "4",
        "-m",
        model,
        "--workspace",
        workspace,
        "--model-cache",
        tmp_path / "c",
    )
    refused = run_here(*options)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: The model jina-clip-v2:")
    assert "--trust-remote-code" in refused.stderr
    assert not custom.trace.exists()
    done = run_here(*options, "--trust-remote-code", "--json")
    assert done.returncode == 0, done.stderr
    assert custom.trace.exists()
    report = json.loads(done.stdout)
    assert report["photos"]["added"] + report["captions"]["added"] == 4
