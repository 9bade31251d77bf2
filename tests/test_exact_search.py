"""Exact search: the right vectors in one total order, however they are spread and whatever was replaced."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from store_samples import caption, photo, vector_of, vectors_of

from crossmodal.errors import DataError, ModelMismatch, StoreFormat
from crossmodal.index.embedded.compared import Hit, merge_matches
from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.schema import INDEX_FILE
from crossmodal.index.embedded.scores import shard_of
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import MODALITIES, Modality, Record

Matches = list[list[Hit]]


def reference(ids: Sequence[str], vectors: NDArray[np.float32], query: NDArray[np.float32]) -> list[str]:
    """All ids by float64 inner product, falling, then by id."""
    scores = [float(np.dot(vector.astype(np.float64), query.astype(np.float64))) for vector in vectors]
    return [id for _, id in sorted(zip(scores, ids, strict=True), key=lambda pair: (-pair[0], pair[1]))]


def fill(path: Path, ids: Sequence[str], vectors: NDArray[np.float32]) -> EmbeddedStore:
    store = EmbeddedStore.open_writer(path)
    if ids:
        store.put([caption(id, f"text of {id}") for id in ids], vectors)
    return store


def exact(store: EmbeddedStore, modality: Modality = "text", shard: int = 0, shards: int = 1) -> ExactIndex:
    return ExactIndex(store.vector_source(modality, shard, shards))


def search_together(indexes: Sequence[ExactIndex], queries: NDArray[np.float32], k: int) -> Matches:
    found = [index.search(queries, k) for index in indexes]
    return [merge_matches(per_query, k) for per_query in zip(*found, strict=True)]


def test_order_equals_a_plain_float64_search(tmp_path: Path) -> None:
    chance = np.random.default_rng(5)
    vectors = chance.normal(size=(3000, 64)).astype(np.float32)
    queries = chance.normal(size=(30, 64)).astype(np.float32)
    ids = [f"c{number:05d}" for number in chance.permutation(3000)]
    with fill(tmp_path / "store", ids, vectors) as store:
        index = exact(store)
        for query, matches in zip(queries, index.search(queries, 20), strict=True):
            assert [id for id, *_ in matches] == reference(ids, vectors, query)[:20]
            for id, score, cosine in matches:
                assert score == cosine
                expected = np.dot(vectors[ids.index(id)].astype(np.float64), query.astype(np.float64))
                assert score == pytest.approx(expected, abs=1e-12)


# A few directions, repeated and shifted by less than float32 can tell apart in an inner product.
nearly_equal_vectors = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.0, 0.0, 2e-8, -2e-8, 6e-8, 1e-7, 1e-6])),
    min_size=0,
    max_size=60,
)


@given(
    rows=nearly_equal_vectors,
    shards=st.sampled_from([2, 3, 4]),
    k=st.integers(1, 25),
    seed=st.integers(0, 2**32 - 1),
)
def test_ties_shards_and_cuts_never_change_the_order(
    rows: list[tuple[int, float]], shards: int, k: int, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    directions = chance.normal(size=(3, 16)).astype(np.float32)
    vectors = np.array(
        [directions[number] * np.float32(1 + shift) for number, shift in rows], np.float32
    ).reshape(-1, 16)
    ids = [f"{number}" for number in chance.permutation(len(rows))]
    queries = np.concatenate([directions, chance.normal(size=(1, 16)).astype(np.float32)])
    with tempfile.TemporaryDirectory() as name, fill(Path(name), ids, vectors) as store:
        index = exact(store)
        whole = index.search(queries, max(len(ids), 1))
        cut = index.search(queries, k)
        alone = [index.search(query[None], k)[0] for query in queries]
        parts = [exact(store, "text", shard, shards) for shard in range(shards)]
        sharded = search_together(parts, queries, k)
        assert sum(map(len, parts)) == len(ids)
    for query, everything in zip(queries, whole, strict=True):
        assert sorted(id for id, *_ in everything) == sorted(ids)
        assert everything == sorted(everything, key=lambda match: (-match[1], match[0]))
        assert [id for id, *_ in everything][:1] == reference(ids, vectors, query)[:1]
    assert cut == [everything[:k] for everything in whole]
    assert alone == cut
    assert sharded == cut


def test_many_equal_captions_at_the_cut(tmp_path: Path) -> None:
    """5,000 copies of one caption: the first in order of id come, not the first that faiss meets."""
    chance = np.random.default_rng(1)
    vector = vector_of("a dog", dimension=32)
    vectors = np.concatenate([np.repeat(vector[None], 5000, 0), chance.normal(size=(500, 32)) * 0.01])
    ids = [f"c{number:04d}" for number in chance.permutation(5500)]
    copies = sorted(ids[:5000])
    with fill(tmp_path / "store", ids, vectors.astype(np.float32)) as store:
        index = exact(store)
        matches = index.search(vector[None], 15)[0]
        assert [id for id, *_ in matches] == copies[:15]
        assert len({score for _, score, _ in matches}) == 1
        assert index.search(vector[None], 5)[0] == matches[:5]
        assert [id for id, *_ in index.search(vector[None], 5001)[0]][:5000] == copies


def test_empty_small_and_wrong(tmp_path: Path) -> None:
    with fill(tmp_path / "store", [], np.empty((0, 8), np.float32)) as store:
        index = exact(store)
        assert index.search(np.ones((2, 8), np.float32), 5) == [[], []]
        store.put([photo("p"), caption("bare", "without a vector")])
        assert index.search(np.ones((2, 8), np.float32), 5) == [[], []]
        store.put([caption(name, "text") for name in "abc"], np.stack([vector_of(name) for name in "abc"]))
        assert sorted(id for id, *_ in index.search(vector_of("a")[None], 100)[0]) == ["a", "b", "c"]
        assert index.search(np.empty((0, 8), np.float32), 5) == []
        with pytest.raises(ModelMismatch, match=r"query has 9 dimensions.*has 8"):
            index.search(np.ones((1, 9), np.float32), 5)
        with pytest.raises(DataError, match="top_k is 0"):
            index.search(np.ones((1, 8), np.float32), 0)
        with pytest.raises(DataError, match="not a finite number"):
            index.search(np.full((1, 8), np.nan, np.float32), 1)
        with pytest.raises(DataError, match="shape"):
            index.search(np.ones(8, np.float32), 1)


@settings(max_examples=25, deadline=None)
@given(
    batches=st.lists(
        st.tuples(
            st.sampled_from([None, "image", "text"]),
            st.lists(st.integers(0, 40), min_size=1, max_size=30, unique=True),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_following_a_store_equals_loading_it(batches: list[tuple[Modality | None, list[int]]]) -> None:
    """Whole indexes and shards find what a new one finds, whether they are refreshed after each change or
    once, while photos and captions of equal ids are put, replaced and (None) deleted."""
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedStore.open_writer(Path(name)) as store,
        pytest.MonkeyPatch.context() as patch,
    ):
        # Begins again at a few dead rows instead of a thousand.
        patch.setattr("crossmodal.index.embedded.row_follower._FEW_DEAD", 10)
        following, late = ({modality: exact(store, modality) for modality in MODALITIES} for _ in range(2))
        shards = {
            modality: [exact(store, modality, shard, 3) for shard in range(3)] for modality in MODALITIES
        }
        expected: dict[Modality, dict[str, int]] = {modality: {} for modality in MODALITIES}
        for version, (modality, numbers) in enumerate(batches, start=1):
            names = [f"p{number}" for number in numbers]
            if modality is None:
                gone = [(kind, name) for name in names for kind in MODALITIES if name in expected[kind]]
                assert store.delete(names) == gone
                for kind, name in gone:
                    del expected[kind][name]
            else:
                records = [Record(name, modality, tags={"version": version}).hashed() for name in names]
                store.put(records, vectors_of(records))
                expected[modality] |= dict.fromkeys(names, version)
            for kind in MODALITIES:
                following[kind].refresh()
                assert len(following[kind]) == len(expected[kind])
        assert store.verify() == []
        for kind in MODALITIES:
            queries = np.stack([vector_of("any"), *(vector_of(*pair) for pair in expected[kind].items())])
            new = exact(store, kind).search(queries, 50)
            assert following[kind].search(queries, 50) == new
            assert late[kind].search(queries, 50) == new
            assert search_together(shards[kind], queries, 50) == new
            assert [matches[0][0] for matches in new[1:]] == list(expected[kind])


def test_index_that_missed_too_many_changes_loads_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossmodal.index.embedded.changes._COMMITS_REMEMBERED", 8)
    with EmbeddedStore.open_writer(tmp_path) as store:
        index = exact(store, "image")
        for version in range(1, 40):
            records = [photo(name, version=version, size=10) for name in ("a", "b")]
            store.put(records, vectors_of(records))
            if version == 3:
                index.refresh()
        with store.vector_source("image").snapshot() as snapshot:
            assert snapshot.rows_removed(3) is None
            removed = snapshot.rows_removed(38)
            assert removed is not None
            assert len(removed) == 2
            assert snapshot.rows_removed(40) is None, "of a commit to come nothing is known"
        assert [id for id, *_ in index.search(vector_of("a", 39)[None], 9)[0]] == ["a", "b"]
        assert index.search(vector_of("b", 39)[None], 1)[0][0][:2] == ("b", pytest.approx(1, abs=1e-6))
        assert len(index) == 2


def test_following_that_ended_at_a_damaged_vector_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossmodal.index.embedded.vector_source._BLOCK_ROWS", 70)
    vectors = np.random.default_rng(3).normal(size=(300, 8)).astype(np.float32)
    ids = [f"c{number:03d}" for number in range(300)]
    with fill(tmp_path / "store", ids[:100], vectors[:100]) as store:
        index = exact(store)
        for start in (100, 200):
            store.put([caption(id, "late") for id in ids[start : start + 100]], vectors[start : start + 100])
        store.delete(["c000"])

        def change_a_checksum(by: int) -> None:
            file = sqlite3.connect(store.path / INDEX_FILE)
            with file:
                file.execute("UPDATE text_vectors SET checksum = checksum + ? WHERE id = 'c250'", (by,))
            file.close()

        change_a_checksum(1)
        for _ in range(2):
            with pytest.raises(
                StoreFormat, match="the vector of 'c250', row 250, is missing or does not match"
            ):
                index.refresh()
        change_a_checksum(-1)
        assert index.search(vectors[:5], 50) == exact(store).search(vectors[:5], 50)
        assert len(index) == 299


def test_merge_matches_orders_and_cuts() -> None:
    shards = [[Hit("b", 0.5, 1), Hit("d", 0.1, 1)], [Hit("a", 0.5, 0), Hit("c", 0.7, 0)], []]
    assert [hit.id for hit in merge_matches(shards, 3)] == ["c", "a", "b"]
    assert merge_matches(shards, 10)[-1] == ("d", 0.1, 1)
    assert merge_matches([], 3) == []


def test_shard_of_is_stable_and_even() -> None:
    assert [shard_of(id, 4) for id in ("a", "b", "c", "0123456789abcdef0123-4")] == [2, 2, 2, 3]
    counts = np.bincount([shard_of(f"photo{number}", 4) for number in range(8000)])
    assert counts.min() > 1850
    assert {shard_of(f"photo{number}", 1) for number in range(10)} == {0}
