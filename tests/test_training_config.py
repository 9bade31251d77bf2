"""Training configurations: what is read, and what is told of those that cannot be used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import REPOSITORY

from crossmodal.errors import SettingsError
from crossmodal.training import Augmentation, Stage, TrainingConfig, fine_tuning
from crossmodal.training.config import Classes, MoreData, Origin

CONFIG = TrainingConfig(
    data="f8k",
    more=(MoreData("food", tag="class", templates=("a photo of {}",)),),
    train_split="train",
    dev_split="dev",
    origin=Origin("cnn.safetensors", "sentence-encoder", end=(0.1, 0.2)),
    image_weights="cnn.safetensors",
    text_weights="sentence-encoder",
    average_decay=0.999,
    sources=("The CNN is somebody's.",),
    stages=(
        Stage(
            epochs=2,
            loss="sigmoid",
            augmentation=Augmentation(scale=(0.5, 1.0)),
            classes=Classes("cnn.safetensors", "names.csv", templates=("{}",)),
        ),
        Stage(loss=None, teachers=("clip",), distil="text", texts=("captions.txt",)),
    ),
)


def of(**settings: object) -> dict[str, object]:
    return {"data": "f8k", "model": "vse", **settings}


def with_stage(**settings: object) -> dict[str, object]:
    return of(stages=[settings])


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (of(learning_rat=1), r"no training setting learning_rat; there are .*stages"),
        ({"model": "vse"}, "setting data is missing"),
        (of(seed="3"), "setting seed cannot be '3'"),
        (of(patience=True), "setting patience cannot be True"),
        (of(patience=0), "patience is 0; it must be from 1 to 10000"),
        (of(resize="stretch"), "setting resize cannot be 'stretch'"),
        (of(dev_split="dev"), "dev_split is 'dev' without a train_split"),
        (of(dimension=64), "model and dimension are both given"),
        ({"data": "f8k"}, "Without the training setting model, image_weights is needed"),
        ({"data": "f8k", "image_weights": "vse"}, "one of text_weights and"),
        (of(text_tower="transformer"), "needs text_weights, whose word pieces it reads"),
        (of(text_tower="gru", text_weights="minilm"), "of no use to a gru"),
        (of(stages=[]), "stages is an empty list"),
        (of(stages={"epochs": 1}), r"setting stages cannot be \{'epochs': 1\}"),
        (of(stages=[3]), r"setting stages\[0\] cannot be 3; it is a JSON object"),
        (with_stage(epoch=1), r"no training setting stages\[0\] epoch; there are .*epochs"),
        (with_stage(epochs=1.5), r"setting stages\[0\] epochs cannot be 1.5"),
        (with_stage(dropout=1), r"dropout is 1; it must be from 0\.0 to 0\.95"),
        (with_stage(loss="hinge"), "no loss 'hinge'; there are max-of-hinges"),
        (with_stage(batch_size=8, captions_per_photo=5), "batch_size is 8: with 5 captions_per_photo"),
        (with_stage(teachers=["clip"]), "teachers and distil belong together"),
        (with_stage(loss=None), "needs teachers and distil"),
        (with_stage(texts=["more.txt"]), 'texts needs "distil": "text" or "vectors"'),
        (
            with_stage(image_trunk_rate=0, text_trunk_rate=0, head_rate=0),
            "are all 0: nothing would be trained",
        ),
        (with_stage(augmentation={"scale": [0.9, 0.3]}), r"augmentation scale is \[0\.9, 0\.3\]"),
        (with_stage(augmentation={"scale": [0.9]}), r"scale cannot be \[0\.9\]; it is a list of 2"),
        (with_stage(classes={"names": "n.csv"}), r"stages\[0\] classes weights is missing"),
        (
            with_stage(classes={"weights": "cnn", "names": "n.csv", "templates": ["a dog"]}),
            r"classes template 'a dog' must have \{\} once",
        ),
        (
            with_stage(
                loss=None, teachers=["clip"], distil="text", classes={"weights": "cnn", "names": "n.csv"}
            ),
            "classes needs photos",
        ),
        (of(more=[{"data": "d", "tag": "class", "templates": []}]), "more templates is an empty list"),
        (of(keep_model=[1.5]), r"keep_model has 1\.5; shares"),
        (of(origin={"image_weights": "c", "text_weights": "t", "start": 2}), "has the share 2; shares"),
        (with_stage(augmentation={"contrast": 2}), r"augmentation contrast is 2; it must be from 0\.0 to 1"),
    ],
)
def test_settings_that_cannot_be_used_are_named(value: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        TrainingConfig.from_json(value)


def test_a_configuration_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG.to_json()), encoding="utf-8")
    assert TrainingConfig.load(path) == CONFIG
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(SettingsError, match="is not a JSON object"):
        TrainingConfig.load(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        TrainingConfig.load(tmp_path / "gone.json")


def test_whole_numbers_do_for_fractions_and_null_for_what_may_be_missing() -> None:
    config = TrainingConfig.from_json(of(average_decay=None, stages=[{"margin": 1, "scale": None}]))
    assert config.stages[0].margin == 1
    assert config.stages[0].scale is None


@pytest.mark.parametrize("path", sorted((REPOSITORY / "crossmodal/training/configs").glob("*.json")))
def test_the_committed_configurations_can_be_used(path: Path) -> None:
    config = TrainingConfig.load(path)
    assert config.train_split == "train"
    # Never chosen by the test split.
    assert config.dev_split == "dev"


def test_fine_tuning_is_cautious_and_takes_the_options() -> None:
    config = fine_tuning("my-photos", "vse", loss="mnr", split="train", num_docs=70)
    assert (config.data, config.model, config.train_split, config.num_docs) == (
        "my-photos",
        "vse",
        "train",
        70,
    )
    (stage,) = config.stages
    assert (stage.loss, stage.image_trunk_rate) == ("mnr", 0)
    assert fine_tuning("my-photos", "vse").stages[0] == replace(stage, loss="max-of-hinges")
    # Every setting is on disk as it is in memory, so that a run can be told from another.
    assert TrainingConfig.from_json(config.to_json()) == config
