"""One topology, two layouts, any number of shards: the same matches with the same scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TOY_IMAGES, run_app

SENTENCE = "a cup of coffee on a wooden table"
PHOTO = TOY_IMAGES / "raccoon.jpg"


def index_and_query(workspace: Path, *arguments: str) -> dict[str, Any]:
    indexed = run_app("-t", "index", "-d", "toy-data", "--workspace", workspace, "--json", *arguments)
    assert indexed.returncode == 0, indexed.stderr
    queried = run_app(
        *("-t", "query", "--workspace", workspace, "--json", "-k", "9"),
        *("--query-text", SENTENCE, "--query-image", PHOTO),
        *arguments,
    )
    assert queried.returncode == 0, queried.stderr
    report = json.loads(indexed.stdout)
    return {
        "photos": report["photos"],
        "captions": report["captions"],
        "results": [
            [
                (match["id"], match["score"], match["uri"], match["text"], match["tags"])
                for match in result["matches"]
            ]
            for result in json.loads(queried.stdout)["results"]
        ],
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return index_and_query(tmp_path_factory.mktemp("plain"))


def test_the_plain_run_finds_something(plain: dict[str, Any]) -> None:
    assert plain["photos"]["added"] >= 12
    for result in plain["results"]:
        assert len(result) == 9
        scores = [score for _, score, *_ in result]
        assert scores == sorted(scores, reverse=True)
        assert len({id for id, *_ in result}) == 9


@pytest.mark.parametrize(
    "arguments",
    [
        ("--shards", "2"),
        ("--shards", "4", "--parallel", "2"),
        ("--layout", "pods"),
        ("--layout", "pods", "--shards", "2", "--parallel", "2"),
    ],
    ids=" ".join,
)
def test_every_layout_and_sharding_finds_the_same(
    plain: dict[str, Any], tmp_path: Path, arguments: Any
) -> None:
    assert index_and_query(tmp_path, *arguments) == plain


def test_the_layouts_read_each_others_workspace(plain: dict[str, Any], toy_workspace: Path) -> None:
    queried = run_app(
        *("-t", "query", "--workspace", toy_workspace, "--json", "-k", "9", "--layout", "pods"),
        *("--query-text", SENTENCE),
    )
    found = json.loads(queried.stdout)["results"][0]["matches"]
    assert [(m["id"], m["score"]) for m in found] == [(id, score) for id, score, *_ in plain["results"][0]]


def test_another_number_of_shards_is_refused_with_words(toy_workspace: Path) -> None:
    refused = run_app("-t", "query", "--workspace", toy_workspace, "--query-text", "x", "--shards", "3")
    assert refused.returncode == 1
    assert "has 1 shard" in refused.stderr
    assert "3" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_number_of_shards_is_remembered(tmp_path: Path, plain: dict[str, Any]) -> None:
    indexed = run_app("-t", "index", "--workspace", tmp_path, "--shards", "2", "--json")
    assert indexed.returncode == 0, indexed.stderr
    queried = run_app("-t", "query", "--workspace", tmp_path, "--json", "-k", "9", "--query-text", SENTENCE)
    found = json.loads(queried.stdout)["results"][0]["matches"]
    assert [(m["id"], m["score"]) for m in found] == [(id, score) for id, score, *_ in plain["results"][0]]
