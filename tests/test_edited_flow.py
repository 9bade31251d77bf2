"""The YAML is the place that says what the steps are: both layouts follow when somebody edits it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from conftest import TOY_IMAGES
from edited_flows import EditedFlows
from needs_jina import needs_jina

from crossmodal.documents import Document
from crossmodal.errors import FlowFailure, OriginalGone
from crossmodal.flow.runner import LocalFlow
from crossmodal.jina.pods import PodsFlow
from crossmodal.records import Record
from crossmodal.request_ids import REQUEST_IDS
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

LAYOUTS = ["fused", pytest.param("pods", marks=[needs_jina, pytest.mark.slow])]


@pytest.fixture
def edited(tmp_path: Path) -> EditedFlows:
    return EditedFlows(tmp_path / "copy")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_step_of_ones_own_and_one_less(
    toy_workspace: Path, edited: EditedFlows, layout: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def change(steps: list[dict[str, Any]]) -> None:
        """Photos go without what the store knows of them, and through a step of one's own."""
        places = {step["name"]: place for place, step in enumerate(steps)}
        own = {"name": "shout", "needs": "image_vector_indexer", "uses_with": {"mark": "!"}}
        steps[places["image_kv_indexer"]] = edited.add_own_step(own)
        steps[places["join_all"]]["needs"] = ["text_indexer", "shout", "reranker"]

    settings = Settings(workspace=toy_workspace, model="clip-mini", layout=layout)
    plain = edited.open("query", Settings(workspace=toy_workspace, model="clip-mini"))
    (before,) = plain.run("search", [Document.of_query("q", text="a cup of coffee")], {"top_k": 3})
    plain.close()
    edited.edit("query", change)
    flow = edited.open("query", settings)
    try:
        queries = [
            Document.of_query("photos", text="a cup of coffee"),
            Document.of_query("captions", content=(TOY_IMAGES / "coffee.jpg").read_bytes()),
        ]
        answers = {doc.id: doc for doc in flow.run("search", queries, {"top_k": 3})}
        fail_as_a_request(flow, layout, capfd)
    finally:
        flow.close()
    photos, captions = answers["photos"], answers["captions"]
    assert before.matches is not None
    assert [(match.id, match.cosine) for match in photos.matches or ()] == [
        (match.id, match.cosine) for match in reversed(before.matches)
    ]
    assert [match.text for match in photos.matches or ()] == [f"{m.id}!" for m in photos.matches or ()]
    assert {match.uri for match in photos.matches or ()} == {None}
    assert captions.matches is not None
    assert (
        captions.matches[0].text
        == "A red and white cup of espresso stands on a red saucer with a small spoon."
    )


def fail_as_a_request(flow: LocalFlow | PodsFlow, layout: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A step that fails is an error, and what its process logs of it names the request."""
    token = REQUEST_IDS.set(("seen-7",))
    try:
        with pytest.raises(FlowFailure if layout == "pods" else KeyError, match=r"as asked|KeyError"):
            flow.run("search", [Document.of_query("failing", text="fail")], {"top_k": 3})
    finally:
        REQUEST_IDS.reset(token)
    if layout == "pods":
        said, deadline = "", time.monotonic() + 10
        while "KeyError: 'as asked'" not in said and time.monotonic() < deadline:
            said += capfd.readouterr().err
        assert "shout failed on a request to /search. id=seen-7\n" in said


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_index_without_the_photos_themselves(tmp_path: Path, edited: EditedFlows, layout: str) -> None:
    def change(steps: list[dict[str, Any]]) -> None:
        steps[:] = [step for step in steps if step["name"] != "image_kv_indexer"]
        steps[-1]["needs"] = ["image_vector_indexer", "text_indexer"]

    edited.edit("index", change)
    settings = Settings(workspace=tmp_path / "index", model="vse", shards=2, layout=layout)
    photo = Record("a", "image", content=(TOY_IMAGES / "coffee.jpg").read_bytes()).hashed()
    flow = edited.open("index", settings)
    try:
        docs = flow.run("index", list(map(Document.of_record, [photo, Record("b", "text", "words")])))
    finally:
        flow.close()
    assert {(doc.id, doc.outcome, doc.error) for doc in docs} == {("a", "added", None), ("b", "added", None)}
    with Workspace(tmp_path / "index") as workspace:
        assert set(workspace.vectors(["a"], "image")) == {"a"}
        assert set(workspace.records(["a"], "image")) == {"a"}
        assert workspace.thumbnail("a") is None
        with pytest.raises(OriginalGone):
            workspace.content("a")
