"""What has to hold after each kill, read from the index itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from crossmodal.index.embedded.options import SearchOptions
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.embedded.vector_index import VectorIndex
from crossmodal.records import IMAGE, MODALITIES, TEXT, Record
from tests.chaos.workloads import DIMENSION, captions_for, photos_for, vector_for

__all__ = ["Expected", "after", "assert_holds", "assert_search_agrees"]

# The version of each photo whose documents are there; an id with None was deleted.
Expected = Mapping[str, int | None]


def after(expected: Expected, step: str) -> Expected:
    """``expected`` once the step that a workload printed has happened."""
    words = step.split()
    if words[0] == "delete":
        return {**expected, **dict.fromkeys(words[1:])}
    if words[0] == "put":
        return {**expected, **dict.fromkeys(words[2:], int(words[1]))}
    return expected


def assert_holds(folder: Path, expected: Expected, pending: str | None, *, photos: bool = True) -> Expected:
    """Asserts that the index is whole and holds what was acknowledged; returns what is there.

    ``pending`` is the step that was killed: it may have happened, as a whole, or not at all. Without
    ``photos`` there are captions only.
    """
    # A free lock: the kernel released it with the process.
    with EmbeddedStore.open_writer(folder) as store:
        assert (damage := store.verify()) == [], damage
        found = _versions(store)
        if found != _living(expected) and pending is not None:
            expected = after(expected, pending)
        assert found == _living(expected), "what was acknowledged is not what is there"
        assert store.counts(TEXT).documents == store.counts(TEXT).vectors == len(found)
        if photos:
            assert store.counts(IMAGE).documents == store.counts(IMAGE).vectors == len(found)
        _assert_each_is_right(store, found, photos)
        for modality in MODALITIES if photos else (TEXT,):
            assert_search_agrees(store, modality)
    return expected


def assert_search_agrees(store: EmbeddedStore, modality: str) -> None:
    """Asserts that searches, exact ones and by codes, find what comparing all vectors finds."""
    ids = list(store.ids(modality))
    if not ids:
        return
    stored = store.vectors(ids, modality)
    matrix = np.stack([stored[id] for id in ids]).astype(np.float64)
    queries = np.random.default_rng(len(ids)).normal(size=(4, matrix.shape[1])).astype(np.float32)
    recount = queries.astype(np.float64) @ matrix.T
    for tier in ("exact", "scan"):
        index = VectorIndex(store.vector_source(modality), options=SearchOptions.of(tier))
        try:
            assert len(index) == len(ids)
            for scores, found in zip(recount, index.search(queries, 5), strict=True):
                assert len({hit.id for hit in found}) == len(found) == min(5, len(ids)), "a duplicate"
                best = np.sort(scores)[::-1][: len(found)]
                np.testing.assert_allclose([hit.score for hit in found][:1], best[:1], atol=1e-5)
                for hit in found:
                    assert abs(hit.score - scores[ids.index(hit.id)]) < 1e-5, "a score of another vector"
                if tier == "exact":
                    np.testing.assert_allclose([hit.score for hit in found], best, atol=1e-5)
        finally:
            index.close()


def _living(expected: Expected) -> Expected:
    return {id: version for id, version in expected.items() if version is not None}


def _versions(store: EmbeddedStore) -> Expected:
    ids = list(store.ids(TEXT))
    assert len(ids) == len(set(ids)), "a duplicate"
    captions = store.get(ids, TEXT)
    return {
        str(record.photo_id): int(str(record.text).rpartition("v")[2])
        for record in captions
        if record is not None
    }


def _assert_each_is_right(store: EmbeddedStore, found: Expected, photos: bool) -> None:
    for id, version in found.items():
        assert version is not None
        (made,) = photos_for([id], version, 1)
        (caption,) = captions_for([made])
        assert [each.id for each in store.captions_of([id])[0]] == [caption.id]
        _assert_vector(store, [caption])
        if not photos:
            continue
        content = store.content(id)
        assert content is not None
        (whole,) = photos_for([id], version, len(content))
        (record,) = store.get([id], IMAGE)
        assert record is not None
        assert (content, record.content_hash) == (whole.content, whole.content_hash), "a torn photo"
        assert store.thumbnail(id) == whole.thumbnail
        _assert_vector(store, [whole])


def _assert_vector(store: EmbeddedStore, records: Iterable[Record]) -> None:
    for record in records:
        vector = store.vectors([record.id], record.modality)[record.id]
        assert vector.shape == (DIMENSION,)
        np.testing.assert_array_equal(vector, vector_for(record))
