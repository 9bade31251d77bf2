"""A shard of the query Flow goes over to an index that was rebuilt while it was served."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from store_samples import photo

from crossmodal import search
from crossmodal.documents import Document
from crossmodal.errors import StoreFormat, StoreMissing
from crossmodal.models import DEFAULT_MODEL, identify_model
from crossmodal.steps.step import StepContext
from crossmodal.steps.vector_shard import VectorShard
from crossmodal.stores import Store


def make_index(path: Path, id: str, vector: np.ndarray) -> None:
    with Store.open_writer(path, identity=identify_model(DEFAULT_MODEL)) as store:
        store.put([photo(id)], vector[None])


def test_a_rebuilt_index_is_opened_again_until_that_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dimension = identify_model(DEFAULT_MODEL).dimension
    vector = np.eye(1, dimension, dtype=np.float32)[0]
    path = tmp_path / "vectors" / "0-of-1"
    make_index(path, "old", vector)
    shard = VectorShard(
        StepContext("vectors"),
        str(tmp_path),
        "vectors",
        "image",
        model=DEFAULT_MODEL,
        model_cache=str(tmp_path),
        writable=False,
        index="auto",
        index_options=None,
    )

    def found() -> list[str]:
        doc = Document.of_query("query", vector=vector, seeks="image")
        shard.search([doc], {"top_k": 3})
        assert doc.error is None
        return [match.id for match in doc.matches or ()]

    assert found() == ["old"]
    shutil.rmtree(path)
    with pytest.raises(StoreMissing, match="There is no index"):
        found()
    make_index(path, "new", vector)

    def damaged(*given: object, **named: object) -> None:
        raise StoreFormat("a block is damaged")

    with monkeypatch.context() as patch:
        patch.setattr(search, "VectorIndex", damaged)
        with pytest.raises(StoreFormat, match="a block is damaged"):
            found()
    assert found() == ["new"]
    shard.close()
