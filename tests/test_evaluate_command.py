"""``-t evaluate``: the same numbers through the Flows and in memory, nothing left behind, and sentences."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    REPOSITORY,
    SHARED_DATA,
    TOY_IMAGES,
    clean_environment,
    run_app,
    run_python,
)

import app
from crossmodal.models import DEFAULT_MODEL
from crossmodal.models.native.checkpoint import SHIPPED

# What may differ between two ways of measuring the same.
MANNER = ("seconds", "through")


def evaluated(*arguments: str | Path, code: int = 0, timeout: float = 200) -> dict[str, Any]:
    done = run_app("-t", "evaluate", *arguments, "--json", timeout=timeout)
    assert done.returncode == code, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def evaluated_directly(
    capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0
) -> dict[str, Any]:
    """The same in memory, where no process is forked, in this very one."""
    assert app.main(["-t", "evaluate", *map(str, arguments), "--json", "--direct"]) == code
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in MANNER}


@pytest.fixture(scope="module")
def through_flows() -> dict[str, Any]:
    return evaluated("-d", "toy-data")


def test_the_toy_data_through_the_flows(through_flows: dict[str, Any]) -> None:
    assert through_flows["model"] == DEFAULT_MODEL
    assert through_flows["through"] == "fused Flows"
    assert through_flows["gallery"] == {"text2image": 15, "image2text": 41}
    assert through_flows["queries"] == {"text2image": 41, "image2text": 15}
    assert through_flows["protocol"] == "whole"
    assert (through_flows["folds"], through_flows["split"]) == (1, None)
    assert through_flows["tie_rule"] == "equal scores by id, ascending"
    for direction in ("text2image", "image2text"):
        measured = through_flows[direction]
        hits = [measured[f"hit@{k}"] for k in (1, 5, 10)]
        assert hits == sorted(hits)
        assert 0.3 < hits[0] < hits[2] <= 1
        for name, (low, high) in measured["intervals"].items():
            assert low <= measured[name] <= high, name


def test_memory_gives_the_same_numbers(
    through_flows: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    in_memory = evaluated_directly(capsys, "-d", "toy-data")
    assert in_memory["through"] == "memory"
    assert numbers(in_memory) == numbers(through_flows)


@pytest.mark.slow
def test_pods_with_shards_and_replicas_give_the_same_numbers(through_flows: dict[str, Any]) -> None:
    apart = evaluated("-d", "toy-data", "--layout", "pods", "--shards", "3", "--parallel", "2")
    assert apart["through"] == "pods Flows"
    assert numbers(apart) == numbers(through_flows)


def test_the_table_and_one_direction_alone(through_flows: dict[str, Any]) -> None:
    done = run_app("-t", "evaluate", "-d", "toy-data", "--direction", "text2image", "--shards", "2")
    assert done.returncode == 0, done.stderr
    measured = through_flows["text2image"]
    low, high = (f"{100 * bound:.1f}" for bound in measured["intervals"]["hit@5"])
    row = next(line for line in done.stdout.splitlines() if line.startswith("hit@5"))
    assert row.split() == ["hit@5", f"{100 * measured['hit@5']:.1f}%", low, "to", high]
    assert "image to text" not in done.stdout
    # All photos were indexed and all captions asked, and not the other way round.
    assert "56 of 56 documents" in done.stderr


def test_the_original_protocol_through_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    # 21 documents: ten photos with their first caption, and a photo whose caption asks unsearched.
    arguments = ("-d", "toy-data", "-m", "vse", "-i", "21", "-n", "11")
    result = evaluated(*arguments)
    assert result["protocol"] == "original"
    assert "as far as its source shows" in result["protocol_source"]
    assert result["gallery"] == {"text2image": 11, "image2text": 10}
    assert result["queries"] == {"text2image": 11, "image2text": 10}
    assert numbers(evaluated_directly(capsys, *arguments)) == numbers(result)


@pytest.fixture
def twins(tmp_path: Path) -> Path:
    """Two photos with the same caption, and one that is no photo."""
    images = tmp_path / "data" / "images"
    images.mkdir(parents=True)
    for name in ("cat.jpg", "coffee.jpg"):
        shutil.copy(TOY_IMAGES / name, images / name)
    (images / "broken.jpg").write_bytes((TOY_IMAGES / "cat.jpg").read_bytes()[:2000])
    rows = [f"{name},a cup of coffee" for name in ("cat.jpg", "coffee.jpg", "broken.jpg")]
    (tmp_path / "data" / "captions.txt").write_text("\n".join(["image,caption", *rows]) + "\n")
    return tmp_path / "data"


def test_equal_captions_do_not_collide_and_a_broken_photo_fails_alone(
    twins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluated("-d", twins, "-m", "vse", code=1)
    # Both captions find the coffee first: right for one of them, and by their text it would be for both.
    assert result["text2image"]["hit@1"] == 0.5
    assert result["text2image"]["mean_rank"] == 1.5
    assert result["gallery"] == {"text2image": 2, "image2text": 3}
    assert [Path(failure["source"]).name for failure in result["failures"]] == ["broken.jpg"]
    in_memory = evaluated_directly(capsys, "-d", twins, "-m", "vse", code=1)
    assert numbers(in_memory) == numbers(result)


def started(folder: Path) -> subprocess.Popen[str]:
    """An evaluation whose temporary files lie in ``folder``, when its index is being made."""
    process = subprocess.Popen(
        [sys.executable, "app.py", "-t", "evaluate", "-d", "toy-data"],
        cwd=REPOSITORY,
        env={**clean_environment(), "TMPDIR": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 90
    while not list(folder.glob("crossmodal-evaluate-*/index.sqlite")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def ended(process: subprocess.Popen[str], folder: Path) -> str:
    with process:
        try:
            _, said = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert not list(folder.glob("crossmodal-evaluate-*"))
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_scratch_index(tmp_path: Path, number: signal.Signals) -> None:
    process = started(tmp_path)
    process.send_signal(number)
    said = ended(process, tmp_path)
    assert process.returncode == 130
    assert "stopped" in said


WRONG_INPUT: list[tuple[tuple[str | Path, ...], int, str]] = [
    (("--protocol", "coco-5k"), 1, "coco-5k needs 5,000 photos, but the data has 15"),
    (("--protocol", "flickr9k"), 2, "'flickr9k' is not one of whole, flickr8k-1k"),
    (("-i", "400"), 1, "searches 400 documents (-i), but the data has only 30"),
    (("-i", "20", "--protocol", "whole"), 2, "-i 20 belongs to the protocol original"),
    (("--split", "test"), 1, "split"),
    (("-d", TOY_IMAGES), 1, "of 0 captions none belongs to one of the 15 photos"),
    (("-d", "nowhere"), 1, "no data set 'nowhere'"),
    (("-m", "nothing"), 1, "nothing"),
]

# The commands one after the other, as starting takes longer than all of them together.
ONE_AFTER_THE_OTHER = """
import contextlib, io, json, sys
import app
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = app.main(arguments)
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def test_wrong_input_is_a_sentence() -> None:
    commands = [
        ["-t", "evaluate", *(() if "-d" in arguments else ("-d", "toy-data")), *map(str, arguments)]
        for arguments, _, _ in WRONG_INPUT
    ]
    done = run_python("-c", ONE_AFTER_THE_OTHER, json.dumps(commands), timeout=200)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    for (arguments, expected, words), (code, out, err) in zip(WRONG_INPUT, told, strict=True):
        assert code == expected, (arguments, err)
        assert words in err, arguments
        assert "Traceback" not in err, arguments
        assert out == "", arguments


