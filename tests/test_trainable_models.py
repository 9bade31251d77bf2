"""Models as the training loop sees them: built from parts, frozen in parts, stored and loaded again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coloured_shapes import world
from photos import toy_photo
from safetensors.torch import save_file

from crossmodal.errors import ModelError, SettingsError
from crossmodal.models import load_image_encoder, load_preprocessing, load_text_encoder
from crossmodal.models.libraries import import_open_clip
from crossmodal.models.native.mobilenet import FEATURES
from crossmodal.models.native.vocabularies import Vocabulary
from crossmodal.training import Run, Stage, TrainingConfig, train_on
from crossmodal.training.augmentation import augmented, plain, views_of
from crossmodal.training.config import Augmentation
from crossmodal.training.content_store import ContentStore
from crossmodal.training.features import cached_features
from crossmodal.training.optimization import build_optimizer, trained_parameters
from crossmodal.training.pairs import input_store
from crossmodal.training.trainable.base import Trainable
from crossmodal.training.trainable.building import build_model
from crossmodal.training.trainable.native import NativeModel

SENTENCES = ["a cat on a sofa", "", "the rocket stands on a launch pad", "word " * 90]
FINE_TUNE = TrainingConfig(data="shapes", model="vse", min_word_count=1)

# What is trained is compared with what is loaded to five digits.
pytestmark = pytest.mark.usefixtures("without_bfloat16")


def square(name: str, size: int = 224) -> np.ndarray:
    return np.array(toy_photo(name).resize((size, size)))


def vectors(model: Trainable, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of photos and ``SENTENCES``, as the training loop computes them."""
    model.eval()
    with torch.inference_mode():
        photos = model.images(model.features(plain(inputs, model.preprocessing)))
        return photos.numpy(), model.texts(model.tokenize(SENTENCES)).numpy()


