"""``-t evaluate`` reproduces the published numbers."""

from __future__ import annotations

import json

import pytest
from conftest import SHARED_DATA, run_app

from crossmodal.models.native.checkpoint import SHIPPED


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
    published = json.loads((SHIPPED["vse"] / "config.json").read_text())["training"]["metrics"]
    for direction in ("text2image", "image2text"):
        for name in ("hit@1", "hit@5", "hit@10", "recall@10", "mrr"):
            # One caption or photo more or less is rounding between processors.
            assert result[direction][name] == pytest.approx(published[direction][name], abs=0.0011), name
    assert result["text2image"]["hit@10"] >= 0.50
    assert result["image2text"]["hit@10"] >= 0.58