def test_captions_without_photos(tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_text("image,caption\nmissing.jpg,a cat\n")
    done = run_app("-t", "evaluate", "-d", table, "--direct")
    assert done.returncode == 1
    assert "There is nothing to evaluate" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED_DATA / "flickr8k").is_dir(), reason="Flickr8k's dev photos are not here")
def test_the_published_numbers_are_reproduced() -> None:
    result = evaluated(
        *("-d", SHARED_DATA / "flickr8k", "--split", "dev", "-m", "vse", "--protocol", "flickr8k-1k"),
        # They were measured in the plain form; bfloat16 moves a few ranks.
        *("--runtime", "torch"),
        timeout=280,
    )
    assert (result["gallery"]["text2image"], result["gallery"]["image2text"]) == (1000, 5000)
    published = json.loads((SHIPPED["vse"] / "config.json").read_text())["training"]["search_metrics"]
    for direction in ("text2image", "image2text"):
        for name in ("hit@1", "hit@5", "hit@10", "recall@10", "mrr"):
            # One caption or photo more or less is rounding between processors.
            assert result[direction][name] == pytest.approx(published[direction][name], abs=0.0011), name
    assert result["text2image"]["hit@10"] >= 0.62
    assert result["image2text"]["hit@10"] >= 0.70


@pytest.mark.parametrize("kind", ["--gap", "--calibrate"])
def test_photos_with_too_many_pixels_are_refused_in_every_measurement(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-t", "evaluate", "-d", "toy-data", "-m", "vse", "-n", "2", "--output", str(tmp_path)]
    assert app.main([*arguments, kind, "--max-pixels", "1"]) == 1
    assert "0 photos" in capsys.readouterr().err