@pytest.fixture(scope="module")
def sentence_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as published sentence encoders have them: four small layers with random weights."""
    folder = tmp_path_factory.mktemp("sentence-encoder")
    words = [
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
        "cat",
        "sofa",
        "the",
    ]
    vocabulary = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    shapes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 4}
    config = {"model_type": "bert", **shapes, "max_position_embeddings": 80}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.2

    state = {
        "embeddings.word_embeddings.weight": random(len(vocabulary), 16),
        "embeddings.position_embeddings.weight": random(80, 16),
        "embeddings.token_type_embeddings.weight": random(2, 16),
    }
    linear = {"attention.output.dense": (16, 16), "intermediate.dense": (32, 16), "output.dense": (16, 32)}
    linear |= {f"attention.self.{name}": (16, 16) for name in ("query", "key", "value")}
    norms = ["attention.output.LayerNorm", "output.LayerNorm"]
    for layer in range(4):
        for name, shape in linear.items():
            state[f"encoder.layer.{layer}.{name}.weight"] = random(*shape)
            state[f"encoder.layer.{layer}.{name}.bias"] = random(shape[0])
        for name in norms:
            state[f"encoder.layer.{layer}.{name}.weight"] = 1 + random(16)
            state[f"encoder.layer.{layer}.{name}.bias"] = random(16)
    state["embeddings.LayerNorm.weight"], state["embeddings.LayerNorm.bias"] = 1 + random(16), random(16)
    save_file(state, folder / "model.safetensors")
    return folder


def with_transformer(folder: Path, **settings: Any) -> TrainingConfig:
    return TrainingConfig(
        data="shapes", image_weights="vse", text_weights=str(folder), dimension=24, **settings
    )


def test_a_fine_tuned_model_starts_as_it_was() -> None:
    photos, texts = vectors(build_model(FINE_TUNE, [], None), square("cat.jpg")[None])
    np.testing.assert_allclose(
        photos, load_image_encoder("vse", threads=1).encode(square("cat.jpg")[None]), atol=1e-5
    )
    np.testing.assert_allclose(texts, load_text_encoder("vse").encode(SENTENCES), atol=1e-5)


def test_new_words_are_known_and_say_at_first_what_an_unknown_word_does() -> None:
    new = ["a zorblat over the zorblat quixbar", "a cat"]
    plain_model, wider = build_model(FINE_TUNE, [], None), build_model(FINE_TUNE, new, None)
    assert isinstance(wider, NativeModel)
    assert isinstance(wider.vocabulary, Vocabulary)
    assert wider.vocabulary.words[-2:] == ("zorblat", "quixbar")
    tokens = wider.tokenize(["a zorblat over a cat"])
    assert tokens != plain_model.tokenize(["a zorblat over a cat"])
    with torch.inference_mode():
        wider.eval()
        plain_model.eval()
        torch.testing.assert_close(
            wider.texts(tokens), plain_model.texts(plain_model.tokenize(["a zorblat over a cat"]))
        )
    # Where the text tower isn't trained they could not become anything else.
    heads = replace(FINE_TUNE, stages=(Stage(text_trunk_rate=0.0),))
    frozen = build_model(heads, new, None)
    assert isinstance(frozen, NativeModel)
    assert len(frozen.vocabulary) == len(wider.vocabulary) - 2


def test_standardising_features_leaves_vectors_as_they_are(tmp_path: Path) -> None:
    model = build_model(FINE_TUNE, [], None)
    inputs = np.stack([square("cat.jpg"), square("coffee.jpg")])
    before, _ = vectors(model, inputs)
    generator = torch.Generator().manual_seed(2)
    for _ in range(2):
        mean, deviation = torch.rand(2, 2 * FEATURES, generator=generator)
        model.standardise(mean, 0.1 + deviation)
        np.testing.assert_allclose(vectors(model, inputs)[0], before, atol=1e-5)
    model.save(tmp_path, learned={}, training={})
    np.testing.assert_allclose(load_image_encoder(str(tmp_path), threads=1).encode(inputs), before, atol=2e-3)


@pytest.mark.parametrize("quantize", [False, True])
def test_a_sentence_encoder_becomes_the_text_tower_and_is_stored(
    sentence_encoder: Path, tmp_path: Path, quantize: bool
) -> None:
    torch.manual_seed(0)
    model = build_model(with_transformer(sentence_encoder, quantize_text=quantize), [], None)
    assert (model.kind, model.dimension) == ("transformer", 24)
    photos, texts = vectors(model, square("cat.jpg")[None])
    model.save(tmp_path, learned={}, training={})
    stored = load_text_encoder(str(tmp_path)).encode(SENTENCES)
    assert ((stored * texts).sum(axis=1) > (0.995 if quantize else 0.99999)).all()
    np.testing.assert_allclose(
        load_image_encoder(str(tmp_path), threads=1).encode(square("cat.jpg")[None]), photos, atol=2e-3
    )


def test_rows_of_any_length_come_back_in_their_order(sentence_encoder: Path) -> None:
    model = build_model(with_transformer(sentence_encoder), [], None).eval()
    tokens = model.tokenize([f"{'cat ' * (number % 7)}sofa" for number in range(300)])
    with torch.inference_mode():
        together = model.texts(tokens)
        alone = torch.cat([model.texts([row]) for row in tokens[:20]])
    torch.testing.assert_close(together[:20], alone, rtol=1e-5, atol=1e-6)


def test_layers_are_kept_evenly_and_a_fresh_transformer_has_none_of_the_weights(
    sentence_encoder: Path,
) -> None:
    from crossmodal.models.native.minilm import read_sentence_encoder
    from crossmodal.models.native.towers import TransformerTextTower

    published, _ = read_sentence_encoder(sentence_encoder, dimension=24)
    kept = build_model(with_transformer(sentence_encoder, text_layers=2), [], None)
    fresh = build_model(with_transformer(sentence_encoder, text_layers=2, text_tower="transformer"), [], None)
    for model in (kept, fresh):
        assert isinstance(model, NativeModel)
        assert isinstance(model.text, TransformerTextTower)
        assert len(model.text.layers) == 2
    for new, old in ((0, 0), (1, 3)):
        name = "feed_in.weight"
        weight = published.layers[old].get_parameter(name)
        torch.testing.assert_close(kept.text.layers[new].get_parameter(name), weight)  # type: ignore[union-attr]
        assert not torch.allclose(fresh.text.layers[new].get_parameter(name), weight)  # type: ignore[union-attr]
    with pytest.raises(SettingsError, match=r"text_layers is 9, but .* has 4 layers"):
        build_model(with_transformer(sentence_encoder, text_layers=9), [], None)


def test_each_stage_trains_only_its_parts(sentence_encoder: Path) -> None:
    model = build_model(with_transformer(sentence_encoder), [], None)
    everything = {name for name, _ in model.named_parameters()}

    def trained(freeze: bool = True, **rates: float) -> set[str]:
        rated = {"image_trunk_rate": 0.0, "text_trunk_rate": 0.0, "head_rate": 0.0, **rates}
        stage = Stage(**rated)  # type: ignore[arg-type]
        return set(trained_parameters(model, stage, freeze_word_embeddings=freeze))

    heads = {f"{side}.projection.{part}" for side in ("image", "text") for part in ("weight", "bias")}
    assert trained(head_rate=1.0) == heads
    own = {name for name in everything if name.startswith("image.cnn.") and ".beside." not in name}
    assert trained(image_trunk_rate=1.0) == own < {name for name in everything if "cnn" in name}
    text = {name for name in everything if name.startswith("text.")} - heads
    assert trained(text_trunk_rate=1.0) == text - {"text.embedding.weight", "text.positions"}
    assert trained(freeze=False, text_trunk_rate=1.0) == text
    some = trained(image_trunk_rate=1.0) - {
        name for name in everything if name.startswith(("image.cnn.conv_stem", "image.cnn.blocks.0."))
    }
    stage = Stage(image_trunk_rate=1.0, text_trunk_rate=0.0, head_rate=0.0, frozen_blocks=2)
    assert set(trained_parameters(model, stage, freeze_word_embeddings=True)) == some


def test_only_matrices_decay_and_each_part_has_its_rate(sentence_encoder: Path) -> None:
    model = build_model(with_transformer(sentence_encoder), [], None)
    stage = Stage(image_trunk_rate=1e-4, text_trunk_rate=1e-5, head_rate=1e-3, weight_decay=0.1)
    trained = trained_parameters(model, stage, freeze_word_embeddings=True)
    loss = torch.nn.ParameterDict({"log_scale": torch.nn.Parameter(torch.zeros(()))})
    optimizer = build_optimizer(model, loss, stage, trained)
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    expected = {"image_trunk": 1e-4, "text_trunk": 1e-5, "head": 1e-3}
    for name, parameter in trained.items():
        part = model.part_of(name)
        assert part is not None
        assert rates.pop(id(parameter)) == (expected[part], 0.1 if parameter.ndim > 1 else 0.0)
    assert list(rates.values()) == [(1e-3, 0.0)]
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(trained)


def test_features_are_kept_and_know_their_photos_and_network(tmp_path: Path) -> None:
    model = build_model(FINE_TUNE, [], None).eval()
    inputs = input_store(tmp_path, model.preprocessing)
    digests = [bytes([number]) * 32 for number in range(2)]
    inputs.add(digests, np.stack([square("cat.jpg"), square("coffee.jpg")]))

    def features(views: int = 2) -> ContentStore:
        return cached_features(
            model, inputs, digests, views=views, augmentation=Augmentation(), folder=tmp_path, bfloat16=False
        )

    first = features()
    values = first.rows()[first.numbers(digests)]
    with torch.inference_mode():
        whole = model.features(plain(square("coffee.jpg")[None], model.preprocessing)).numpy()
        mirrored = model.features(
            plain(square("coffee.jpg")[None, :, ::-1].copy(), model.preprocessing)
        ).numpy()
    np.testing.assert_allclose(values[1], np.concatenate([whole, mirrored]), atol=0.02)
    # What is there isn't computed again.
    calls: list[torch.Tensor] = []
    handle = model.image_trunk().register_forward_pre_hook(lambda _, pixels: calls.append(pixels[0]))
    np.testing.assert_array_equal(features().rows(), first.rows())
    assert len(calls) == 1  # to learn how long a feature vector is
    assert features(views=1).rows().shape == (2, 1, 2 * FEATURES)
    with torch.no_grad():
        next(model.image_trunk().parameters()).add_(0.01)
    calls.clear()
    changed = features()
    assert len(calls) > 1
    assert not np.allclose(changed.rows()[changed.numbers(digests)], values, atol=0.02)
    handle.remove()


def test_views_are_the_photo_its_mirror_image_and_changed_parts() -> None:
    preprocessing = load_preprocessing("vse")
    photo, nothing = (
        square("cat.jpg"),
        Augmentation(scale=(1.0, 1.0), aspect=(1.0, 1.0), brightness=0, contrast=0),
    )
    views = views_of(photo, 5, Augmentation(), preprocessing, seed=4).numpy()
    np.testing.assert_allclose(views[0], preprocessing.scale(photo[None])[0], atol=1e-6)
    np.testing.assert_array_equal(views[1], views[0][:, :, ::-1])
    for view in views[2:]:
        assert np.abs(view - views[0]).mean() > 0.01
        # Still the same photo: no other colours.
        assert abs(view.mean() - views[0].mean()) < 0.5
    np.testing.assert_array_equal(views_of(photo, 5, Augmentation(), preprocessing, seed=4), views)
    kept = augmented(photo[None], replace(nothing, flip=False), preprocessing, np.random.default_rng(0))
    np.testing.assert_allclose(kept[0], views[0], atol=1e-6)
    flips = augmented(np.repeat(photo[None], 40, 0), nothing, preprocessing, np.random.default_rng(0)).numpy()
    mirrored = [bool(np.array_equal(flip, views[1])) for flip in flips]
    assert 8 < sum(mirrored) < 32
    assert all(
        np.allclose(flip, views[0], atol=1e-6) for flip, m in zip(flips, mirrored, strict=True) if not m
    )


def test_brightness_and_contrast_are_about_the_middle_grey() -> None:
    preprocessing = load_preprocessing("vse")
    change = Augmentation(scale=(1, 1), aspect=(1, 1), flip=False, brightness=0.2, contrast=0.3)
    grey = np.full((200, 4, 4, 3), 51, np.uint8)  # .2
    values = augmented(grey, change, preprocessing, np.random.default_rng(0)).numpy()[:, 0, 0, 0]
    # (.2 - .5) c + .5 + b for c from .7 to 1.3 and b from -.2 to .2, scaled to [-1, 1].
    low, high = 2 * (0.5 - 0.39 - 0.2) - 1, 2 * (0.5 - 0.21 + 0.2) - 1
    assert low <= values.min() < low + 0.1
    assert high - 0.1 < values.max() <= high
    assert values.mean() == pytest.approx(2 * 0.2 - 1, abs=0.05)


def test_colours_weaken_or_go_and_parts_turn_grey() -> None:
    preprocessing = load_preprocessing("vse")
    still = Augmentation(scale=(1, 1), aspect=(1, 1), flip=False, brightness=0, contrast=0)
    red = np.full((60, 32, 32, 3), (200, 40, 40), np.uint8)

    def values(**changes: float) -> np.ndarray:
        changed = augmented(red, replace(still, **changes), preprocessing, np.random.default_rng(0))  # type: ignore[arg-type]
        return np.round((changed.numpy() + 1) * 127.5)

    colours = values(colour=0.5)[:, :, 0, 0]
    strength = (colours[:, 0] - colours[:, 1]) / 160
    assert 0.5 <= strength.min() < 0.6
    assert strength.max() > 1.2
    grey = values(grey=0.5)[:, :, 0, 0]
    gone = grey[:, 0] == grey[:, 1]
    assert 18 < gone.sum() < 42
    # What is left is as bright as the colour was.
    assert np.unique(grey[gone]).tolist() == [87]
    erased = (values(erase=0.5) == 128).all(axis=1).mean(axis=(1, 2))
    assert 18 < (erased > 0).sum() < 42
    assert 0.03 < erased[erased > 0].min() < erased.max() < 0.22


TINY_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
TINY_SIGLIP = {
    **TINY_CLIP,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 32,
        "timm_model_name": "resnet10t",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
    },
}


@pytest.fixture(scope="module", params=["vit", pytest.param("timm", marks=pytest.mark.slow)])
def open_clip_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random open_clip model as the model hub has them."""
    open_clip = import_open_clip()
    folder = tmp_path_factory.mktemp(f"open-clip-{request.param}")
    configuration = TINY_CLIP if request.param == "vit" else TINY_SIGLIP
    preprocess = {
        "size": 32,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    document = {"model_cfg": configuration, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(document), encoding="utf-8")
    torch.manual_seed(1)
    cls = open_clip.CustomTextCLIP if request.param == "timm" else open_clip.CLIP
    settings = {key: value for key, value in configuration.items() if key != "custom_text"}
    save_file(cls(**settings).state_dict(), folder / "open_clip_model.safetensors")
    return folder


def test_an_open_clip_model_is_fine_tuned_and_loaded_again(open_clip_folder: Path, tmp_path: Path) -> None:
    name = str(open_clip_folder)
    model = build_model(TrainingConfig(data="shapes", model=name), [], tmp_path)
    inputs = square("cat.jpg", 32)[None]
    photos, texts = vectors(model, inputs)
    np.testing.assert_allclose(
        photos, load_image_encoder(name, threads=1, cache=tmp_path).encode(inputs), atol=1e-5
    )
    np.testing.assert_allclose(
        texts, load_text_encoder(name, threads=1, cache=tmp_path).encode(SENTENCES), atol=1e-5
    )
    loss = "infonce" if model.learned_by_loss().keys() == {"log_scale"} else "sigmoid"
    stages = (
        Stage(epochs=5, loss=loss, batch_size=24, text_trunk_rate=1e-3, head_rate=1e-3, warm_up_steps=5),
        Stage(
            epochs=12,
            loss=loss,
            batch_size=24,
            chunk_size=8,
            image_trunk_rate=3e-3,
            text_trunk_rate=3e-3,
            head_rate=3e-3,
            warm_up_steps=5,
        ),
    )
    config = TrainingConfig(data="shapes", model=name, bfloat16=False, stages=stages)
    records = list(world(range(0, 4, 2)))
    result = train_on(
        config, records, records, Run(tmp_path / "model", cache=tmp_path, models=tmp_path, threads=1)
    )
    history = json.loads((tmp_path / "model" / "history.json").read_text(encoding="utf-8"))["epochs"]
    assert history[-1]["loss"] < 0.9 * history[1]["loss"]
    if loss == "infonce":
        assert result.metrics["text2image"]["mrr"] > result.start["text2image"]["mrr"] + 0.05
    tuned = build_model(TrainingConfig(data="shapes", model=str(tmp_path / "model")), [], tmp_path)
    assert tuned.learned_by_loss() != model.learned_by_loss()
    photos, texts = vectors(tuned, inputs)
    encoder = load_image_encoder(str(tmp_path / "model"), threads=1, cache=tmp_path)
    np.testing.assert_allclose(encoder.encode(inputs), photos, atol=1e-5)
    assert encoder.preprocessing == load_preprocessing(name)
    training = json.loads((tmp_path / "model" / "training.json").read_text(encoding="utf-8"))
    assert training["metrics"] == result.metrics
    assert "towers of the open_clip model" in (tmp_path / "model" / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        ({"model": "nothing-like-it"}, ModelError, "There is no model 'nothing-like-it'"),
        (
            {"model": "vse", "resize": "crop"},
            SettingsError,
            "resize is 'crop', but vse was trained with 'squash'",
        ),
        (
            {"image_weights": "vse", "text_weights": "nowhere", "text_layers": 2},
            ModelError,
            "nowhere is not the folder of a sentence encoder",
        ),
    ],
)
def test_models_that_cannot_be_trained_are_named(
    settings: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        build_model(TrainingConfig(data="shapes", **settings), [], None)


def test_settings_of_our_own_models_are_refused_for_others(open_clip_folder: Path) -> None:
    config = TrainingConfig(data="shapes", model=str(open_clip_folder), text_tower="gru")
    with pytest.raises(SettingsError, match="text_tower concerns this project's own models"):
        build_model(config, [], None)
    model = build_model(TrainingConfig(data="shapes", model=str(open_clip_folder)), [], None)
    with pytest.raises(SettingsError, match="frozen_blocks is 2, which only this project's own models know"):
        trained_parameters(model, Stage(image_trunk_rate=1e-4, frozen_blocks=2), freeze_word_embeddings=True)
