"""What models teach another one and which of its layers stay as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coloured_shapes import measured_by_torch, world

from crossmodal.errors import SettingsError
from crossmodal.images import decode_image
from crossmodal.models import load_image_encoder, load_text_encoder
from crossmodal.models.registry import find_native
from crossmodal.records import Failure
from crossmodal.training import Run, Stage, TrainingConfig, train_on

TEACHERS = ("clip-mini", "vse")


def taught(stage: Stage, output: Path, model: str = "clip-mini") -> Path:
    config = TrainingConfig(
        data="coloured shapes", model=model, patience=200, bfloat16=False, stages=(stage,)
    )
    with measured_by_torch():
        train_on(config, world(range(0, 4, 2)), world(range(1, 2)), Run(output, threads=1))
    return output


def vectors(model: str) -> tuple[np.ndarray, np.ndarray]:
    """Those of the photos and captions of the world's training half."""
    records = [record for record in world(range(0, 4, 2)) if not isinstance(record, Failure)]
    images, texts = load_image_encoder(model, threads=1), load_text_encoder(model, threads=1)
    photos = [images.preprocessing.crop(decode_image(record.content)) for record in records if record.content]
    return images.encode(np.stack(photos)), texts.encode([r.text for r in records if r.text])


def test_several_teachers_teach_the_means_of_their_vectors(tmp_path: Path) -> None:
    stage = Stage(
        epochs=100,
        loss=None,
        teachers=TEACHERS,
        distil="vectors",
        batch_size=48,
        text_trunk_rate=0.0,
        head_rate=2e-4,
        weight_decay=0.0,
        warm_up_steps=5,
        views=1,
        feature_dropout=0.0,
    )
    student = vectors(str(taught(stage, tmp_path / "student")))
    both = [vectors(name) for name in TEACHERS]
    for side in (0, 1):
        mean = sum(found[side] for found in both)
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)
        before, now = ((found[side] * mean).sum(axis=1).mean() for found in (both[0], student))
        # The heads alone learn, from 24 photos.
        assert 1 - now < 0.7 * (1 - before)


def test_the_first_layers_stay_where_they_are_to(tmp_path: Path) -> None:
    stage = Stage(
        epochs=2,
        loss=None,
        teachers=("vse",),
        distil="text",
        batch_size=12,
        text_trunk_rate=1e-3,
        head_rate=1e-3,
        frozen_layers=5,
        warm_up_steps=1,
    )
    folder = taught(stage, tmp_path / "student")
    before, after = (find_native(name) for name in ("clip-mini", str(folder)))
    assert before is not None
    assert after is not None
    moved = {
        name
        for name, values in after.text_weights().items()
        if not np.allclose(values, before.text_weights()[name], atol=1e-3)
    }
    assert moved
    assert all(name.startswith(("layers.5.", "projection.")) for name in moved), moved


def test_a_gru_has_no_layers_to_freeze(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="frozen_layers is 1"):
        taught(Stage(epochs=1, frozen_layers=1), tmp_path, model="vse")


def test_the_second_branch_is_not_trained(tmp_path: Path) -> None:
    stage = Stage(
        epochs=6,
        batch_size=24,
        image_trunk_rate=2e-4,
        text_trunk_rate=0.0,
        frozen_blocks=4,
        photo_size=96,
        warm_up_steps=2,
    )
    before, after = (find_native(name) for name in ("clip-mini", str(taught(stage, tmp_path / "model"))))
    assert before is not None
    assert after is not None
    moved = {
        name
        for name, values in after.image_weights().items()
        if not np.allclose(values, before.image_weights()[name], atol=1e-3)
    }
    assert not any(name.startswith(("cnn.beside.", "cnn.conv_stem.", "cnn.blocks.2.")) for name in moved)
    assert any(name.startswith("cnn.blocks.5.") for name in moved)
