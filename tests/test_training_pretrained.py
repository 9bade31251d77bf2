"""What was pretrained stays of use: its classifier as a teacher, and its weights in means with later ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from coloured_shapes import COLOURS, SHAPES, measured_by_torch, named, picture, world
from pretrained_networks import cnn_features, save_as_timm_does, save_one_branch

from crossmodal.evaluation.zero_shot import zero_shot
from crossmodal.images import decode_image
from crossmodal.models import load_image_encoder
from crossmodal.models.registry import find_native
from crossmodal.records import Record
from crossmodal.training import Run, Stage, TrainingConfig, train_on
from crossmodal.training.config import Classes, Origin


def test_a_classifier_teaches_what_no_caption_tells_apart(tmp_path: Path) -> None:
    preprocessing = load_image_encoder("vse", threads=1, runtime="torch").preprocessing

    def squares(shift: int) -> np.ndarray:
        pictures = [picture(colour, shape, shift) for colour in COLOURS for shape in SHAPES]
        return np.stack([preprocessing.crop(decode_image(photo)) for photo in pictures])

    photos = [record for record in world(range(0, 8, 2)) if isinstance(record, Record)]
    equal = [replace(record, text=" ".join(COLOURS)) if record.text else record for record in photos]
    shown = cnn_features(squares(0))
    features = shown.reshape(4, 3, -1).mean(axis=1)
    classifier = 2 * (features - features.mean(axis=0))

    def classified(of: np.ndarray) -> np.ndarray:
        numbers: np.ndarray = (of @ classifier.T).argmax(axis=1)
        return numbers

    save_as_timm_does(tmp_path / "cnn.safetensors", classifier.astype(np.float32))
    (tmp_path / "names.csv").write_text("class\n" + "\n".join(COLOURS), encoding="utf-8")
    classes = Classes(
        str(tmp_path / "cnn.safetensors"), str(tmp_path / "names.csv"), templates=("{}",), count=4
    )
    stage = Stage(
        epochs=40,
        batch_size=24,
        text_trunk_rate=5e-3,
        head_rate=5e-3,
        warm_up_steps=5,
        views=1,
        dropout=0.0,
        feature_dropout=0.0,
        classes=classes,
    )
    config = TrainingConfig(
        data="shapes",
        image_weights="vse",
        text_tower="gru",
        dimension=32,
        word_dimension=16,
        min_word_count=1,
        patience=40,
        bfloat16=False,
        stages=(stage,),
    )
    with measured_by_torch():
        train_on(
            config,
            equal,
            world(range(1, 2)),
            Run(tmp_path / "model", threads=1),
        )
    found = zero_shot(str(tmp_path / "model"), named(range(3, 4)))
    assert (found.photos, found.sentences) == (12, 4)
    own = classified(cnn_features(squares(3)))
    said = own.reshape(4, 3) == np.arange(4)[:, None]
    # Chance would be a quarter; the classifier isn't always right itself.
    assert said.mean() > 0.6
    assert found.cosine > said.mean() - 0.2


def test_weights_are_means_with_those_before_and_the_shares_are_noted(tmp_path: Path) -> None:
    save_as_timm_does(tmp_path / "cnn.safetensors", np.zeros((4, 1280), np.float32), times=0.5)
    save_one_branch(tmp_path / "before")
    stage = Stage(epochs=1, batch_size=24, image_trunk_rate=1e-9, text_trunk_rate=1e-9, head_rate=1e-9)
    config = TrainingConfig(
        data="shapes",
        model=str(tmp_path / "before"),
        origin=Origin(image_weights=str(tmp_path / "cnn.safetensors"), start=0.5, end=(0.5,)),
        keep_model=(1.0,),
        bfloat16=False,
        stages=(stage,),
    )
    few = list(world(range(0, 2, 2)))
    with measured_by_torch():
        train_on(config, few, few, Run(tmp_path / "model", threads=1))
    notes = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))["training"]
    image, text = notes["origin_shares"]
    assert {image, text} <= {0.0, 0.5}
    before, after = (find_native(str(tmp_path / name)) for name in ("before", "model"))
    assert before is not None
    assert after is not None
    name = "cnn.conv_head.weight"
    # Half of the weights are halved to begin with, and again at the end; or the model is as it was.
    left = 1.0 if notes["model_share"] == 1.0 else 0.75 * (1 - image) + 0.5 * image
    expected = left * before.image_weights()[name].astype(np.float32)
    np.testing.assert_allclose(after.image_weights()[name], expected, rtol=2e-3, atol=1e-5)
