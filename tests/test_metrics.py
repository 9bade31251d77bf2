"""Retrieval metrics against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossmodal.evaluation.metrics import ranks_of_relevant, summarize


def ranks(*rows: list[int]) -> list[np.ndarray]:
    return [np.array(row, np.int64) for row in rows]


def test_ranks_of_several_relevant_items() -> None:
    # One query; scores .9, .1, .5, .3 for items of the photos b, a, a, b.
    query = np.array([[1.0]], np.float32)
    gallery = np.array([[0.9], [0.1], [0.5], [0.3]], np.float32)
    assert [row.tolist() for row in ranks_of_relevant(query, gallery, ["a"], ["b", "a", "a", "b"])] == [
        [2, 4]
    ]
    assert [row.tolist() for row in ranks_of_relevant(query, gallery, ["b"], ["b", "a", "a", "b"])] == [
        [1, 3]
    ]


def test_a_tie_goes_to_the_earlier_item_of_the_gallery() -> None:
    query = np.array([[1.0]], np.float32)
    gallery = np.full((3, 1), 0.5, np.float32)
    for position, photo in enumerate(["a", "b", "c"], start=1):
        (found,) = ranks_of_relevant(query, gallery, [photo], ["a", "b", "c"])
        assert found.tolist() == [position]


def test_scores_are_compared_in_float64() -> None:
    # In float32 both sums are equal and the first item would win the tie.
    query = np.array([[1.0, 1.0]], np.float32)
    gallery = np.array([[1.0, 0.0], [1.0, 1e-9]], np.float32)
    (found,) = ranks_of_relevant(query, gallery, ["second"], ["first", "second"])
    assert found.tolist() == [1]


def test_a_query_without_relevant_items_has_no_ranks() -> None:
    one = np.array([[1.0]], np.float32)
    assert [row.tolist() for row in ranks_of_relevant(one, one, ["x"], ["y"])] == [[]]


def test_equal_captions_of_two_photos_do_not_count_for_each_other() -> None:
    # The same vector twice, of two photos: only the own one is relevant.
    queries = np.array([[1.0, 0.0]], np.float32)
    gallery = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    (found,) = ranks_of_relevant(queries, gallery, ["second"], ["first", "second"])
    assert found.tolist() == [2]


def test_summary_of_two_queries_by_hand() -> None:
    # First query: relevant at 1 and 4; second: relevant at 12 alone.
    summary = summarize(ranks([1, 4], [12]))
    assert summary["mrr"] == pytest.approx((1 + 1 / 12) / 2)
    assert (summary["hit@1"], summary["hit@5"], summary["hit@10"]) == (0.5, 0.5, 0.5)
    assert (summary["recall@1"], summary["recall@5"], summary["recall@10"]) == (0.25, 0.5, 0.5)
    assert summary["median_rank"] == 6.5
    assert summary["mean_rank"] == 6.5
    assert summary["map"] == pytest.approx(((1 / 1 + 2 / 4) / 2 + 1 / 12) / 2)
    gained = (1 / math.log2(2) + 1 / math.log2(5)) / (1 / math.log2(2) + 1 / math.log2(3))
    assert summary["ndcg@10"] == pytest.approx(gained / 2)


def test_hit_and_recall_differ() -> None:
    # Five captions of one photo, one of them found: hit@10 is 1 where true recall@10 is .2.
    summary = summarize(ranks([3, 20, 30, 40, 50]))
    assert summary["hit@10"] == 1
    assert summary["recall@10"] == pytest.approx(0.2)


def test_ideal_ndcg_is_cut_as_well() -> None:
    assert summarize(ranks(list(range(1, 21))))["ndcg@10"] == pytest.approx(1)


def test_unanswerable_queries_do_not_count() -> None:
    assert summarize(ranks([1], [])) == summarize(ranks([1]))
    with pytest.raises(ValueError, match="no query"):
        summarize(ranks([], []))


@given(
    st.lists(
        st.lists(st.integers(1, 50), min_size=1, max_size=5, unique=True).map(sorted), min_size=1, max_size=20
    )
)
def test_invariants(rows: list[list[int]]) -> None:
    summary = summarize(ranks(*rows))
    assert summary["hit@1"] <= summary["hit@5"] <= summary["hit@10"]
    for k in (1, 5, 10):
        assert summary[f"recall@{k}"] <= summary[f"hit@{k}"]
    assert summary["hit@1"] <= summary["mrr"] <= 1
    assert 0 < summary["map"] <= 1
    assert 0 <= summary["ndcg@10"] <= 1 + 1e-12


@given(st.integers(0, 2**32 - 1))
def test_ranks_agree_with_sorting_each_query_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few distinct values, so that ties are common.
    queries = rng.integers(-1, 2, (7, 3)).astype(np.float32)
    gallery = rng.integers(-1, 2, (11, 3)).astype(np.float32)
    query_photos = [str(number) for number in rng.integers(0, 4, 7)]
    gallery_photos = [str(number) for number in rng.integers(0, 4, 11)]
    found = ranks_of_relevant(queries, gallery, query_photos, gallery_photos)
    for query, photo, row in zip(queries, query_photos, found, strict=True):
        order = sorted(range(11), key=lambda item: (-float(query @ gallery[item]), item))
        assert row.tolist() == [place for place, item in enumerate(order, 1) if gallery_photos[item] == photo]
