"""Calibrations: fitted by hand, on genuine vectors, stored beside the models, and estimated from an index."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, SHARED_DATA, TOY_DATA, run_app
from store_samples import VSE, caption, photo

from crossmodal.cli.present.evaluation import print_calibration
from crossmodal.data_sets import open_data_set
from crossmodal.engine.photo_index import PhotoIndex
from crossmodal.errors import DataError, DataSetError, ModelError, SettingsError
from crossmodal.evaluation import EncodedSet, EncodedSide
from crossmodal.evaluation.calibration import BIN_EDGES, measure_calibration, reliability
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.models import identify_model
from crossmodal.models.native.checkpoint import SHIPPED
from crossmodal.query.calibration import (
    FALLBACK_LINE,
    MIN_PAIRS,
    Calibration,
    PairStatistics,
    calibration_of,
    estimate_calibration,
    stored_calibration,
)
from crossmodal.query.pair_statistics import fit_logistic, logistic, logit, sample_vectors
from crossmodal.records import IMAGE, TEXT
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

CLIP_VECTORS = SHARED_DATA / "clip-vit-b32-embeddings" / "flickr8k-94-images-470-captions.npz"


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def two_cones(pairs: int, seed: int = 0, noise: float = 0.15) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Photos around one axis, two captions of each around another and near to it but for ``noise``."""
    random = np.random.default_rng(seed)
    meaning = random.standard_normal((pairs, 32)) / 4
    owners = np.repeat(np.arange(pairs), 2)
    captions = meaning[owners] + noise * random.standard_normal((2 * pairs, 32)) + 2 * np.eye(32)[1]
    return unit(meaning + np.eye(32)[0]), unit(captions), owners.tolist()


def test_statistics_are_those_of_all_unrelated_pairs() -> None:
    images, texts, owners = two_cones(30)
    fitted = Calibration.fit(images, texts, owners)
    wide_images, wide_texts = images.astype(float), texts.astype(float)
    number = np.array(owners)
    for pair, cosines, unrelated in (
        (fitted.image_image, wide_images @ wide_images.T, ~np.eye(30, dtype=bool)),
        (fitted.image_text, wide_texts @ wide_images.T, number[:, None] != np.arange(30)),
        (fitted.text_text, wide_texts @ wide_texts.T, number[:, None] != number),
    ):
        assert pair.mean == pytest.approx(cosines[unrelated].mean(), abs=1e-9)
        assert pair.std == pytest.approx(cosines[unrelated].std(), abs=1e-9)


def test_statistics_of_ranks_with_hubness_are_those_of_each_direction() -> None:
    images, texts, owners = two_cones(60)
    hubness = np.linspace(0.1, 0.3, 60), np.linspace(0.0, 0.2, 120)
    fitted = Calibration.fit(images, texts, owners, hubness=hubness)
    unrelated = np.array(owners)[:, None] != np.arange(60)
    cosines = texts.astype(float) @ images.astype(float).T
    for pair, values, usual in (
        (fitted.text_image, cosines - hubness[0], 0.2),
        (fitted.image_text, cosines - hubness[1][:, None], 0.1),
    ):
        assert pair.hubness == pytest.approx(usual)
        assert pair.mean - pair.hubness == pytest.approx(values[unrelated].mean(), abs=1e-9)
        assert pair.std == pytest.approx(values[unrelated].std(), abs=1e-9)
    assert fitted.image_image.hubness == fitted.text_text.hubness == 0


def test_z_and_score_by_hand() -> None:
    calibration = Calibration(
        PairStatistics(0.5, 0.1),
        PairStatistics(0.2, 0.05),
        PairStatistics(0.2, 0.05),
        PairStatistics(0.6, 0.2),
        slope=2,
        intercept=-6,
    )
    for one, other, cosine in (
        (IMAGE, IMAGE, 0.8),
        (IMAGE, TEXT, 0.35),
        (TEXT, IMAGE, 0.35),
        (TEXT, TEXT, 1.2),
    ):
        z = calibration.standardised(cosine, one, other)
        assert z == pytest.approx(3)
        assert calibration.score(z) == pytest.approx(0.5)
    assert calibration.score([-1e4, 1e4]).tolist() == [0, 1]


