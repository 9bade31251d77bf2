"""The steps around the index: what they commit, how shards search it, and how they go over to a new one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from store_samples import caption, photo

from crossmodal.documents import Document
from crossmodal.errors import StoreFormat, StoreLocked, StoreMissing
from crossmodal.index.embedded import vector_index
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.models import DEFAULT_MODEL, identify_model
from crossmodal.records import LocalFile, Record
from crossmodal.steps.indexing import Committer, ImageKeyValueIndexer, ImageVectorIndexer, TextIndexer
from crossmodal.steps.step import StepContext

DIMENSION = identify_model(DEFAULT_MODEL).dimension


def direction(number: int) -> NDArray[np.float32]:
    return np.eye(1, DIMENSION, number, dtype=np.float32)[0]


def vectors_of(count: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(2).normal(size=(count, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make_index(path: Path, records: Sequence[Record], vectors: NDArray[np.float32]) -> None:
    with EmbeddedStore.open_writer(path, identity=identify_model(DEFAULT_MODEL)) as store:
        store.put(records, vectors)


def named(path: Path) -> dict[str, Any]:
    """What the YAML tells each step."""
    return {"index_path": str(path), "model": DEFAULT_MODEL, "model_cache": str(path / "no models")}


def matches_of(step: ImageVectorIndexer | TextIndexer, vector: NDArray[np.float32], top_k: int) -> list[Any]:
    doc = Document.of_query("query", vector=vector, seeks=step.modality)
    step.search([doc], {"top_k": top_k})
    assert doc.error is None
    assert doc.matches is not None
    return doc.matches


def test_a_rebuilt_index_is_opened_again_until_that_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "index"
    make_index(path, [photo("old")], direction(0)[None])
    step = ImageVectorIndexer(StepContext("vectors"), **named(path))

    def found() -> list[str]:
        return [match.id for match in matches_of(step, direction(0), 3)]

    assert found() == ["old"]
    shutil.rmtree(path)
    with pytest.raises(StoreMissing, match="There is no index"):
        found()
    make_index(path, [photo("new")], direction(0)[None])

    def damaged(*given: object, **named: object) -> None:
        raise StoreFormat("a vector is damaged")

    with monkeypatch.context() as patch:
        patch.setattr(vector_index, "VectorIndex", damaged)
        with pytest.raises(StoreFormat, match="a vector is damaged"):
            found()
    assert found() == ["new"]
    step.close()


def test_shards_of_one_index_find_together_what_one_step_finds(tmp_path: Path) -> None:
    captions = [caption(f"p{number}-0", f"caption {number}") for number in range(50)]
    make_index(tmp_path, captions, vectors_of(50))
    found: list[list[tuple[float, str]]] = []
    for shards in (1, 3):
        together: list[tuple[float, str]] = []
        counts = []
        for shard in range(shards):
            step = TextIndexer(StepContext("texts", shard, shards), **named(tmp_path))
            matches = matches_of(step, direction(7), 20)
            assert [match.text for match in matches] == [f"caption {match.id[1:-2]}" for match in matches]
            together += [(-match.cosine, match.id) for match in matches]
            asked = Document("status")
            step.status([asked], {})
            assert asked.shard_states is not None
            (state,) = asked.shard_states
            assert (state["shard"], state["modality"]) == (shard, "text")
            counts.append(state["vectors"])
            step.close()
        found.append(sorted(together)[:20])
        assert sum(counts) == 50
        assert min(counts) > 0
    assert found[0] == found[1]


def test_documents_are_committed_together_and_the_shards_files_written_at_the_end(tmp_path: Path) -> None:
    committer = Committer(StepContext("committer"), **named(tmp_path), shards="2")
    with pytest.raises(StoreLocked):
        Committer(StepContext("another"), **named(tmp_path))
    writing = {**named(tmp_path), "writable": True}
    lying = replace(photo("p"), local=LocalFile("/photos", "p.jpg", "1000 1 7"), content_hash="").hashed()
    records = (lying, caption("p-0", "a cat"), photo("bad"), photo("up"))
    docs = [Document.of_record(record) for record in records]
    docs[0].embedding, docs[1].embedding = 3 * direction(0), direction(1)
    docs[0].thumbnail = docs[2].thumbnail = docs[3].thumbnail = b"small"
    docs[2].embedding, docs[3].embedding = np.ones(3, np.float32), direction(3)
    photos = [docs[0], docs[2], docs[3]]
    ImageVectorIndexer(StepContext("vectors"), **writing).index(photos, {})
    ImageKeyValueIndexer(StepContext("bytes"), **writing, keep="path").index(photos, {})
    TextIndexer(StepContext("texts"), **writing).index([docs[1]], {})
    committer.index(docs, {})
    assert [doc.outcome for doc in docs] == ["added", "added", None, "added"]
    assert docs[2].error is not None
    assert "has the shape (3,)" in docs[2].error
    with EmbeddedStore.open_reader(tmp_path) as store:
        assert (store.sequence, list(store.ids("image")), list(store.ids("text"))) == (
            1,
            ["p", "up"],
            ["p-0"],
        )
        assert (store.content("p"), store.thumbnail("p")) == (None, b"small")
        # What lies in no file here is stored whole.
        assert (store.content("up"), store.thumbnail("up")) == (photo("up").content, b"small")
        assert np.array_equal(store.vectors(["p"], "image")["p"], direction(0))
        gone = [Document("p"), Document("nothing")]
        committer.delete(gone, {"captions": True})
        assert [doc.outcome for doc in gone] == ["deleted", None]
        assert (store.sequence, list(store.ids("text"))) == (2, [])
    committer.close()
    assert sorted(path.name for path in (tmp_path / "derived").iterdir()) == [
        f"{modality}.{shard}-of-2.vectors" for modality in ("image", "text") for shard in range(2)
    ]


def test_closing_leaves_an_index_alone_that_took_the_place_of_this_one(tmp_path: Path) -> None:
    path = tmp_path / "index"
    committer = Committer(StepContext("committer"), **named(path))
    assert not committer.superseded
    shutil.rmtree(path)
    make_index(path, [photo("new")], direction(0)[None])
    assert committer.superseded
    committer.close()
    assert not (path / "derived").exists()
    with EmbeddedStore.open_reader(path) as store:
        assert list(store.ids("image")) == ["new"]
        assert store.verify() == []
