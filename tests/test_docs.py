"""What the pages in docs/ list is what there is, and their numbers are those of the shipped models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import REPOSITORY, run_python
from documents import PAGES, dead_links, python_examples, refused_commands, unknown_extras

from crossmodal.evaluation.protocols import PROTOCOLS
from crossmodal.models.native.checkpoint import SHIPPED
from crossmodal.server.mcp.tools import tools
from crossmodal.settings import LOSSES


def page(name: str) -> str:
    return (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8")


def first_column(text: str, heading: str) -> set[str]:
    """The names in backticks in the first column of the table that starts with ``heading``."""
    table = text[text.index(heading) :].split("\n\n")[0]
    return {name for line in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", line.split("|")[1])}


def test_every_protocol_is_described() -> None:
    assert first_column(page("evaluation"), "| `--protocol` |") == set(PROTOCOLS)


def test_every_loss_is_described() -> None:
    assert first_column(page("training"), "| `--loss` |") == set(LOSSES)


def test_every_tool_of_agents_is_described() -> None:
    assert list(tools()) == re.findall(r"^\| `(\w+)` \|", page("rag"), re.MULTILINE)


def test_the_retriever_is_ten_lines_and_finds_what_answers_the_question(toy_workspace: Path) -> None:
    (code,) = python_examples(page("rag"), "from crossmodal import PhotoIndex")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    code = code.replace('"workspace"', repr(str(toy_workspace)))
    done = run_python("-c", f"{code}\nprint(*retrieve('What does the launch pad hold?'), sep='\\n')")
    assert done.returncode == 0, done.stderr
    passages = done.stdout.splitlines()
    assert len(passages) == 5
    assert re.fullmatch(r"\[\w+\] rocket\.jpg, .+: .*launch pad.*", passages[0]), passages


@pytest.mark.parametrize("name", SHIPPED)
def test_the_results_are_those_of_the_shipped_weights(name: str) -> None:
    metrics = json.loads((SHIPPED[name] / "config.json").read_text())["training"]["metrics"]
    by_text, by_image = (f"{100 * metrics[way]['hit@10']:.1f}" for way in ("text2image", "image2text"))
    (row,) = re.findall(rf"^\| \*\*.*`{name}`\*\* .*$", page("training"), re.MULTILINE)
    assert f"{by_text} / {by_image}" in row
    assert re.search(rf"^\| `{name}` \| {by_text} / {by_image} \|", page("training"), re.MULTILINE)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_a_page_refers_to_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert dead_links(path) == []
    assert refused_commands(text) == []
    assert unknown_extras(text) == set()


def test_every_page_can_be_reached_from_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert [
        path.name for path in (REPOSITORY / "docs").glob("*.md") if f"docs/{path.name})" not in readme
    ] == []
