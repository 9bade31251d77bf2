"""Training on a small world of coloured shapes, where it is known what must be learnt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coloured_shapes import COLOURS, SHAPES, measured_by_torch, picture, world

from crossmodal.errors import DataSetError, ModelError, SettingsError
from crossmodal.evaluation import evaluate
from crossmodal.models import identify_model, load_image_encoder, load_text_encoder
from crossmodal.records import Failure, Record
from crossmodal.training import (
    Epoch,
    Preparation,
    Run,
    Stage,
    Step,
    TrainingConfig,
    TrainingResult,
    train,
    train_on,
)
from crossmodal.training.pairs import hold_out, least_share

FAST = Stage(
    batch_size=24,
    text_trunk_rate=5e-3,
    head_rate=5e-3,
    weight_decay=0.0,
    warm_up_steps=5,
    clip_norm=2.0,
    views=1,
    dropout=0.0,
    feature_dropout=0.0,
)
CONFIG = TrainingConfig(
    data="coloured shapes",
    image_weights="vse",
    text_tower="gru",
    dimension=32,
    word_dimension=16,
    min_word_count=1,
    patience=30,
    bfloat16=False,
    stages=(
        replace(FAST, epochs=20, loss="sum-of-hinges"),
        replace(FAST, epochs=10, loss="max-of-hinges", text_trunk_rate=2e-3, head_rate=2e-3),
    ),
)
# No caption is given twice among the dev photos: the ranks of equal captions depend on the last bits.
TRAIN, DEV = range(0, 8, 2), range(1, 2)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares and features that all runs share."""
    return tmp_path_factory.mktemp("training-cache")


def short(**settings: object) -> TrainingConfig:
    """Two epochs of the sum of hinges, with other settings of the stage."""
    return replace(CONFIG, stages=(replace(FAST, epochs=2, loss="sum-of-hinges", **settings),))  # type: ignore[arg-type]


def run_on_world(config: TrainingConfig, output: Path, cache: Path) -> TrainingResult:
    with measured_by_torch():
        return train_on(config, world(TRAIN), world(DEV), Run(output, cache=cache, threads=1))


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> tuple[TrainingResult, list[Preparation | Step | Epoch]]:
    signs: list[Preparation | Step | Epoch] = []
    run = Run(
        tmp_path_factory.mktemp("trained") / "model",
        cache=cache,
        threads=1,
        command="pytest",
        progress=signs.append,
    )
    result = train_on(CONFIG, world(TRAIN), world(DEV), run)
    assert result.failures == []
    return result, signs


Trained = tuple[TrainingResult, list[Preparation | Step | Epoch]]


def test_the_trained_model_tells_colours_and_shapes_apart(trained: Trained) -> None:
    result, _ = trained
    # One photo a kind, at a place that training has not shown.
    found = evaluate(str(result.folder), world(range(3, 4)))
    for direction in ("text2image", "image2text"):
        # Chance would be 1/12 and 5/12.
        assert found[direction]["hit@1"] >= 0.5
        assert found[direction]["hit@5"] >= 0.9
    assert result.metrics["text2image"]["hit@1"] > result.start["text2image"]["hit@1"]
    assert result.best_stage > 0


def test_the_metrics_are_those_of_the_model_as_evaluate_measures_it(trained: Trained) -> None:
    result, _ = trained
    measured = evaluate(str(result.folder), world(DEV))
    for direction in ("text2image", "image2text"):
        for name, value in result.metrics[direction].items():
            assert measured[direction][name] == pytest.approx(value, abs=1e-9), name


