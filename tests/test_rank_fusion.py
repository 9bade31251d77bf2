"""Reciprocal rank fusion by hand and by its properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossmodal.query.fusion import RANK_CONSTANT, Fused, fuse

RANKINGS = st.lists(st.text("abcdefgh", min_size=1, max_size=2), unique=True, max_size=20)


def test_scores_by_hand() -> None:
    assert fuse(["a", "b", "c"], ["c", "d"]) == [
        Fused("c", 3, 1, 1 / 63 + 1 / 61),
        Fused("a", 1, None, 1 / 61),
        Fused("b", 2, None, 1 / 62),
        Fused("d", None, 2, 1 / 62),
    ]
    assert RANK_CONSTANT == 60


def test_one_empty_ranking_leaves_the_other_as_it_is() -> None:
    assert [one.id for one in fuse(["b", "a"], [])] == ["b", "a"]
    assert [one.id for one in fuse([], ["b", "a"])] == ["b", "a"]
    assert fuse([], []) == []


def test_an_id_that_stands_twice_keeps_its_better_place() -> None:
    assert [(one.id, one.word_rank) for one in fuse([], ["a", "b", "a", "c"])] == [
        ("a", 1),
        ("b", 2),
        ("c", 3),
    ]


@given(RANKINGS, RANKINGS)
def test_every_document_is_there_once_with_its_ranks(vectors: list[str], words: list[str]) -> None:
    fused = fuse(vectors, words)
    assert sorted(one.id for one in fused) == sorted({*vectors, *words})
    for one in fused:
        assert one.vector_rank == (vectors.index(one.id) + 1 if one.id in vectors else None)
        assert one.word_rank == (words.index(one.id) + 1 if one.id in words else None)
    assert fused == sorted(fused, key=lambda one: (-one.score, one.id))
    swapped = {one.id: one.score for one in fuse(words, vectors)}
    assert swapped == pytest.approx({one.id: one.score for one in fused})


@given(RANKINGS)
def test_two_equal_rankings_keep_their_order(ranking: list[str]) -> None:
    assert [one.id for one in fuse(ranking, ranking)] == ranking
