"""A second branch beside a tuned network: what it learns, what it leaves, and how it is stored."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coloured_shapes import COLOURS, SHAPES, measured_by_torch, named, picture, world
from native_checkpoints import SQUASH, save_random_checkpoint
from pretrained_networks import cnn_features, save_as_timm_does, save_one_branch

from crossmodal.errors import SettingsError
from crossmodal.evaluation.zero_shot import zero_shot
from crossmodal.images import decode_image
from crossmodal.models import load_image_encoder, load_text_encoder
from crossmodal.models.native.checkpoint import NativeCheckpoint
from crossmodal.records import Record
from crossmodal.training import Run, TrainingConfig, train_on
from crossmodal.training.config import Widening
from crossmodal.training.trainable.building import build_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned model, ``tuned``, what it was pretrained as, and sentences' heads that know nothing."""
    folder = tmp_path_factory.mktemp("widening")
    save_random_checkpoint(folder / "text")
    save_one_branch(folder / "tuned")
    squares = [SQUASH.crop(decode_image(picture(c, s, 0))) for c in COLOURS for s in SHAPES]
    features = cnn_features(np.stack(squares)).reshape(4, 3, -1).mean(axis=1)
    save_as_timm_does(folder / "cnn.safetensors", 2 * (features - features.mean(axis=0)))
    (folder / "names.csv").write_text("class\n" + "\n".join(COLOURS), encoding="utf-8")
    return folder


def widen(
    folder: Path, output: str, training: Iterable[Record] | None = None, **settings: Any
) -> TrainingConfig:
    config = TrainingConfig(
        data="shapes",
        model=str(folder / "text"),
        image_weights=str(folder / "tuned"),
        bfloat16=False,
        widen=Widening(
            str(folder / "cnn.safetensors"), str(folder / "names.csv"), templates=("{}",), **settings
        ),
        stages=(),
    )
    with measured_by_torch():
        run = Run(folder / output, cache=folder / "cache", threads=1)
        train_on(config, training or world(range(0, 8, 2)), world(range(1, 2)), run)
    return config


def test_the_branch_learns_what_captions_say_and_is_measured_as_stored(folder: Path) -> None:
    widen(folder, "wide", share=1.0, epochs=150, class_weight=0.0)
    notes = json.loads((folder / "wide" / "config.json").read_text(encoding="utf-8"))["training"]
    # Of 12 photos; heads that know nothing are right once in a while.
    assert notes["metrics"]["text2image"]["hit@1"] > 0.6
    card = (folder / "wide" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "100% of each cosine" in card
    assert "the heads of the second branch" in card


def test_the_classifier_teaches_what_no_caption_tells_apart(folder: Path) -> None:
    equal = [
        replace(record, text=" ".join(COLOURS)) if isinstance(record, Record) and record.text else record
        for record in world(range(0, 8, 2))
    ]
    widen(folder, "taught", equal, share=1.0, epochs=150)
    # Chance would be a quarter.
    assert zero_shot(str(folder / "taught"), named(range(3, 4))).cosine > 0.6


def test_without_a_share_cosines_are_those_of_the_model_itself(folder: Path) -> None:
    widen(folder, "same", share=0.0, epochs=1)
    config = TrainingConfig(
        data="shapes",
        model=str(folder / "text"),
        image_weights=str(folder / "tuned"),
        bfloat16=False,
        stages=(replace(TrainingConfig("shapes", model="vse").stages[0], epochs=1, head_rate=1e-9),),
    )
    with measured_by_torch():
        train_on(config, world(range(0, 8, 2)), world(range(1, 2)), Run(folder / "narrow", threads=1))
    photos = np.stack([SQUASH.crop(decode_image(picture(c, s, 3))) for c in COLOURS for s in SHAPES])

    def cosines(name: str) -> np.ndarray:
        images = load_image_encoder(str(folder / name), threads=1, runtime="torch").encode(photos)
        texts = load_text_encoder(str(folder / name), threads=1, runtime="torch").encode(list(COLOURS))
        found: np.ndarray = images @ texts.T
        return found

    np.testing.assert_allclose(cosines("same"), cosines("narrow"), atol=0.02)


def test_every_form_computes_both_branches(folder: Path) -> None:
    widen(folder, "forms", share=0.5, epochs=2)
    name = str(folder / "forms")
    squares = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    plain = load_image_encoder(name, threads=1, runtime="torch").encode(squares)
    for runtime in ("onnx", "openvino"):
        found = load_image_encoder(name, threads=1, runtime=runtime).encode(squares)
        assert (np.sum(found * plain, axis=1) > 0.9999).all()
    weights = NativeCheckpoint.open(folder / "forms", name).image_weights()
    branch = {key.removeprefix("cnn.beside."): key for key in weights if key.startswith("cnn.beside.")}
    # It starts at stage 3, and here, where both come from the same network, has the same weights.
    assert {key.split(".")[1] for key in branch if key.startswith("blocks.")} == {"3", "4", "5", "6"}
    for key, of_branch in branch.items():
        np.testing.assert_array_equal(weights[of_branch], weights[f"cnn.{key}"])
    parameters = sum(value.size for value in weights.values())
    assert (folder / "forms" / "image.safetensors").stat().st_size < 1.15 * parameters


def test_a_new_head_on_both_branches_has_the_dimension_that_is_asked_for() -> None:
    config = TrainingConfig(
        data="shapes", image_weights="clip-mini", text_tower="gru", dimension=24, min_word_count=1
    )
    model = build_model(config, ["a red circle"], None)
    with torch.inference_mode():
        features = model.features(torch.zeros(2, 3, 224, 224))
        assert features.shape == (2, 2560)
        assert model.images(features).shape == (2, 24)


def test_what_cannot_be_widened_is_refused(folder: Path) -> None:
    config = widen(folder, "once", epochs=1)
    few = list(world(range(0, 2, 2)))
    for model, message in (("once", "has a second branch already"), ("vse", "models with a transformer")):
        source = str(folder / "once") if model == "once" else model
        again = replace(config, model=source, image_weights=None)
        with pytest.raises(SettingsError, match=message):
            train_on(again, few, few, Run(folder / "again", cache=folder / "cache", threads=1))
