"""``-t evaluate`` reproduces the published numbers, and ``-t train`` makes a model that ``-m`` takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import SHARED_DATA, TOY_DATA, run_app

from crossmodal.models.vse.checkpoint import SHIPPED


def test_evaluating_the_toy_data() -> None:
    done = run_app("-t", "evaluate", "-d", "toy-data", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["model"] == "vse"
    assert result["gallery"] == {"text2image": 15, "image2text": 41}
    assert result["queries"] == {"text2image": 41, "image2text": 15}
    for direction in ("text2image", "image2text"):
        hits = [result[direction][f"hit@{k}"] for k in (1, 5, 10)]
        assert hits == sorted(hits)
        assert 0.3 < hits[0] < hits[2] <= 1
    table = run_app("-t", "evaluate", "-d", "toy-data", "--direction", "text2image")
    assert f"{100 * result['text2image']['hit@5']:.1f}%" in table.stdout
    assert "image2text" not in table.stdout


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED_DATA / "flickr8k").is_dir(), reason="Flickr8k's dev photos are not here")
def test_the_published_numbers_are_reproduced() -> None:
    done = run_app("-t", "evaluate", "-d", SHARED_DATA / "flickr8k", "--split", "dev", "--json", timeout=280)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    published = json.loads((SHIPPED / "config.json").read_text())["training"]["metrics"]
    for direction in ("text2image", "image2text"):
        for name in ("hit@1", "hit@5", "hit@10", "recall@10", "mrr"):
            # One caption or photo more or less is rounding between processors.
            assert result[direction][name] == pytest.approx(published[direction][name], abs=0.0011), name
    assert result["text2image"]["hit@10"] >= 0.50
    assert result["image2text"]["hit@10"] >= 0.58


def test_a_trained_model_can_be_used_at_once(tmp_path: Path) -> None:
    config = tmp_path / "tiny.json"
    settings = {"data": str(TOY_DATA), "dev_share": 0.3, "views": 1, "dimension": 32, "word_dimension": 16}
    config.write_text(json.dumps({**settings, "min_word_count": 1, "sum_epochs": 1, "epochs": 2}))
    output = tmp_path / "model"
    trained = run_app(
        *("-t", "train", "--config", config, "--output", output, "--json"),
        *("--model-cache", tmp_path / "cache"),
    )
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["folder"] == str(output)
    assert "python app.py -t train --config" in (output / "MODEL_CARD.md").read_text()

    workspace = tmp_path / "workspace"
    indexed = run_app("-t", "index", "--workspace", workspace, "-m", output, "--json")
    assert indexed.returncode == 0, indexed.stderr
    found = run_app("-t", "query", "--workspace", workspace, "-m", output, "--query-text", "stairs", "--json")
    assert len(json.loads(found.stdout)["results"][0]["matches"]) == 10

    # The index remembers which model built it.
    refused = run_app("-t", "query", "--workspace", workspace, "-m", "vse", "--query-text", "stairs")
    assert refused.returncode == 1
    assert "32 dimensions" in refused.stderr
    assert "640 dimensions" in refused.stderr
    assert "Traceback" not in refused.stderr
    again = run_app("-t", "index", "--workspace", workspace, "-m", "vse")
    assert again.returncode == 1
    assert "32 dimensions" in again.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "cannot be read"), ('{"data": "toy-data", "epoch": 3}', "epoch"), ('{"data": 3}', "data")],
)
def test_an_unusable_configuration_is_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    config = tmp_path / "config.json"
    config.write_text(text)
    done = run_app("-t", "train", "--config", config, "--output", tmp_path / "model")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
