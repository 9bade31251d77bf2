"""``-t train``: fine-tuning on a folder, a configuration, Ctrl-C, the plot, and what cannot be done."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, TOY_DATA, clean_environment, run_app
from PIL import Image

from crossmodal.cli.present.plots import write_training
from crossmodal.cli.present.training_progress import TrainingLines, describe_result
from crossmodal.models import identify_model
from crossmodal.training import Epoch, Preparation, Step, TrainingResult

STAGE = {"epochs": 2, "loss": "sum-of-hinges", "batch_size": 8, "views": 1, "warm_up_steps": 0}
TINY = {
    "data": str(TOY_DATA),
    "dev_share": 0.3,
    "image_weights": "vse",
    "text_tower": "gru",
    "dimension": 32,
    "word_dimension": 16,
    "min_word_count": 1,
    "stages": [STAGE],
}


def test_a_trained_model_can_be_used_at_once(tmp_path: Path) -> None:
    config = tmp_path / "tiny.json"
    config.write_text(json.dumps(TINY))
    output = tmp_path / "model"
    trained = run_app(
        *("-t", "train", "--config", config, "--output", output, "--json"),
        *("--model-cache", tmp_path / "cache"),
        timeout=280,
    )
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert result["folder"] == str(output)
    assert result["epochs"] == 2
    assert "crossmodal train --config" in (output / "MODEL_CARD.md").read_text()
    with Image.open(output / "training.png") as picture:
        assert picture.size == (1200, 900)

    workspace = tmp_path / "workspace"
    indexed = run_app("-t", "index", "--workspace", workspace, "-m", output, "--json")
    assert indexed.returncode == 0, indexed.stderr
    found = run_app("-t", "query", "--workspace", workspace, "-m", output, "--query-text", "stairs", "--json")
    assert len(json.loads(found.stdout)["results"][0]["matches"]) == 10

    # The index remembers which model built it.
    refused = run_app("-t", "query", "--workspace", workspace, "-m", "vse", "--query-text", "stairs")
    assert refused.returncode == 1
    assert "32 dimensions" in refused.stderr
    assert f"{identify_model('vse').dimension} dimensions" in refused.stderr
    assert "Traceback" not in refused.stderr
    again = run_app("-t", "index", "--workspace", workspace, "-m", "vse")
    assert again.returncode == 1
    assert "32 dimensions" in again.stderr


@pytest.mark.slow
def test_fine_tuning_on_ones_own_photos_never_ends_worse(tmp_path: Path) -> None:
    photos, output = six_photos(tmp_path / "photos"), tmp_path / "model"
    done = run_app(
        *("-t", "train", "-d", photos, "-m", "vse", "--loss", "infonce", "--output", output),
        *("--model-cache", tmp_path / "cache"),
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert f"use it with -m {output}" in done.stdout
    assert "at the start: hit@1 " in done.stdout
    assert "the start, dev hit@1 " in done.stderr
    assert "stage 1, epoch 1: loss " in done.stderr
    history = json.loads((output / "history.json").read_text())
    assert history["config"]["stages"][0]["loss"] == "infonce"
    stored = json.loads((output / "config.json").read_text())["training"]
    start = history["epochs"][0]["metrics"]
    best = sum(stored["metrics"][direction]["hit@10"] for direction in start)
    assert best >= sum(metrics["hit@10"] for metrics in start.values()) - 1e-9


def six_photos(folder: Path) -> Path:
    """A data set of so few photos that its epochs take a moment."""
    names = ("cat", "coffee", "rocket", "grass", "coins", "gravel")
    (folder / "images").mkdir(parents=True)
    for name in names:
        shutil.copy(TOY_DATA / "images" / f"{name}.jpg", folder / "images")
    header, *rows = (TOY_DATA / "captions.txt").read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if row.partition(".")[0] in names]
    (folder / "captions.txt").write_text("\n".join([header, *kept]) + "\n", encoding="utf-8")
    return folder


@pytest.mark.slow
def test_ctrl_c_stops_after_the_step_and_the_same_command_goes_on(tmp_path: Path) -> None:
    config = tmp_path / "long.json"
    config.write_text(json.dumps({**TINY, "patience": 10_000, "stages": [{**STAGE, "epochs": 10_000}]}))
    command = ["-t", "train", "--config", config, "--output", tmp_path / "model"]
    command += ["--model-cache", tmp_path / "cache"]
    with subprocess.Popen(
        [sys.executable, "app.py", *map(str, command)],
        cwd=REPOSITORY,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            said = []
            deadline = time.monotonic() + 200
            while "stage 1, epoch 2" not in "".join(said):
                assert time.monotonic() < deadline, said
                said.append(process.stderr.readline())
            process.send_signal(signal.SIGINT)
            said += process.communicate(timeout=60)[1].splitlines()
        finally:
            process.kill()
    assert process.returncode == 130
    assert said[-1] == "stopped; the same command goes on from here"
    assert "Traceback" not in "".join(said)
    assert (tmp_path / "model" / "training-state.pt").is_file()

    # With other settings the state is refused.
    config.write_text(json.dumps({**TINY, "seed": 1}))
    refused = run_app(*command)
    assert refused.returncode == 2
    assert "holds an unfinished run with other settings (patience, seed, stage 1's epochs)" in refused.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "cannot be read"), ('{"data": "toy-data", "epoch": 3}', "epoch"), ('{"data": 3}', "data")],
)
def test_an_unusable_configuration_is_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    config = tmp_path / "config.json"
    config.write_text(text)
    done = run_app("-t", "train", "--config", config, "--output", tmp_path / "model")
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def metrics(hit: float) -> dict[str, dict[str, float]]:
    return {
        direction: {"hit@1": hit / 2, "hit@10": hit, "mrr": hit} for direction in ("text2image", "image2text")
    }


def step(number: int, captions: int = 100) -> Step:
    return Step(
        stage=1, stages=2, epoch=1, epochs=3, step=number, steps=10, loss=2.5, captions=captions, photos=20
    )


def test_progress_tells_speed_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lines = TrainingLines(quiet=False)
    for done in range(1, 49):
        lines(Preparation("training photos", done, None))
    lines(Preparation("features", 32, 100))
    now += 6
    lines(Preparation("features", 64, 100))
    lines(Preparation("features", 100, 100))
    for number in range(1, 5):
        now += 5
        lines(step(number))
    lines(Epoch(1, 1, 2.25, metrics(0.5), 30.0))
    told = capsys.readouterr().err.splitlines()
    assert told[:3] == ["training photos: 48", "features: 64 of 100", "features: 100 of 100"]
    assert told[3].startswith("stage 1 of 2, epoch 1 of 3, step 2 of 10: loss 2.500, 20 captions/s")
    # A step of 100 captions takes 5 s; 26 are left.
    assert told[5] == (
        "stage 1 of 2, epoch 1 of 3, step 4 of 10: loss 2.500, 20 captions/s, 4 photos/s, "
        "at most 2 min 10 s left in this stage"
    )
    assert told[6] == (
        "stage 1, epoch 1: loss 2.250, dev hit@1 25.0% and hit@10 50.0% text to image, "
        "25.0% and 50.0% image to text"
    )
    quiet = TrainingLines(quiet=True)
    quiet(Epoch(1, 1, 2.25, metrics(0.5), 30.0))
    assert capsys.readouterr().err == ""


def test_the_end_says_when_nothing_was_better_than_the_start() -> None:
    result = TrainingResult(Path("model"), metrics(0.5), metrics(0.5), 0, 0, 4, 75.0, [])
    assert describe_result(result)[-1] == (
        "4 epochs in 1 min 15 s; none was better on the dev photos than the start, so the weights are as "
        "they were"
    )


def test_the_plot_marks_the_epoch_whose_weights_were_kept(tmp_path: Path) -> None:
    def marked(reciprocals: list[float]) -> list[int]:
        epochs = [
            {
                "stage": min(place, 1),
                "number": place,
                "loss": 1.0 if place else None,
                "metrics": {name: {"hit@10": 1.0, "mrr": value} for name in ("text2image", "image2text")},
                "seconds": 1.0,
            }
            for place, value in enumerate(reciprocals)
        ]
        (tmp_path / "history.json").write_text(json.dumps({"config": {}, "epochs": epochs}))
        write_training(tmp_path / "history.json", tmp_path / "training.png")
        with Image.open(tmp_path / "training.png") as picture:
            drawn = np.asarray(picture.convert("RGB"))
        return [int(column) for column in np.unique(np.where((drawn == (0x2C, 0xA0, 0x2C)).all(2))[1])]

    # All hit@10 are equal, so MRR decides, as in the run itself.
    first, middle, last = (marked(values) for values in ([0.9, 0.5, 0.5], [0.5, 0.9, 0.5], [0.5, 0.5, 0.9]))
    assert max(first) < min(middle) <= max(middle) < min(last)


def test_the_plot_shows_every_epoch_and_stage(tmp_path: Path) -> None:
    stages = [(0, 0, None), (1, 1, 3.0), (1, 2, 2.0), (2, 1, 0.5)]
    epochs = [
        {
            "stage": stage,
            "number": number,
            "loss": loss,
            "metrics": metrics(0.2 + 0.1 * place),
            "seconds": 1.0,
        }
        for place, (stage, number, loss) in enumerate(stages)
    ]
    (tmp_path / "history.json").write_text(json.dumps({"config": {}, "epochs": epochs}))
    write_training(tmp_path / "history.json", tmp_path / "training.png")
    with Image.open(tmp_path / "training.png") as picture:
        drawn = picture.convert("RGB")
        colours = {colour for _, colour in drawn.getcolors(1 << 24) or []}
    # Both directions' lines, the losses', and the mark at the best epoch.
    assert {(0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E), (0xD6, 0x27, 0x28), (0x2C, 0xA0, 0x2C)} <= colours
