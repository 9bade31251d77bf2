"""group_duplicates over HTTP: a photo that was indexed a dozen times, and a caption hundreds of times."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TOY_IMAGES, Server, copy_index, start_server
from PIL import Image

from crossmodal.records import Modality

COPIES = 12
CAPTIONS = 210


@pytest.fixture(scope="module")
def server(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A query server over the toy index with the copies."""
    workspace = tmp_path_factory.mktemp("grouped") / "workspace"
    copy_index(toy_workspace, workspace)
    started = start_server("query_restful", "--workspace", workspace)
    lines: list[dict[str, Any]] = [
        {"id": f"copy-{quality}", "image": copy_of_the_cat(60 + quality)} for quality in range(COPIES)
    ]
    lines += [{"id": f"said-{number}", "text": "A cat, asleep."} for number in range(CAPTIONS)]
    status, answer = started.request(
        "/v1/documents",
        "\n".join(map(json.dumps, lines)).encode(),
        headers={"Content-Type": "application/x-ndjson"},
        timeout=120,
    )
    assert (status, answer["added"]) == (200, COPIES + CAPTIONS)
    yield started
    started.stop()


def copy_of_the_cat(quality: int) -> str:
    file = io.BytesIO()
    Image.open(TOY_IMAGES / "cat.jpg").convert("RGB").save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def ask(server: Server, **body: Any) -> dict[str, Any]:
    status, answer = server.request("/v1/search", body)
    assert status == 200, answer
    (result,) = answer["results"]
    found: dict[str, Any] = result
    return found


def groups(result: dict[str, Any]) -> list[tuple[str, list[str]]]:
    return [(match["id"], match["duplicates"]) for match in result["matches"]]


@pytest.mark.parametrize("modality", ["image", "text", "both"])
def test_a_smaller_number_is_the_beginning_with_the_same_duplicates(
    server: Server, modality: Modality
) -> None:
    fifteen = ask(server, text="a cat", modality=modality, group_duplicates=True, top_k=15)
    for top_k in (1, 2, 5, 10):
        fewer = ask(server, text="a cat", modality=modality, group_duplicates=True, top_k=top_k)
        assert groups(fewer) == groups(fifteen)[:top_k]
        assert fewer["has_more"] is (top_k < len(fifteen["matches"]) or fifteen["has_more"])
    following = ask(server, text="a cat", modality=modality, group_duplicates=True, top_k=3, offset=2)
    assert groups(following) == groups(fifteen)[2:5]
    assert [match["rank"] for match in following["matches"]] == [3, 4, 5]


def test_a_photo_stands_for_its_copies(server: Server) -> None:
    all_photos = ask(server, text="a cat", group_duplicates=True, top_k=100)
    stands_for = dict(groups(all_photos))
    (cats,) = [{id, *others} for id, others in stands_for.items() if others]
    assert {id for id in cats if id.startswith("copy-")} == {f"copy-{number}" for number in range(COPIES)}
    assert len(cats) == COPIES + 1
    shown = [match["id"] for match in ask(server, text="a cat", top_k=100)["matches"]]
    assert sorted(shown) == sorted([*stands_for, *(id for others in stands_for.values() for id in others)])


def test_more_copies_than_are_looked_at_at_first_hide_nothing(server: Server) -> None:
    result = ask(server, text="A cat, asleep.", modality="text", group_duplicates=True, top_k=3)
    (first, others), *following = groups(result)
    assert {first, *others} == {f"said-{number}" for number in range(CAPTIONS)}
    assert len(following) == 2
    assert result["has_more"] is True
    assert all(not id.startswith("said-") for id, _ in following)
