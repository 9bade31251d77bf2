"""Branches and shards become one again: by document id, field by field."""

from __future__ import annotations

import itertools
from dataclasses import replace

from crossmodal.documents import Document, ShardScores
from crossmodal.match import Match
from crossmodal.records import Record
from crossmodal.steps.joining import join, merge_shards


def query(*found: tuple[str, float], error: str | None = None) -> Document:
    return Document("q", error=error, matches=[Match(id, "image", cosine) for id, cosine in found])


def test_matches_of_shards_are_united_in_any_order_and_cut() -> None:
    shards = [(("a", 0.9), ("b", 0.5)), (("d", 0.7), ("c", 0.7)), ()]
    for order in itertools.permutations(shards):
        joined = join([[query(*found)] for found in order])
        merge_shards(joined, {"top_k": 3.0})
        assert [(match.id, match.cosine) for match in joined[0].matches or ()] == [
            *(("a", 0.9), ("c", 0.7), ("d", 0.7)),
        ]


def test_a_query_that_failed_in_one_shard_has_no_matches() -> None:
    joined = join([[query(("a", 0.9))], [query(error="damaged")]])
    merge_shards(joined, {"top_k": 3})
    assert (joined[0].matches, joined[0].error) == (None, "damaged")


def test_none_never_overwrites_and_an_empty_text_does() -> None:
    (joined,) = join([[Document("x", text="kept", error="bad")], [Document("x", text="", error=None)]])
    assert (joined.text, joined.error) == ("", "bad")


def test_a_record_keeps_what_either_branch_put_into_it() -> None:
    light = Record("x", "image", text="a")
    whole = replace(light, content=b"photo", thumbnail=b"small")
    for branches in ([light, whole], [whole, light]):
        (joined,) = join([[Document("x", record=record)] for record in branches])
        assert joined.record == whole


def test_documents_come_in_the_order_in_which_they_appear_first() -> None:
    shared = Document("b")
    joined = join([[Document("a"), shared], [Document("c"), shared, Document("a")]])
    assert [doc.id for doc in joined] == ["a", "b", "c"]
    assert joined[1] is shared


def test_what_each_shard_said_stays_side_by_side() -> None:
    parts = [ShardScores(shard, ["a"], [0.5], [0.0]) for shard in range(2)]  # type: ignore[arg-type]
    branches = [[Document("q", shard_scores=[part], shard_states=[{"shard": part.shard}])] for part in parts]
    (joined,) = join(branches)
    assert joined.shard_scores == parts
    assert joined.shard_states == [{"shard": 0}, {"shard": 1}]