def test_logistic_regression_finds_the_line_that_made_the_data() -> None:
    centres = np.linspace(-4, 8, 600)
    density = np.exp(-(centres**2) / 8)
    share = logistic(1.5 * centres - 4)
    positives, negatives = 1e6 * density * share, 1e6 * density * (1 - share)
    prior = positives.sum() / (positives + negatives).sum()
    line = fit_logistic(centres, positives, negatives, prior)
    assert line == pytest.approx((1.5, -4), abs=1e-3)
    # Another prior moves the intercept alone, by the difference of the log odds.
    moved = fit_logistic(centres, positives, negatives, 0.5)
    assert moved == pytest.approx((1.5, -4 - logit(prior)), abs=1e-3)


def test_classes_that_can_be_separated_have_a_finite_slope() -> None:
    centres = np.arange(-5.0, 6.0)
    line = fit_logistic(centres, np.where(centres > 1, 50.0, 0), np.where(centres < 0, 500.0, 0), 0.01)
    assert line is not None
    assert 0 < line[0] < 100
    assert (
        fit_logistic(centres, np.where(centres < 0, 50.0, 0), np.where(centres > 1, 500.0, 0), 0.01) is None
    )


def test_equal_vectors_give_an_equal_calibration_and_the_prior_moves_it() -> None:
    images, texts, owners = two_cones(100)
    first, again = (Calibration.fit(images, texts, owners) for _ in range(2))
    assert first == again
    bolder = Calibration.fit(images, texts, owners, prior=0.1)
    assert bolder.score(3.0) > first.score(3.0)


