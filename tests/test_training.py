"""Training on a small world of coloured squares, where it is known what must be learnt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import encoded
from PIL import Image, ImageDraw

from crossmodal.errors import DataSetError, ModelError, SettingsError
from crossmodal.evaluation import evaluate
from crossmodal.images import decode_image
from crossmodal.models import identify_model, load_text_encoder
from crossmodal.records import Failure, Record, record_id
from crossmodal.training import Progress, TrainingConfig, train, train_on
from crossmodal.training.features import FeatureExtractor, views_of
from crossmodal.training.pairs import hold_out

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220), "white": (240, 240, 240)}
SHAPES = ("circle", "square", "line")
CONFIG = TrainingConfig(
    data="coloured shapes",
    views=1,
    dimension=32,
    word_dimension=16,
    min_word_count=1,
    sum_epochs=20,
    epochs=30,
    batch_size=24,
    learning_rate=5e-3,
    warm_up_steps=5,
    dropout=0.0,
    feature_dropout=0.0,
    patience=30,
)


def picture(colour: str, shape: str, shift: int) -> bytes:
    image = Image.new("RGB", (64, 64), (90, 90, 90))
    draw = ImageDraw.Draw(image)
    box = (8 + shift, 8, 48 + shift, 48)
    if shape == "circle":
        draw.ellipse(box, fill=COLOURS[colour])
    elif shape == "square":
        draw.rectangle(box, fill=COLOURS[colour])
    else:
        draw.line(box, fill=COLOURS[colour], width=6)
    return encoded(image, "PNG")


def world(shifts: range) -> Iterator[Record]:
    for colour in COLOURS:
        for shape in SHAPES:
            for shift in shifts:
                photo = record_id(f"{colour}-{shape}-{shift}")
                # Captions come before their photo here: no order may be needed.
                for number, text in enumerate((f"a {colour} {shape}", f"this {shape} is {colour}")):
                    yield Record(f"{photo}-{number}", "text", text=text, photo_id=photo)
                yield Record(photo, "image", content=picture(colour, shape, shift))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    folder = tmp_path_factory.mktemp("trained")
    signs: list[Progress] = []
    result = train_on(
        CONFIG,
        world(range(0, 8, 2)),
        world(range(1, 3)),
        output=folder / "model",
        cache=folder / "cache",
        threads=1,
        command="pytest",
        progress=signs.append,
    )
    assert result.failures == []
    assert result.metrics["text2image"]["hit@10"] > 0.9
    return folder, signs


def test_the_trained_checkpoint_tells_colours_and_shapes_apart(trained: tuple[Path, list[Progress]]) -> None:
    folder, _ = trained
    # One photo a kind, at a place that training has not shown.
    result = evaluate(str(folder / "model"), world(range(3, 4)))
    for direction in ("text2image", "image2text"):
        # Chance would be 1/12 and 5/12.
        assert result[direction]["hit@1"] >= 0.5
        assert result[direction]["hit@5"] >= 0.9
    assert result["gallery"] == {"text2image": 12, "image2text": 24}


def test_the_checkpoint_says_how_it_came_about(trained: tuple[Path, list[Progress]]) -> None:
    folder, _ = trained
    training = json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))["training"]
    assert training["config"] == CONFIG.to_json()
    assert (training["command"], training["train"], training["dev"]) == (
        "pytest",
        {"photos": 48, "captions": 96},
        {"photos": 24, "captions": 48},
    )
    assert 1 <= training["best_epoch"] <= training["epochs"] <= 30
    card = (folder / "model" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "- Command: `pytest`" in card
    assert "48 photos with 96 captions to train on; 24 photos with 48 captions (dev)" in card
    assert f"| hit@10 | {training['metrics']['text2image']['hit@10']:.4g} |" in card


def test_the_vocabulary_is_that_of_the_training_captions(trained: tuple[Path, list[Progress]]) -> None:
    folder, _ = trained
    words = (folder / "model" / "vocabulary.txt").read_text(encoding="utf-8").split()
    assert set(words[4:]) == {"a", "this", "is", *COLOURS, *SHAPES}


def test_progress_counts_photos_steps_and_epochs(trained: tuple[Path, list[Progress]]) -> None:
    _, signs = trained
    assert [sign.done for sign in signs if sign.stage == "train photos"] == list(range(1, 49))
    assert [sign.done for sign in signs if sign.stage == "dev photos"] == list(range(1, 25))
    steps = [sign for sign in signs if sign.stage == "steps"]
    assert [sign.done for sign in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].total == 30 * (96 // 24)
    epochs = [sign for sign in signs if sign.stage == "epochs"]
    assert "hit@10" in epochs[0].message
    first, last = (float(sign.message.split()[1].rstrip(",")) for sign in (epochs[0], epochs[19]))
    assert last < first / 2


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    trained: tuple[Path, list[Progress]], tmp_path: Path
) -> None:
    folder, _ = trained
    short = replace(CONFIG, epochs=2, sum_epochs=1)
    weights = []
    for number, config in enumerate((short, short, replace(short, seed=1))):
        output = tmp_path / str(number)
        train_on(
            config,
            world(range(0, 8, 2)),
            world(range(1, 3)),
            output=output,
            cache=folder / "cache",
            threads=1,
        )
        weights.append(identify_model(str(output)).weights)
    assert weights[0] == weights[1] != weights[2]


def test_early_stopping_keeps_the_best_epoch(trained: tuple[Path, list[Progress]], tmp_path: Path) -> None:
    folder, _ = trained
    config = replace(CONFIG, epochs=200, sum_epochs=2, patience=3, learning_rate=1e-6)
    result = train_on(
        config, world(range(0, 8, 2)), world(range(1, 3)), output=tmp_path, cache=folder / "cache", threads=1
    )
    assert result.epochs < 200
    assert result.best_epoch < result.epochs


def test_the_cache_is_used_and_knows_its_photos(tmp_path: Path) -> None:
    from crossmodal.models.preprocessing import ImagePreprocessing
    from crossmodal.training.train import initial_cnn

    preprocessing = ImagePreprocessing(224, "squash", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    cnn = initial_cnn("vse")
    photos = [picture("red", "circle", 0), picture("blue", "line", 0)]
    first = list(FeatureExtractor(cnn, preprocessing, 2, tmp_path).extract(photos))
    files = sorted(tmp_path.rglob("*.npy"))
    assert len(files) == 2
    marked = np.full((2, 1280), 7, np.float16)
    for file in files:
        np.save(file, marked)
    again = list(FeatureExtractor(cnn, preprocessing, 2, tmp_path).extract(photos))
    assert all(isinstance(features, np.ndarray) and np.array_equal(features, marked) for features in again)
    # Another number of views, another photo and a damaged file are computed.
    other = list(FeatureExtractor(cnn, preprocessing, 1, tmp_path).extract(photos))
    for features, whole in zip(other, first, strict=True):
        assert isinstance(features, np.ndarray)
        assert isinstance(whole, np.ndarray)
        np.testing.assert_allclose(features[0], whole[0], atol=0.02)
    files[0].write_bytes(b"torn")
    repaired = list(FeatureExtractor(cnn, preprocessing, 2, tmp_path).extract(photos))
    assert sum(isinstance(found, np.ndarray) and np.array_equal(found, marked) for found in repaired) == 1


def test_views_are_the_photo_its_mirror_image_and_parts_of_it() -> None:
    rgb = decode_image(picture("green", "square", 3))
    views = views_of(rgb, 6, seed=4)
    np.testing.assert_array_equal(views[0], rgb)
    np.testing.assert_array_equal(views[1], rgb[:, ::-1])
    for view in views[2:]:
        assert 0.5 < view.shape[0] * view.shape[1] / (64 * 64) < 1
    for one, other in zip(views, views_of(rgb, 6, seed=4), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(views_of(rgb, 1, seed=4)) == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10))
def test_views_exist_of_photos_of_any_size(width: int, height: int, seed: int) -> None:
    views = views_of(np.zeros((height, width, 3), np.uint8), 5, seed)
    assert len(views) == 5
    assert all(0 < view.shape[0] <= height and 0 < view.shape[1] <= width for view in views)


def test_unreadable_photos_are_left_out_and_named(
    trained: tuple[Path, list[Progress]], tmp_path: Path
) -> None:
    folder, _ = trained
    bad: list[Record | Failure] = [
        Failure("list.csv, line 3", "The file gone.jpg is not there."),
        Record("x", "image", uri="/photos/x.jpg", content=b"no image"),
        Record("x-0", "text", text="a red zeppelin", photo_id="x"),
        Record("lonely", "text", text="a caption without a photo", photo_id="nothing"),
    ]
    result = train_on(
        replace(CONFIG, epochs=1),
        [*bad, *world(range(0, 8, 2))],
        world(range(1, 3)),
        output=tmp_path,
        cache=folder / "cache",
        threads=1,
    )
    assert [failure.source for failure in result.failures] == ["list.csv, line 3", "/photos/x.jpg"]
    assert "text, not an image" in result.failures[1].reason
    assert "zeppelin" not in (tmp_path / "vocabulary.txt").read_text(encoding="utf-8")


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="1 photos, 0 captions"):
        train_on(CONFIG, [Record("p", "image", content=picture("red", "line", 0))], [], output=tmp_path)


def test_held_out_photos_and_their_captions_stay_together() -> None:
    records = list(world(range(8)))
    dev = list(hold_out(records, 0.3, held_out=True))
    rest = list(hold_out(records, 0.3, held_out=False))
    assert sorted(record.id for record in (*dev, *rest) if isinstance(record, Record)) == sorted(
        record.id for record in records
    )
    of_dev = {record.photo_id or record.id for record in dev if isinstance(record, Record)}
    of_rest = {record.photo_id or record.id for record in rest if isinstance(record, Record)}
    assert not of_dev & of_rest
    assert 0.15 < len(of_dev) / 96 < 0.45


def test_a_data_set_by_path_with_photos_held_out(tmp_path: Path) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    lines = ["image,caption"]
    for colour in COLOURS:
        for shape in SHAPES:
            name = f"{colour}-{shape}.png"
            (tmp_path / "data" / "images" / name).write_bytes(picture(colour, shape, 0))
            lines += [f"{name},a {colour} {shape}", f"{name},this {shape} is {colour}"]
    (tmp_path / "data" / "captions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = replace(CONFIG, data=str(tmp_path / "data"), dev_share=0.3, epochs=1, sum_epochs=1, batch_size=4)
    result = train(config, data_root=tmp_path, output=tmp_path / "model", threads=1)
    assert result.failures == []
    training = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))["training"]
    assert training["train"]["photos"] + training["dev"]["photos"] == 12
    assert load_text_encoder(str(tmp_path / "model")).encode(["a red circle"]).shape == (1, 32)


def test_an_initial_cnn_that_is_none_is_named(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"conv_stem.weight": np.zeros((1, 1), np.float32)}, tmp_path / "other.safetensors")
    for name, sentence in (
        (str(tmp_path / "gone.safetensors"), "cannot be read"),
        (str(tmp_path / "other.safetensors"), "is not a timm state dict of mobilenet_edgetpu_100: it lacks"),
    ):
        with pytest.raises(ModelError, match=sentence):
            train_on(
                replace(CONFIG, initial_cnn=name), world(range(1)), world(range(1)), output=tmp_path / "out"
            )


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"data": "f8k", "learning_rat": 1}, "no training setting learning_rat; there are .*learning_rate"),
        ({"epochs": 3}, "setting data is missing"),
        ({"data": "f8k", "epochs": "3"}, "setting epochs cannot be '3'"),
        ({"data": "f8k", "epochs": True}, "setting epochs cannot be True"),
        ({"data": "f8k", "epochs": 0}, "epochs is 0; it must be from 1 to 10000"),
        ({"data": "f8k", "resize": "stretch"}, "setting resize cannot be 'stretch'"),
        ({"data": "f8k", "train_split": "train"}, "only one is given"),
        ({"data": "f8k", "dropout": 1}, r"dropout is 1; it must be from 0\.0 to 0\.95"),
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