def test_the_model_says_how_it_came_about(trained: Trained) -> None:
    result, _ = trained
    training = json.loads((result.folder / "config.json").read_text(encoding="utf-8"))["training"]
    assert TrainingConfig.from_json(training["config"]) == CONFIG
    assert (training["command"], training["train"], training["dev"]) == (
        "pytest",
        {"photos": 48, "captions": 96},
        {"photos": 12, "captions": 24},
    )
    card = (result.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "- Command: `pytest`" in card
    assert "48 photos with 96 captions to train on; 12 photos with 24 captions (dev)" in card
    assert "The photo's side started as `vse`" in card
    assert "Stage 2: up to 10 epochs of the loss max-of-hinges, on batches of 24 captions" in card
    assert "It has no banks" in card
    assert f"| hit@10 | {training['metrics']['text2image']['hit@10']:.4g} |" in card
    history = json.loads((result.folder / "history.json").read_text(encoding="utf-8"))
    assert [(epoch["stage"], epoch["number"]) for epoch in history["epochs"]] == [
        (0, 0),
        *((1, number) for number in range(1, 21)),
        *((2, number) for number in range(1, 11)),
    ]
    # A finished run leaves no state behind.
    assert not (result.folder / "training-state.pt").exists()


def test_the_vocabulary_is_that_of_the_training_captions(trained: Trained) -> None:
    result, _ = trained
    words = (result.folder / "vocabulary.txt").read_text(encoding="utf-8").split()
    assert set(words[4:]) == {"a", "this", "is", *COLOURS, *SHAPES}


def test_progress_counts_photos_steps_and_epochs(trained: Trained) -> None:
    _, signs = trained
    read = [sign.done for sign in signs if isinstance(sign, Preparation) and sign.doing == "training photos"]
    assert read == list(range(1, 49))
    steps = [sign for sign in signs if isinstance(sign, Step)]
    assert [(step.stage, step.epoch, step.step) for step in steps] == [
        (stage, epoch, step)
        for stage, epochs in ((1, 20), (2, 10))
        for epoch in range(1, epochs + 1)
        for step in range(1, 5)
    ]
    assert {(step.steps, step.captions) for step in steps} == {(4, 24)}
    epochs = [sign for sign in signs if isinstance(sign, Epoch)]
    losses = [epoch.loss for epoch in epochs if epoch.stage == 1 and epoch.loss is not None]
    assert losses[-1] < losses[0] / 2
    assert epochs[0].loss is None


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path, cache: Path) -> None:
    weights = []
    for number, config in enumerate((short(), short(), replace(short(), seed=1))):
        run_on_world(config, tmp_path / str(number), cache)
        weights.append(identify_model(str(tmp_path / str(number))).weights)
    assert weights[0] == weights[1] != weights[2]


def test_early_stopping_ends_the_stage_and_the_start_may_be_the_best(
    trained: Trained, tmp_path: Path, cache: Path
) -> None:
    good, _ = trained
    # Rates that can only do harm to a model that knows this world.
    stage = replace(FAST, epochs=50, loss="triplet-random", text_trunk_rate=1.0, head_rate=1.0)
    config = TrainingConfig(
        data="shapes", model=str(good.folder), patience=3, bfloat16=False, stages=(stage,)
    )
    result = run_on_world(config, tmp_path, cache)
    assert result.epochs < 50
    assert (result.best_stage, result.best_epoch) == (0, 0)
    texts = ["a red circle", "this line is blue"]
    before, after = (load_text_encoder(str(folder)).encode(texts) for folder in (good.folder, tmp_path))
    # Stored as fp16 once more.
    np.testing.assert_allclose(after, before, atol=1e-3)
    assert "none was better than the weights that it started with" in (tmp_path / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    "loss",
    [
        "triplet-semi-hard",
        "infonce",
        *(pytest.param(loss, marks=pytest.mark.slow) for loss in ("mnr", "sigmoid")),
    ],
)
def test_every_kind_of_loss_learns(loss: str, tmp_path: Path, cache: Path) -> None:
    stage = replace(
        FAST, epochs=20, loss=loss, scale=None if loss == "sigmoid" else 10.0, captions_per_photo=2
    )
    result = run_on_world(replace(CONFIG, stages=(stage,)), tmp_path, cache)
    history = json.loads((tmp_path / "history.json").read_text(encoding="utf-8"))["epochs"]
    assert history[-1]["loss"] < 0.8 * history[1]["loss"]
    assert result.metrics["text2image"]["mrr"] > result.start["text2image"]["mrr"] + 0.1