def test_few_pairs_take_the_documented_line() -> None:
    images, texts, owners = two_cones(MIN_PAIRS // 2)
    enough = Calibration.fit(images, texts, owners)
    few = Calibration.fit(images, texts, [*owners[:-1], -1])
    assert (few.slope, few.intercept) == FALLBACK_LINE
    assert (enough.slope, enough.intercept) != FALLBACK_LINE
    assert f"slope {FALLBACK_LINE[0]} and intercept {FALLBACK_LINE[1]}" in (
        REPOSITORY / "docs" / "scores.md"
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize("count", [0, 1])
def test_too_little_is_refused(count: int) -> None:
    images, texts, _ = two_cones(5)
    with pytest.raises(DataError, match=f"not {count} and 10"):
        Calibration.fit(images[:count], texts, [-1] * 10)
    with pytest.raises(DataError, match="two photos that differ"):
        Calibration.fit(images[[0, 0, 0]], texts, [-1] * 10)


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    images, texts, owners = two_cones(60)
    fitted = Calibration.fit(images, texts, owners, data="60 photos", model=VSE)
    fitted.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == fitted
    assert Calibration.from_json(replace(fitted, model=None).to_json()) == replace(fitted, model=None)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "calibration 1"},
        {"slope": -1},
        {"intercept": "NaN"},
        {"prior": 1},
        {"image_text": {"mean": 0.1, "std": 0, "hubness": 0}},
        {"text_text": None},
        {"model": {"name": "vse"}},
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    images, texts, owners = two_cones(60)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({**Calibration.fit(images, texts, owners).to_json(), **change}))
    with pytest.raises(ModelError, match=r"cannot be used.*--calibrate"):
        Calibration.load(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_calibrations_belong_to_the_shipped_weights(name: str) -> None:
    calibration = stored_calibration(name)
    assert calibration is not None
    assert calibration.model == identify_model(name)
    assert calibration.prior == 0.01
    assert stored_calibration(f"{name}?dim=128") is None


def test_scores_tell_the_toy_photos_own_captions_from_others(toy_workspace: Path) -> None:
    with Workspace(toy_workspace) as workspace:
        sample = sample_vectors(workspace)
    calibration = stored_calibration("clip-mini")
    assert calibration is not None
    assert sample.images.shape == (15, 512)
    owners = np.array(sample.photo_of_text)
    assert (owners >= 0).all()
    scores = calibration.score(calibration.standardised(sample.texts @ sample.images.T, TEXT, IMAGE))
    own = np.zeros(scores.shape, bool)
    own[np.arange(len(owners)), owners] = True
    assert np.median(scores[own]) > 15 * np.median(scores[~own])
    assert (scores >= 0).all()
    assert (scores <= 1).all()


def test_a_calibration_of_other_weights_is_passed_over_with_a_warning(
    tmp_path: Path, toy_workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "model"
    shutil.copytree(SHIPPED["clip-mini"], model)
    assert stored_calibration(str(model)) == stored_calibration("clip-mini")
    with (model / "vocabulary.txt").open("a") as file:
        file.write("another\n")
    with caplog.at_level(logging.WARNING), Workspace(toy_workspace) as workspace:
        calibration = calibration_of(str(model), None, workspace)
    assert calibration is not None
    assert calibration.data == "15 photos and 41 captions of the index"
    assert "estimated from the index instead" in caplog.text


def test_an_index_too_small_has_no_calibration(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        assert calibration_of("vse?dim=64", None, workspace) is None
    with PhotoIndex(tmp_path, model="vse") as index:
        index.add([record for record in toy_records() if record.modality == IMAGE][:3])
    with Workspace(tmp_path) as workspace:
        assert estimate_calibration(workspace) is None
        assert calibration_of("vse", None, workspace) == stored_calibration("vse")


def toy_records() -> list[object]:
    return list(open_data_set(str(TOY_DATA), data_root=TOY_DATA.parent))


def test_a_sample_does_not_depend_on_the_order(tmp_path: Path) -> None:
    photos = [photo(f"p{number}") for number in range(40)]
    captions = [caption(f"p{number % 50}-{number}", "text") for number in range(90)]
    random = np.random.default_rng(0)
    vectors = {record.id: unit(random.standard_normal(8)) for record in (*photos, *captions)}
    samples = []
    for name, step, size in (("one commit", 1, 200), ("backwards", -1, 7)):
        records = [*photos, *captions][::step]
        with EmbeddedStore.open_writer(tmp_path / name, identity=VSE) as store:
            for start in range(0, len(records), size):
                batch = records[start : start + size]
                store.put(batch, np.stack([vectors[record.id] for record in batch]))
        with Workspace(tmp_path / name) as workspace:
            samples.append([sample_vectors(workspace, limit) for limit in (30, 1000)])
    for one, other in zip(*samples, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.texts, other.texts)
        assert one.photo_of_text == other.photo_of_text
    few, everything = samples[0]
    assert (len(few.images), len(few.texts)) == (30, 30)
    assert (len(everything.images), len(everything.texts)) == (40, 90)
    # Captions of photos 40 to 49, which are not there, have none.
    assert sum(row < 0 for row in everything.photo_of_text) == 10
    by_vector = {vectors[record.id].tobytes(): record.id for record in (*photos, *captions)}
    for row, owner in enumerate(everything.photo_of_text):
        name = by_vector[everything.texts[row].tobytes()]
        assert owner < 0 or by_vector[everything.images[owner].tobytes()] == name.split("-")[0]


def encoded_set(pairs: int) -> EncodedSet:
    images, texts, owners = two_cones(pairs, noise=0.4)
    names = tuple(f"p{number:04}" for number in range(pairs))
    captions = EncodedSide(
        tuple(f"c{row:04}" for row in range(len(owners))), tuple(names[owner] for owner in owners), texts, 0.0
    )
    return EncodedSet("model", EncodedSide(names, names, images, 0.0), captions, ())


def test_scores_are_as_often_right_as_they_say_on_pairs_that_the_fit_has_not_seen() -> None:
    encoded = encoded_set(1000)
    measured = measure_calibration(encoded, set(encoded.photos.ids[::2]), model=VSE, data="cones")
    assert measured.calibration.data == "500 photos and 1000 captions of cones"
    rows = measured.reliability["photo_caption"]
    assert sum(row["matching"] for row in rows) == 1000
    assert sum(row["unrelated"] for row in rows) == 1000 * 499
    filled = [row for row in rows if row["matching"] + row["unrelated"] > 30]
    assert len(filled) == 6
    for row in filled:
        assert row["from"] <= row["score"] <= row["to"]
        assert row["observed"] == pytest.approx(row["score"], abs=0.15)
    captions = measured.reliability["two_captions"]
    assert sum(row["matching"] for row in captions) == 1000
    assert sum(row["unrelated"] for row in captions) == 1000 * 999 - 1000


def test_a_reliability_table_by_hand() -> None:
    calibration = Calibration(*[PairStatistics(0.0, 1.0)] * 4, slope=1, intercept=0, prior=0.5)
    photos = EncodedSide(("a", "b"), ("a", "b"), np.eye(2, dtype=np.float32), 0.0)
    # The cosine 1 with the own photo scores 0.73, the cosine 0 with the other 0.5.
    rows = reliability(calibration, replace(photos, ids=("a-0", "b-0")), TEXT, photos, IMAGE)
    assert [(row["matching"], row["unrelated"]) for row in rows] == [(0, 0)] * 4 + [(0, 2), (2, 0), (0, 0)]
    assert [row["observed"] for row in rows] == [None] * 4 + [0.0, 1.0, None]
    assert [row["score"] for row in rows[4:6]] == pytest.approx([0.5, 0.7310586])
    assert tuple(row["from"] for row in rows) == BIN_EDGES[:-1]


def test_too_few_captions_for_two_halves_are_refused() -> None:
    encoded = encoded_set(60)
    with pytest.raises(DataSetError, match=r"of 60 photos one half has 98 captions, and 100 are needed"):
        measure_calibration(encoded, set(encoded.photos.ids[:49]), model=VSE)


@pytest.mark.skipif(not CLIP_VECTORS.is_file(), reason="the development data is not there")
def test_genuine_clip_vectors_have_the_slope_that_the_documentation_says() -> None:
    stored = np.load(CLIP_VECTORS)
    _, rows, owners = np.unique(stored["names"], return_index=True, return_inverse=True)
    fitted = Calibration.fit(unit(stored["image"][rows]), unit(stored["text"]), owners.tolist())
    assert fitted.image_image.mean > fitted.image_text.mean + 0.3
    assert 2.0 < fitted.slope < 3.35


def test_the_command_fits_prints_and_writes(tmp_path: Path) -> None:
    folder = SHARED_DATA / "flickr8k"
    if not folder.is_dir():
        pytest.skip("the development data flickr8k is not there")
    done = run_app(
        "-t", "evaluate", "-d", folder, "--split", "dev", "--calibrate", "-n", "360", "--output", tmp_path,
        "--json", "-m", "vse",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    written = Calibration.load(tmp_path / "calibration.json")
    assert written.to_json() == result["calibration"]
    assert written.model == identify_model("vse")
    assert written.data.endswith("captions of flickr8k, split dev")
    shipped = stored_calibration("vse")
    assert shipped is not None
    assert written.slope == pytest.approx(shipped.slope, abs=1)
    assert written.image_text.std == pytest.approx(shipped.image_text.std, abs=0.02)
    page = StringIO()
    print_calibration(result, page)
    assert "The calibration of vse" in page.getvalue()
    assert f"{written.slope:.3f} z {written.intercept:+.3f}" in page.getvalue()


def test_vectors_that_an_option_changes_are_refused(tmp_path: Path) -> None:
    from crossmodal.cli.evaluate import run

    settings = Settings(task="evaluate", calibrate=True, model="vse", workspace=tmp_path)
    with pytest.raises(SettingsError, match="leave out its options"):
        run(replace(settings, dim=64))


@pytest.mark.parametrize("name", SHIPPED)
def test_the_page_has_the_numbers_of_the_shipped_calibrations(name: str) -> None:
    page = (REPOSITORY / "docs" / "scores.md").read_text(encoding="utf-8")
    calibration = stored_calibration(name)
    assert calibration is not None
    assert calibration.data == "509 photos and 2545 captions of flickr8k, split dev"
    assert "(509 photos, 2,545 captions)" in page
    assert 2.0 <= calibration.slope <= 3.3


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_calibrations_and_the_table_of_the_page_are_what_the_command_measures(
    name: str, tmp_path: Path
) -> None:
    folder = SHARED_DATA / "flickr8k"
    if not folder.is_dir():
        pytest.skip("the development data flickr8k is not there")
    done = run_app(
        "-t", "evaluate", "-d", folder, "--split", "dev", "--calibrate", "-m", name, "--output", tmp_path,
        "--json", timeout=280,
    )  # fmt: skip
    measured, shipped = Calibration.load(tmp_path / "calibration.json"), stored_calibration(name)
    assert shipped is not None
    assert (measured.slope, measured.intercept) == pytest.approx((shipped.slope, shipped.intercept), abs=0.01)
    page = (REPOSITORY / "docs" / "scores.md").read_text(encoding="utf-8")
    first = 1 + 2 * list(SHIPPED).index(name)
    rows = [line.split(" | ") for line in page[page.index("| score | ") :].split("\n\n")[0].splitlines()[2:]]
    told = [float(cell.strip("|% ")) for row in rows for cell in row[first : first + 2]]
    table = json.loads(done.stdout)["reliability"]["photo_caption"]
    found = [100 * row[key] for row in table for key in ("score", "observed")]
    assert told == pytest.approx(found, abs=0.3)
