"""Ranks over all of an index are those of its search, for any number of shards, and those in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmodal.documents import Document
from crossmodal.errors import DataError, ModelMismatch
from crossmodal.evaluation.metrics import ranks_of_relevant
from crossmodal.index.embedded.compared import Hit, merge_matches
from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.scores import inner_products, ranks_among, score_error
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.models.identity import ModelIdentity
from crossmodal.records import Record
from crossmodal.steps.joining import add_scores, join, rank_wanted


def unit_vectors(seed: int, count: int, dimension: int) -> np.ndarray:
    """Random unit vectors of which every third is a copy of an earlier one, so that ties are common."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, dimension))
    vectors[2::3] = vectors[rng.integers(0, 2, len(vectors[2::3]))]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def index(tmp_path: Path) -> ExactIndex:
    vectors = unit_vectors(0, 700, 48)
    store = EmbeddedStore.open_writer(tmp_path / "store", identity=ModelIdentity("m", "w", "p", 48))
    records = [Record(f"{number * 37 % 1000:03d}", "text", text="x").hashed() for number in range(700)]
    store.put(records, vectors)
    return ExactIndex(store.vector_source("text"))


def test_all_scores_of_an_index_are_those_of_its_search_to_the_last_bit(index: ExactIndex) -> None:
    queries = unit_vectors(1, 5, 48)
    ids, scores, hubness = index.cosines(queries)
    assert not hubness.any()
    assert len(ids) == 700
    for row, found in zip(scores, index.search(queries, 700), strict=True):
        assert dict(zip(ids, row.tolist(), strict=True)) == {id: score for id, score, _ in found}
        ranks = ranks_among(ids, row, [id for id, *_ in found])
        assert [(id, ranks[id]) for id, *_ in found] == [
            (id, (rank, score)) for rank, (id, score, _) in enumerate(found, 1)
        ]


def test_unusable_queries_are_refused_as_the_search_refuses_them(index: ExactIndex) -> None:
    with pytest.raises(ModelMismatch, match="4 dimensions"):
        index.cosines(np.ones((1, 4), np.float32))
    with pytest.raises(DataError, match="not a finite number"):
        index.cosines(np.full((1, 48), np.nan, np.float32))


def test_what_nobody_holds_has_no_rank() -> None:
    assert ranks_among(["a", "b"], np.array([0.1, 0.2]), ["a", "c"]) == {"a": (2, 0.1)}


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 600))
@settings(max_examples=25, deadline=None)
def test_a_score_depends_on_two_vectors_alone(seed: int, rows: int) -> None:
    vectors = unit_vectors(seed, rows, 96)
    query = unit_vectors(seed + 1, 1, 96)[0]
    together = inner_products(query, vectors)
    for row in {0, rows // 2, rows - 1}:
        assert inner_products(query, vectors[row : row + 1])[0] == together[row]
    product = vectors.astype(np.float64) @ query.astype(np.float64)
    assert np.abs(product - together).max() <= score_error(query[None], vectors)


@given(seed=st.integers(0, 10_000), shards=st.integers(1, 5), corrected=st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_number_of_shards_gives_the_ranks_of_one_sorted_list(
    seed: int, shards: int, corrected: bool
) -> None:
    rng = np.random.default_rng(seed)
    ids = [f"{number:02d}" for number in rng.permutation(40)]
    cosines, hubness = rng.integers(0, 8, 40) / 8, (rng.integers(0, 3, 40) / 8).astype(np.float32)
    shard_of = rng.integers(0, shards, 40)
    wanted = [ids[3], ids[17], "nowhere"]
    parts = []
    for shard in range(shards):
        mine = np.flatnonzero(shard_of == shard)
        doc = Document("q", "text", wanted=wanted, corrected=corrected)
        add_scores([doc], [ids[place] for place in mine], cosines[mine][None], hubness[mine], shard=shard)
        parts.append([doc])
    (answer,) = joined = join(parts)
    rank_wanted(joined)
    scores = cosines - hubness if corrected else cosines
    everything = merge_matches([map(Hit, ids, scores.tolist(), cosines.tolist())], 40)
    by_cosine = merge_matches([map(Hit, ids, cosines.tolist(), cosines.tolist())], 40)
    plain = {hit.id: rank for rank, hit in enumerate(by_cosine, 1)}
    expected = [(hit.id, hit.cosine, rank, plain[hit.id]) for rank, hit in enumerate(everything, 1)]
    found = [(match.id, match.cosine, match.rank, match.plain_rank) for match in answer.matches or ()]
    assert found == [each for each in expected if each[0] in wanted]
    assert answer.shard_scores is None


def test_a_search_without_wanted_is_left_alone() -> None:
    doc = Document("q", "text")
    rank_wanted([doc])
    assert doc.matches is None


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_ranks_in_memory_are_those_of_an_exact_sort_where_vectors_are_equal(seed: int) -> None:
    # 600 copies of a few rows: a matrix product gives equal rows unequal scores here and there.
    rng = np.random.default_rng(seed)
    gallery = unit_vectors(seed, 7, 33)[rng.integers(0, 7, 600)]
    queries = unit_vectors(seed + 1, 3, 33)
    photos = [str(number % 200) for number in range(600)]
    found = ranks_of_relevant(queries, gallery, ["0", "7", "elsewhere"], photos)
    for query, photo, ranks in zip(queries, ("0", "7", "elsewhere"), found, strict=True):
        scores = inner_products(query, gallery)
        order = np.argsort(-scores, kind="stable")
        assert ranks.tolist() == [place for place, item in enumerate(order, 1) if photos[item] == photo]
