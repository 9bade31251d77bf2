"""What the README says is so: its Python runs, its numbers are the model's, its links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import REPOSITORY, Server, run_python
from documents import command_lines, dead_links, python_examples, refused_commands, unknown_extras
from test_packaging import LARGEST_BASE, PROJECT

from crossmodal.models import DEFAULT_MODEL
from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
# Each shipped model with the most that its files may take, in bytes.
SHIPPED_SIZES = {"clip-mini": 32 * 10**6, "vse": 15 * 10**6}
# The page that shows how to use the client.
PYTHON = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")
METRICS = {"hit@1": "hit@1", "hit@5": "hit@5", "hit@10": "hit@10", "recall@10": "recall@10", "mrr": "MRR"}


def results_table() -> str:
    """The results of the shipped models as the README has to show them."""
    lines = [f"| | {' | '.join(METRICS.values())} | median rank |", "|---|" + "---|" * (len(METRICS) + 1)]
    for model in SHIPPED_SIZES:
        metrics = json.loads((SHIPPED[model] / "config.json").read_text())["training"]["search_metrics"]
        for direction, name in (("text2image", "text to image"), ("image2text", "image to text")):
            held = metrics[direction]
            cells = [f"{held['mrr']:.3f}" if key == "mrr" else f"{100 * held[key]:.1f}%" for key in METRICS]
            lines.append(f"| `{model}`, {name} | {' | '.join(cells)} | {held['median_rank']:.0f} |")
    return "\n".join(lines)


def test_the_results_are_those_of_the_shipped_weights() -> None:
    assert results_table() in README


@pytest.mark.parametrize(("model", "limit"), SHIPPED_SIZES.items())
def test_the_weights_are_as_small_as_said(model: str, limit: int) -> None:
    size = sum(path.stat().st_size for path in SHIPPED[model].iterdir())
    assert size <= limit
    (said,) = re.findall(rf"^\| `{model}` \|.*in the repository, (\d+) MB", README, re.MULTILINE)
    assert round(size / 1e6) == int(said)


def test_the_default_reads_any_word_and_is_hardly_worse_than_the_other() -> None:
    """``vse`` is as good at captions like those that it has learnt from; other words are all one to it."""
    scores = {}
    for model, folder in SHIPPED.items():
        metrics = json.loads((folder / "config.json").read_text())["training"]["search_metrics"]
        scores[model] = (metrics["text2image"]["hit@10"] + metrics["image2text"]["hit@10"]) / 2
    assert DEFAULT_MODEL == "clip-mini"
    assert scores["vse"] - scores["clip-mini"] < 0.015
    vocabulary = NativeCheckpoint.open(SHIPPED["vse"], "vse").vocabulary()
    assert f"`vse` {len(vocabulary.words):,} of them" in README


def run_example(code: str) -> list[str]:
    """The lines that the code prints when it is run from the repository."""
    assert len([line for line in code.splitlines() if line.strip()]) <= 5
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("page", [README, PYTHON], ids=["README", "python"])
def test_the_python_example_runs(page: str, tmp_path: Path) -> None:
    (code,) = python_examples(page, "from crossmodal import PhotoIndex")
    first, *others = run_example(code.replace('"workspace"', repr(str(tmp_path / "workspace"))))
    assert len(others) == 2
    assert re.fullmatch(r"\d+%  .*stair-tower\.jpg", first)


def test_the_example_of_the_client_runs(toy_server: Server) -> None:
    (code,) = python_examples(PYTHON, "from crossmodal.client import Client")
    first, *others = run_example(code.replace("http://localhost:45678", toy_server.url))
    assert len(others) == 2
    assert re.fullmatch(r"\d+%  stair-tower\.jpg", first)


def test_every_command_line_is_accepted() -> None:
    assert len(command_lines(README)) >= 8
    assert refused_commands(README) == []


def test_every_make_target_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    contributing = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = re.findall(r"^make ([\w-]+)", README + contributing, re.MULTILINE)
    targets += re.findall(r"`make ([\w-]+)", README + contributing)
    assert set(targets) >= {"demo", "test", "slow", "test-short"}
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_what_it_says_of_the_installation_is_what_is_tested() -> None:
    assert f"at most {LARGEST_BASE} MB" in README
    assert unknown_extras(README) == set()
    (said,) = re.findall(r"with Python ([\d., or]+) and `make`", README)
    assert re.findall(r"3\.\d+", said) == [
        classifier.rpartition(" ")[2]
        for classifier in PROJECT["classifiers"]
        if re.search(r":: 3\.\d+$", classifier)
    ]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 120


def test_nothing_is_left_to_be_filled_in() -> None:
    assert re.findall(r"^[A-Z]{6,}$|TODO|TBD", README, re.MULTILINE) == []


def test_every_link_leads_somewhere() -> None:
    assert dead_links(REPOSITORY / "README.md") == []
