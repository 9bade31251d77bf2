"""A shard of the query Flow goes over to an index that was made anew while it was served."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from docarray import DocList
from store_samples import photo

from crossmodal import search
from crossmodal.documents import MediaDocument
from crossmodal.errors import StoreFormat
from crossmodal.models import DEFAULT_MODEL, identify_model
from crossmodal.stores import Store
from executors.vector_shard import VectorShard


def make_index(path: Path, id: str, vector: np.ndarray) -> None:
    with Store.open_writer(path, identity=identify_model(DEFAULT_MODEL)) as store:
        store.put([photo(id)], vector[None])


def test_an_index_made_anew_is_opened_again_until_that_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dimension = identify_model(DEFAULT_MODEL).dimension
    vector = np.eye(1, dimension, dtype=np.float32)[0]
    path = tmp_path / "vectors" / "0-of-1"
    make_index(path, "old", vector)
    shard = VectorShard(
        str(tmp_path),
        "vectors",
        model=DEFAULT_MODEL,
        model_cache=str(tmp_path),
        writable=False,
        index="auto",
        index_options=None,
        runtime_args=SimpleNamespace(shard_id=0, shards=1),
    )

    def found() -> tuple[list[str], str | None]:
        doc = MediaDocument(id="query", modality="text", embedding=vector)
        shard.search(DocList[MediaDocument]([doc]), {"top_k": 3})
        return [str(match.id) for match in doc.matches or ()], doc.error

    assert found() == (["old"], None)
    shutil.rmtree(path)
    assert "There is no index" in str(found()[1])
    make_index(path, "new", vector)

    def damaged(*given: object, **named: object) -> None:
        raise StoreFormat("a block is damaged")

    with monkeypatch.context() as patch:
        patch.setattr(search, "VectorIndex", damaged)
        assert found() == ([], "a block is damaged")
    assert found() == (["new"], None)
    shard.close()
