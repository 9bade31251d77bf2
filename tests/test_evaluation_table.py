"""The table of ``-t evaluate``: every number in its place, at most 80 columns."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len

from crossmodal.cli.present.evaluation import print_evaluation
from crossmodal.cli.present.progress import EvaluationProgress

METRICS = {"mrr": 0.3142, "hit@10": 0.6072, "map": 0.2, "median_rank": 7.0, "mean_rank": 1033.41}


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def result(*directions: str, folds: int = 1) -> dict[str, object]:
    intervals = {name: [value * 0.9, value * 1.1] for name, value in METRICS.items()}
    return {
        "model": "vse",
        "data_set": "[bold]coco[/]",
        "split": None,
        **{name: {**METRICS, "intervals": intervals} for name in directions},
        "queries": dict(zip(("text2image", "image2text"), (25000, 5000), strict=True)),
        "gallery": dict(zip(("text2image", "image2text"), (5000, 25000), strict=True)),
        "folds": folds,
        "protocol": "coco-5k",
        "protocol_source": "somebody (2015)",
        "shared_captions": 0,
        "tie_rule": "equal scores by id, ascending",
        "bootstrap": {"rounds": 1000},
    }


def printed(shown: dict[str, object]) -> tuple[list[list[str]], str]:
    out = io.StringIO()
    print_evaluation(shown, file=out)
    assert max(cell_len(line) for line in out.getvalue().splitlines()) <= 80
    rows = [
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.getvalue().splitlines()
    ]
    return rows, " ".join(out.getvalue().split())


def test_both_directions() -> None:
    rows, text = printed(result("text2image", "image2text"))
    assert rows[:2] == [
        ["vse on [bold]coco[/]"],
        ["text to image", "95% interval", "image to text", "95% interval"],
    ]
    assert rows[3:10] == [
        ["queries", "25,000", "5,000"],
        ["gallery", "5,000 photos", "25,000 captions"],
        ["MRR", *["0.314", "0.283 to 0.346"] * 2],
        ["hit@10", *["60.7%", "54.6 to 66.8"] * 2],
        ["mAP", *["0.200", "0.180 to 0.220"] * 2],
        ["median rank", *["7.0", "6.3 to 7.7"] * 2],
        ["mean rank", *["1,033", "930 to 1,137"] * 2],
    ]
    assert "Protocol coco-5k: somebody (2015)." in text
    assert "equal scores by id, ascending" in text
    assert "1,000 resamples of the photos" in text


def test_one_direction_and_folds() -> None:
    rows, text = printed(result("image2text", folds=5))
    assert rows[1] == ["image to text", "95% interval"]
    assert rows[4] == ["gallery", "25,000 captions"]
    assert "coco-5k, the mean of 5 folds: somebody" in text


def test_progress_says_what_is_being_done() -> None:
    out = io.StringIO()
    now = [0.0]
    with EvaluationProgress(20, file=out, clock=lambda: now[0]) as progress:
        progress.stage = "indexing"
        now[0] = 6.0
        progress.advance(added=9, failed=1)
        progress.stage = "asking"
        now[0] = 8.0
        progress.advance(added=10)
    assert out.getvalue().splitlines() == [
        "10 of 20 documents; indexing, 1 failed; 1.7 documents/s",
        "20 of 20 documents; asking, 1 failed; 5.0 documents/s",
    ]


def test_captions_that_other_photos_have_too_are_told() -> None:
    _, text = printed(result("text2image", "image2text") | {"shared_captions": 12})
    assert "12 queries are captions that another photo has word for word" in text
    _, text = printed(result("text2image", "image2text"))
    assert "word for word" not in text
