"""One topology, two layouts, any number of shards: the same matches with the same scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TOY_IMAGES, run_app
from needs_jina import needs_jina

SENTENCE = "a cup of coffee on a wooden table"
PHOTO = TOY_IMAGES / "raccoon.jpg"


def index(workspace: Path, *arguments: str) -> None:
    indexed = run_app("-t", "index", "-d", "toy-data", "--workspace", workspace, "--json", *arguments)
    assert indexed.returncode == 0, indexed.stderr
    report = json.loads(indexed.stdout)
    assert (report["photos"]["added"], report["captions"]["added"]) == (15, 41)


def query(workspace: Path, *arguments: str) -> list[list[Any]]:
    queried = run_app(
        *("-t", "query", "--workspace", workspace, "--json", "-k", "9"),
        *("--query-text", SENTENCE, "--query-image", PHOTO),
        *arguments,
    )
    assert queried.returncode == 0, queried.stderr
    return [
        [
            (match["id"], match["score"], match["uri"], match["text"], match["tags"])
            for match in result["matches"]
        ]
        for result in json.loads(queried.stdout)["results"]
    ]


@pytest.fixture(scope="module")
def plain(toy_workspace: Path) -> list[list[Any]]:
    """What is found where nothing is said of layouts and shards."""
    return query(toy_workspace)


def test_the_plain_run_finds_something(plain: list[list[Any]]) -> None:
    assert len(plain) == 2
    for result in plain:
        assert len(result) == 9
        scores = [score for _, score, *_ in result]
        assert scores == sorted(scores, reverse=True)
        assert len({id for id, *_ in result}) == 9


PODS = ("--layout", "pods")
BOTH = (*PODS, "--shards", "3", "--parallel", "2")


@pytest.mark.parametrize(
    ("indexing", "asking"),
    [
        # How many shards there are is a matter of each search.
        (("--shards", "3", "--parallel", "2"), ("--shards", "2")),
        # The layouts read each other's workspace; test_flow_endpoints asks pods with two shards each time.
        pytest.param(PODS, (), marks=[needs_jina, pytest.mark.slow]),
        pytest.param(BOTH, BOTH, marks=[needs_jina, pytest.mark.slow]),
    ],
    ids=lambda value: " ".join(value) or "plain",
)
def test_every_layout_and_sharding_finds_the_same(
    plain: list[list[Any]], tmp_path: Path, indexing: tuple[str, ...], asking: tuple[str, ...]
) -> None:
    index(tmp_path, *indexing)
    assert query(tmp_path, *asking) == plain


@needs_jina
@pytest.mark.slow
def test_pods_find_the_same_in_what_one_process_indexed(plain: list[list[Any]], toy_workspace: Path) -> None:
    assert query(toy_workspace, *PODS) == plain