def test_the_image_trunk_learns_in_chunks_with_averaged_weights(tmp_path: Path, cache: Path) -> None:
    stage = replace(
        FAST,
        epochs=1,
        loss="infonce",
        batch_size=8,
        captions_per_photo=2,
        chunk_size=4,
        image_trunk_rate=1e-3,
    )
    config = replace(CONFIG, average_decay=0.9, stages=(stage,))
    few = [record for record in world(range(0, 2, 2)) if isinstance(record, Record)]
    with measured_by_torch():
        train_on(config, few, few, Run(tmp_path, cache=cache, threads=1))
    from crossmodal.models.registry import find_native

    shipped, changed = find_native("vse"), find_native(str(tmp_path))
    assert shipped is not None
    assert changed is not None
    before, after = shipped.image_weights(), changed.image_weights()
    moved = [
        name for name in before if name.startswith("cnn.") and not np.array_equal(before[name], after[name])
    ]
    # A few biases move by less than fp16 can tell; the second branch stays as it was pretrained.
    own = {name for name in before if name.startswith("cnn.") and ".beside." not in name}
    assert set(moved) <= own
    assert len(moved) > 0.9 * len(own)


def test_what_is_frozen_is_stored_as_it_was(tmp_path: Path, cache: Path) -> None:
    config = replace(short(head_rate=0.0), dimension=None)
    run_on_world(config, tmp_path, cache)
    square = np.zeros((1, 224, 224, 3), np.uint8)
    before, after = (load_image_encoder(name, threads=1).encode(square) for name in ("vse", str(tmp_path)))
    # The photo's side is vse's, projection included, to the last bit.
    np.testing.assert_array_equal(after, before)


def test_a_student_learns_captions_from_its_teacher(trained: Trained, tmp_path: Path, cache: Path) -> None:
    teacher, _ = trained
    (tmp_path / "more.txt").write_text(
        "\n".join(f"the {shape} of {colour}" for shape in SHAPES for colour in COLOURS), encoding="utf-8"
    )
    stage = replace(
        FAST,
        epochs=30,
        loss=None,
        teachers=(str(teacher.folder),),
        distil="text",
        texts=(str(tmp_path / "more.txt"),),
        head_rate=0.0,
    )
    config = replace(CONFIG, image_weights=str(teacher.folder), dimension=None, stages=(stage,))
    result = run_on_world(config, tmp_path / "student", cache)
    texts = ["a red circle", "this line is blue", "the square of green"]
    taught, learnt = (
        load_text_encoder(str(folder)).encode(texts) for folder in (teacher.folder, tmp_path / "student")
    )
    assert ((taught * learnt).sum(axis=1) > 0.8).all()
    assert result.metrics["text2image"]["mrr"] > result.start["text2image"]["mrr"] + 0.1
    assert "of" in (tmp_path / "student" / "vocabulary.txt").read_text(encoding="utf-8").split()


def test_a_student_learns_similarities_of_a_teacher_with_another_dimension(
    trained: Trained, tmp_path: Path, cache: Path
) -> None:
    teacher, _ = trained
    stage = replace(FAST, epochs=10, loss=None, teachers=(str(teacher.folder),), distil="similarity")
    config = replace(CONFIG, dimension=24, stages=(stage,))
    result = run_on_world(config, tmp_path / "student", cache)
    history = json.loads((tmp_path / "student" / "history.json").read_text(encoding="utf-8"))["epochs"]
    assert history[-1]["loss"] < history[1]["loss"] / 2
    assert result.metrics["text2image"]["mrr"] > result.start["text2image"]["mrr"]
    with pytest.raises(SettingsError, match="has 32 dimensions and the model 24"):
        run_on_world(replace(config, stages=(replace(stage, distil="text"),)), tmp_path / "other", cache)


def bad_records() -> Iterable[Record | Failure]:
    yield Failure("list.csv, line 3", "The file gone.jpg is not there.")
    yield Record("x", "image", uri="/photos/x.jpg", content=b"no image")
    yield Record("x-0", "text", text="a red zeppelin", photo_id="x")
    yield Record("lonely", "text", text="a caption without a photo", photo_id="nothing")


def test_unreadable_photos_are_left_out_and_named(tmp_path: Path, cache: Path) -> None:
    with measured_by_torch():
        result = train_on(
            replace(CONFIG, stages=(replace(FAST, epochs=1, loss="sum-of-hinges"),)),
            [*bad_records(), *world(TRAIN)],
            world(DEV),
            Run(tmp_path, cache=cache, threads=1),
        )
    assert [failure.source for failure in result.failures] == ["list.csv, line 3", "/photos/x.jpg"]
    assert "text, not an image" in result.failures[1].reason
    assert "zeppelin" not in (tmp_path / "vocabulary.txt").read_text(encoding="utf-8")


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    lonely: Iterator[Record] = iter([Record("p", "image", content=picture("red", "line", 0))])
    with pytest.raises(DataSetError, match="1 photos, 0 captions"):
        train_on(CONFIG, lonely, [], Run(tmp_path))


