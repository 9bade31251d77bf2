"""Models side by side: the Pareto mark, the turns in which speed is measured, table, picture and command."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import TOY_DATA, TOY_IMAGES
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import app
from crossmodal.cli import compare
from crossmodal.cli.present.evaluation import print_comparison
from crossmodal.cli.present.plots import write_comparison
from crossmodal.errors import DataSetError, SettingsError, StoreUnwritable
from crossmodal.evaluation import Retrieval, evaluate
from crossmodal.evaluation import compare as comparison
from crossmodal.evaluation.compare import PARETO_RULE, QUALITY, mark_pareto, pareto_optimal, quality_of
from crossmodal.evaluation.retrieval import report
from crossmodal.models import identify_model, load_preprocessing, weights_size
from crossmodal.settings import Settings

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


@given(points=POINTS)
def test_a_point_is_optimal_unless_another_beats_it(points: list[tuple[int, int]]) -> None:
    marks = pareto_optimal(points)
    assert marks == pareto_optimal(points[::-1])[::-1]
    assert any(marks) == bool(points)
    for point, optimal in zip(points, marks, strict=True):
        beaten = any(
            other[0] >= point[0] and other[1] >= point[1] and (other[0] > point[0] or other[1] > point[1])
            for other in points
        )
        assert optimal == (not beaten)
    # What is beaten is beaten by something optimal, so leaving out the rest changes nothing.
    front = [point for point, optimal in zip(points, marks, strict=True) if optimal]
    assert pareto_optimal(front) == [True] * len(front)
    for point in points:
        assert any(best[0] >= point[0] and best[1] >= point[1] for best in front)


def test_equal_points_are_optimal_together() -> None:
    assert pareto_optimal([(1, 2), (1, 2), (1, 1), (2, 1)]) == [True, True, False, True]


def test_quality_is_the_mean_of_directions_and_folds() -> None:
    def retrieval(firsts: Sequence[int]) -> Retrieval:
        photos = tuple(f"p{number}" for number in range(len(firsts)))
        return Retrieval(50, tuple(np.array([rank]) for rank in firsts), photos)

    easy, hard = retrieval([1, 2, 11, 12]), retrieval([1, 2, 3, 40])
    found = quality_of([{"text2image": easy, "image2text": hard}])
    assert found["value"] == (0.5 + 0.75) / 2
    assert found["interval"][0] < found["value"] < found["interval"][1]
    assert quality_of([{"text2image": easy}, {"text2image": hard}])["value"] == found["value"]

    alone = quality_of([{"text2image": easy}])
    assert alone["interval"] == report([{"text2image": easy}])["text2image"]["intervals"]["hit@10"]
    # Both directions miss the same photos here, so two of them say no more than one.
    assert quality_of([{"text2image": easy, "image2text": easy}]) == alone


def test_models_take_turns_and_the_first_round_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = itertools.count()

    class Encoder:
        preprocessing = load_preprocessing("vse")

        def __init__(self, name: str) -> None:
            self._name = name

        def encode(self, items: Any) -> None:
            calls.append(f"{self._name} {len(items)}")

    def load(
        name: str, *, threads: int, cache: Path | None, trust_remote_code: bool, runtime: str
    ) -> Encoder:
        assert threads == 1
        return Encoder(name)

    monkeypatch.setattr(comparison, "load_image_encoder", load)
    monkeypatch.setattr(comparison, "load_text_encoder", load)
    # Not in the module of all: other threads look at that clock as well.
    monkeypatch.setattr(comparison, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    photo = (TOY_IMAGES / "cat.jpg").read_bytes()
    measured = comparison.measure_speeds(["a", "b"], [photo, photo], ["x", "y", "z"], rounds=2)
    assert calls == ["a 2", "a 3", "b 2", "b 3"] * 3
    # The clock goes on by one second each time that it is looked at.
    assert measured["models"]["a"] == measured["models"]["b"]
    assert measured["models"]["a"]["photos_per_second"]["rounds"] == [2, 2]
    assert measured["models"]["a"]["captions_per_second"]["rounds"] == [3, 3]
    assert (measured["photos"], measured["captions"], measured["rounds"], measured["threads"]) == (2, 3, 2, 1)


def test_the_speed_is_the_median_of_the_rounds() -> None:
    speed = comparison.Speed((4.0, 1.0, 2.0))
    assert speed.to_json() == {
        "median": 2,
        "min": 1,
        "max": 4,
        "rounds": [4, 1, 2],
    }


def test_speed_needs_photos_and_captions() -> None:
    with pytest.raises(DataSetError, match="photos and captions, and the data lacks captions"):
        comparison.measure_speeds(["vse"], [b""], [])


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """Four toy photos with their captions."""
    folder = tmp_path / "four"
    (folder / "images").mkdir(parents=True)
    names = ("cat.jpg", "coffee.jpg", "rocket.jpg", "raccoon.jpg")
    for name in names:
        shutil.copy(TOY_IMAGES / name, folder / "images")
    header, *rows = (TOY_DATA / "captions.txt").read_text().splitlines()
    kept = [row for row in rows if row.startswith(names)]
    (folder / "captions.txt").write_text("\n".join([header, *kept]) + "\n")
    return folder


def test_the_command_compares_what_can_be_loaded_and_tells_what_cannot(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-t", "evaluate", "-d", str(small_data), "--compare", "vse,/no/model,vse?dim=8", "--json"]
    assert app.main([*command, "--output", str(tmp_path / "out")]) == 1
    output = capsys.readouterr()
    told = json.loads(output.out)
    assert [model["model"] for model in told["models"]] == ["vse", "vse?dim=8"]
    assert [problem["model"] for problem in told["problems"]] == ["/no/model"]
    assert "error: /no/model: There is no model '/no/model'" in output.err

    from crossmodal.data_sets import open_data_set

    for model in told["models"]:
        alone = evaluate(model["model"], open_data_set(str(small_data), data_root=tmp_path))
        for direction in ("text2image", "image2text"):
            assert model[direction]["mrr"] == pytest.approx(alone[direction]["mrr"], abs=1e-9)
        assert model["weights_bytes"] == weights_size("vse")
        assert 0 < model["photos_per_second"]["min"] <= model["photos_per_second"]["median"]
        assert len(model["captions_per_second"]["rounds"]) == told["speed"]["rounds"] == 5
    assert [model["dimension"] for model in told["models"]] == [identify_model("vse").dimension, 8]
    points = [(model["quality"]["value"], model["photos_per_second"]["median"]) for model in told["models"]]
    assert [model["pareto_optimal"] for model in told["models"]] == pareto_optimal(points)
    assert told["speed"]["threads"] == 1
    assert told["picture"] == str(tmp_path / "out" / "comparison.png")
    with Image.open(told["picture"]) as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(compare="vse,,clip"), "has an empty name"),
        (Settings(compare="vse,vse"), "names vse twice"),
        (Settings(compare="vse,vse?dim=8", dim=8), r"names vse\?dim=8 twice"),
    ],
)
def test_an_unusable_list_of_models_is_told_before_anything_is_done(settings: Settings, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        compare.run(settings)


def result_of(*models: tuple[str, float, float]) -> dict[str, Any]:
    """A result as the command makes it, of (name, quality, photos a second)."""

    def described(name: str, quality: float, photos: float) -> dict[str, Any]:
        metrics: dict[str, Any] = dict.fromkeys(("hit@1", "hit@5", "hit@10", "mrr"), quality)
        interval = [quality - 0.02, quality + 0.02]
        metrics["intervals"] = dict.fromkeys(list(metrics), interval)
        speeds = {"median": photos, "min": photos * 0.9, "max": photos * 1.1}
        return {
            "model": name,
            "dimension": 512,
            "weights_bytes": 3 << 20,
            "text2image": metrics,
            "image2text": metrics,
            "queries": {"text2image": 5000, "image2text": 1000},
            "gallery": {"text2image": 1000, "image2text": 5000},
            "quality": {"value": quality, "interval": interval},
            "photos_per_second": speeds,
            "captions_per_second": speeds,
        }

    described_models = [described(*model) for model in models]
    mark_pareto(described_models)
    return {
        "data_set": "flickr8k",
        "split": "dev",
        "protocol": "whole",
        "models": described_models,
        "speed": {"threads": 1, "rounds": 5, "photos": 32, "captions": 128, "load_average": [0.5, 1.5]},
        "quality_rule": QUALITY,
        "pareto_rule": PARETO_RULE,
    }


CROWD = [
    ("vse", 0.632, 44.0),
    ("clip-mini", 0.75, 43.0),
    ("clip-mini?dim=128", 0.72, 43.4),
    ("clip:ViT-B-32/laion2b_s34b_b79k", 0.93, 17.0),
    ("clip:ViT-L-14/openai", 0.92, 1.9),
    ("/models/$one$/vse-more-epochs", 0.63, 42.0),
]


def test_three_models_fit_a_terminal_and_the_rest_comes_below() -> None:
    written = StringIO()
    print_comparison(result_of(*CROWD), file=written)
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    marks = [line.split()[1:] for line in lines if line.startswith("Pareto-optimal ")]
    assert marks == [["yes", "yes", "yes"], ["yes", "no", "no"]]
    (first, second) = (line for line in lines if line.startswith("quality"))
    assert first.split()[1:] == ["63.2%", "(61.2-65.2)", "75.0%", "(73.0-77.0)", "72.0%", "(70.0-74.0)"]
    assert second.split()[1:3] == ["93.0%", "(91.0-95.0)"]
    sizes = [line.split()[3:] for line in lines if line.startswith("weights on disk")]
    assert sizes == [["3.0", "MiB"] * 3] * 2


@pytest.mark.parametrize("models", [CROWD, CROWD[:1]], ids=["many", "one"])
def test_the_picture_is_drawn(models: list[tuple[str, float, float]], tmp_path: Path) -> None:
    write_comparison(result_of(*models), tmp_path / "new" / "comparison.png")
    with Image.open(tmp_path / "new" / "comparison.png") as picture:
        assert picture.width > 1000
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    assert np.count_nonzero(np.abs(colours - (0x1F, 0x77, 0xB4)).sum(axis=1) < 12) > 200


def test_a_picture_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnwritable, match=r"comparison\.png cannot be written"):
        write_comparison(result_of(*CROWD[:1]), tmp_path / "file" / "comparison.png")
