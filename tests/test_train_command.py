"""``-t train`` makes a model that ``-m`` takes; an unusable configuration is told in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import TOY_DATA, run_app


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
