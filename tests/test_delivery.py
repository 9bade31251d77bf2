"""A document that missed a step is sent again, and never taken for done."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from crossmodal.documents import Document
from crossmodal.errors import ServiceError
from crossmodal.flow.topology import flow_file, read_topology
from crossmodal.jina.delivery import Answer, LostShards, deliver, steps_to_visit
from crossmodal.settings import Settings

QUERY = read_topology(flow_file("query"), Settings(model="vse", shards=2).flow_environment())
STEPS = ["text_encoder", "image_vector_indexer/0", "image_vector_indexer/1"]
STEPS += ["image_kv_indexer", "join_all"]


def query(id: str = "q", **fields: str) -> Document:
    return Document(id, "text", "image", **fields)  # type: ignore[arg-type]


def test_which_steps_a_document_visits() -> None:
    assert steps_to_visit(QUERY, query()) == set(STEPS)
    assert steps_to_visit(QUERY, Document("q", "image", "text")) == {
        *("image_loader", "image_normalizer", "image_encoder", "text_indexer/0", "text_indexer/1"),
        "join_all",
    }
    assert steps_to_visit(QUERY, Document("q")) == set()


@pytest.mark.parametrize("missing", STEPS)
def test_a_missing_step_or_shard_is_noticed(missing: str) -> None:
    visited = [[name for name in STEPS if name != missing], STEPS]
    sent: list[int] = []

    def send(docs: Sequence[Document]) -> dict[str, Answer]:
        sent.append(len(docs))
        return {"q": Answer(query(text="answered"), visited[len(sent) - 1])}

    assert deliver([query()], QUERY, send)["q"].text == "answered"
    assert sent == [1, 1]


def test_a_document_with_an_error_is_done() -> None:
    failed = query(error="not a photo")
    assert deliver([query()], QUERY, lambda docs: {"q": Answer(failed, ())}) == {"q": failed}


def test_a_document_that_takes_no_branch_has_no_answer() -> None:
    assert deliver([Document("q")], QUERY, lambda docs: {}) == {}


def test_only_what_is_missing_is_sent_again() -> None:
    sent: list[list[str]] = []

    def send(docs: Sequence[Document]) -> dict[str, Answer]:
        sent.append([doc.id for doc in docs])
        whole = len(sent) > 1
        return {
            doc.id: Answer(query(doc.id), STEPS if whole or doc.id == "a" else STEPS[:2])
            for doc in docs
            if whole or doc.id != "c"
        }

    assert set(deliver([query(id) for id in "abc"], QUERY, send)) == set("abc")
    assert sent == [["a", "b", "c"], ["b", "c"]]


def test_what_never_arrives_is_an_error_that_names_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossmodal.jina.delivery._PAUSE_SECONDS", 0)
    visited = [name for name in STEPS if name != "image_vector_indexer/1"]
    with pytest.raises(
        ServiceError, match="1 of 1 documents never came through image_vector_indexer/1, tried 4"
    ):
        deliver([query()], QUERY, lambda docs: {"q": Answer(query(), visited)})


def test_a_lost_shard_is_waited_for_once_where_answers_may_be_partial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("crossmodal.jina.delivery._PAUSE_SECONDS", 0)
    lost, sent = LostShards(QUERY), list[int]()

    def send(without: str) -> list[str] | None:
        def answer(docs: Sequence[Document]) -> dict[str, Answer]:
            sent.append(len(docs))
            return {"q": Answer(query(), [name for name in STEPS if name != without])}

        return deliver([query()], QUERY, answer, lost)["q"].lost_shards

    assert [send("image_vector_indexer/1") for _ in range(3)] == [["image_vector_indexer/1"]] * 3
    assert len(sent) == 4 + 1 + 1
    # The other one is lost in its place.
    assert [send("image_vector_indexer/0") for _ in range(2)] == [["image_vector_indexer/0"]] * 2
    assert send("") is None
    assert lost.names == frozenset()
    with pytest.raises(ServiceError, match="never came through text_encoder"):
        send("text_encoder")


def test_without_any_shard_of_a_step_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossmodal.jina.delivery._PAUSE_SECONDS", 0)
    lost = LostShards(QUERY)
    shards = [name for name in STEPS if "/" in name]
    # Each was missed by a request of its own.
    assert all(lost.lose({shard}) for shard in shards)
    answer = Answer(query(), [name for name in STEPS if name not in shards])
    for _ in range(2):
        with pytest.raises(ServiceError, match=f"never came through {', '.join(shards)}, tried 4"):
            deliver([query()], QUERY, lambda docs: {"q": answer}, lost)