def test_rates_that_are_too_high_end_in_a_sentence(tmp_path: Path, cache: Path) -> None:
    config = short(text_trunk_rate=10.0, head_rate=10.0, weight_decay=10.0, clip_norm=1e6, warm_up_steps=0)
    config = replace(config, stages=(replace(config.stages[0], epochs=300, loss="infonce"),), patience=300)
    with pytest.raises(SettingsError, match=r"became (nan|inf) in stage 1, epoch \d+, step \d; lower"):
        run_on_world(config, tmp_path, cache)


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


def test_which_photos_are_held_out_depends_on_their_bytes_alone() -> None:
    def moved(record: Record) -> Record:
        photo = record.photo_id and f"elsewhere-{record.photo_id}"
        return replace(record, id=f"elsewhere-{record.id}", photo_id=photo)

    records = list(world(range(8)))
    elsewhere = [moved(record) for record in reversed(records)]
    there = {record.id for record in hold_out(elsewhere, 0.3, held_out=True) if isinstance(record, Record)}
    here = {record.id for record in hold_out(records, 0.3, held_out=True) if isinstance(record, Record)}
    assert there == {f"elsewhere-{id}" for id in here}


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_of_two_photos_one_is_held_out_and_of_many_the_share(share: float) -> None:
    def photos(number: int, seed: int) -> list[Record]:
        return [
            record
            for name in map(str, range(number))
            for record in (
                Record(f"p{name}", "image", content=f"{seed} {name}".encode()),
                Record(f"p{name}-0", "text", text="a caption", photo_id=f"p{name}"),
            )
        ]

    for number in (2, 3, 10):
        for seed in range(30):
            # Without captions a photo is nothing to measure on.
            lonely = Record("lonely", "image", content=f"lonely {seed}".encode())
            records = [lonely, *photos(number, seed)]
            chosen = least_share(records, share)
            for held_out in (True, False):
                of_side = list(hold_out(records, chosen, held_out=held_out))
                assert any(isinstance(record, Record) and record.modality == "text" for record in of_side)
    assert least_share(photos(2000, 0), share) == share
    assert least_share(photos(1, 0), share) == share


def test_what_belongs_to_no_photo_is_not_held_out() -> None:
    stray = [
        Record("lost", "text", text="a caption of nothing"),
        Record("late", "text", text="its photo never comes", photo_id="gone"),
        Failure("somewhere", "it cannot be read"),
    ]
    assert list(hold_out(stray, 0.5, held_out=True)) == []
    assert {repr(record) for record in hold_out(stray, 0.5, held_out=False)} == set(map(repr, stray))


def test_a_data_set_by_path_with_photos_held_out(tmp_path: Path) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    lines = ["image,caption"]
    for colour in COLOURS:
        for shape in SHAPES:
            name = f"{colour}-{shape}.png"
            (tmp_path / "data" / "images" / name).write_bytes(picture(colour, shape, 0))
            lines += [f"{name},a {colour} {shape}", f"{name},this {shape} is {colour}"]
    (tmp_path / "data" / "captions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = replace(short(batch_size=4), data=str(tmp_path / "data"), dev_share=0.3, num_docs=30)
    result = train(config, Run(tmp_path / "model", threads=1), data_root=tmp_path)
    assert result.failures == []
    training = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))["training"]
    # 30 documents are ten photos with two captions each.
    assert training["train"]["photos"] + training["dev"]["photos"] == 10
    # Nobody learns from a model where its maker keeps his photos.
    assert training["config"]["data"] == "data"
    assert load_text_encoder(str(tmp_path / "model")).encode(["a red circle"]).shape == (1, 32)


def test_image_weights_that_are_none_are_named(tmp_path: Path, cache: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"conv_stem.weight": np.zeros((1, 1), np.float32)}, tmp_path / "other.safetensors")
    for name, sentence in (
        (str(tmp_path / "gone.safetensors"), "cannot be read"),
        (str(tmp_path / "other.safetensors"), "is not a timm state dict of mobilenet_edgetpu_100: it lacks"),
    ):
        with pytest.raises(ModelError, match=sentence):
            run_on_world(replace(CONFIG, image_weights=name), tmp_path / "out", cache)
