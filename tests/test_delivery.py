"""A document that missed a step is sent again, and never taken for done."""

from __future__ import annotations

import asyncio

import pytest

from crossmodal.documents import MediaDocument
from crossmodal.errors import ServiceError
from crossmodal.settings import Settings
from flows.delivery import deliver, undone
from crossmodal.flow.topology import FLOW_FILES, read_topology

QUERY = read_topology(FLOW_FILES["query"], Settings(model="vse", shards=2).flow_environment())
TEXT = ["text_encoder", "image_vector_indexer/0", "image_vector_indexer/1"]
TEXT += ["image_kv_indexer/0", "image_kv_indexer/1", "joiner"]


def query(**fields: object) -> MediaDocument:
    return MediaDocument(id="q", modality="text", **fields)


def test_what_a_document_should_have_been_through() -> None:
    assert QUERY.trail(query()) == set(TEXT)
    photo = MediaDocument(modality="image")
    assert QUERY.trail(photo) == {
        *("image_loader", "image_normalizer", "image_encoder", "text_indexer/0", "text_indexer/1", "joiner"),
    }


@pytest.mark.parametrize("missing", TEXT)
def test_a_missing_step_or_shard_is_noticed(missing: str) -> None:
    answer = query(trail=[name for name in TEXT if name != missing])
    assert undone(query(), answer, QUERY) == {missing}
    assert undone(query(), query(trail=TEXT), QUERY) == set()
    assert undone(query(), query(trail=[], error="not a photo"), QUERY) == set()
    assert undone(query(), None, QUERY) == set(TEXT)


def test_only_what_is_missing_is_sent_again() -> None:
    sent: list[list[str]] = []

    async def send(docs: list[MediaDocument]) -> list[MediaDocument]:
        sent.append([str(doc.id) for doc in docs])
        whole = len(sent) > 1
        return [
            MediaDocument(id=doc.id, trail=TEXT if whole or doc.id == "a" else TEXT[:2])
            for doc in docs
            if whole or doc.id != "c"
        ]

    docs = [MediaDocument(id=id, modality="text") for id in "abc"]
    answered = asyncio.run(deliver(docs, QUERY, send))
    assert sent == [["a", "b", "c"], ["b", "c"]]
    assert {id: doc.trail for id, doc in answered.items()} == dict.fromkeys("abc", TEXT)


def test_what_never_arrives_is_an_error_that_names_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.delivery._PAUSE_SECONDS", 0)

    async def send(docs: list[MediaDocument]) -> list[MediaDocument]:
        return [query(trail=[name for name in TEXT if name != "image_kv_indexer/1"])]

    with pytest.raises(ServiceError, match="1 of 1 documents never came through image_kv_indexer/1, tried 4"):
        asyncio.run(deliver([query()], QUERY, send))
