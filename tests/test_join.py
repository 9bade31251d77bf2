"""Branches are joined by jina's own rule, and what jina leaves twice is made one."""

from __future__ import annotations

import itertools
from typing import Any

from docarray import DocList
from docarray.utils.reduce import reduce_all
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmodal.documents import MatchDocument, MediaDocument
from executors.merge import join

FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(max_size=3),
        "uri": st.just("a"),
        "outcome": st.sampled_from(["added", "replaced", "deleted"]),
        "error": st.text(max_size=3),
    },
)
BRANCH = st.dictionaries(st.sampled_from("abc"), FIELDS, max_size=3)


def documents(branch: dict[str, dict[str, Any]]) -> DocList:
    return DocList[MediaDocument]([MediaDocument(id=id, modality="image", **v) for id, v in branch.items()])


def described(docs: DocList) -> dict[str, dict[str, Any]]:
    return {doc.id: {n: v for n, v in doc.__dict__.items() if n != "id" and v is not None} for doc in docs}


@given(BRANCH, BRANCH)
@settings(max_examples=60, deadline=None)
def test_joining_two_branches_equals_jinas_reduction(
    first: dict[str, dict[str, Any]], second: dict[str, dict[str, Any]]
) -> None:
    reduced = reduce_all([documents(first), documents(second)])
    assert described(join([documents(first), documents(second)])) == described(reduced)


@given(st.lists(BRANCH, min_size=2, max_size=4))
@settings(max_examples=60, deadline=None)
def test_the_joiner_repairs_what_jina_leaves_twice(branches: list[dict[str, dict[str, Any]]]) -> None:
    reduced = reduce_all([documents(branch) for branch in branches])
    joined = join([reduced])
    assert len({doc.id for doc in joined}) == len(joined) == len({id for branch in branches for id in branch})
    assert described(joined) == described(join([documents(branch) for branch in branches]))


def test_matches_of_shards_are_united_in_any_order() -> None:
    def shard(*found: tuple[str, float]) -> DocList:
        matches = DocList[MatchDocument]([MatchDocument(id=id, score=score) for id, score in found])
        return DocList[MediaDocument]([MediaDocument(id="q", matches=matches)])

    shards = [(("a", 0.9), ("b", 0.5)), (("c", 0.7),), ()]
    for order in itertools.permutations(shards):
        joined = join([shard(*found) for found in order])
        assert {(m.id, m.score) for m in joined[0].matches} == {("a", 0.9), ("b", 0.5), ("c", 0.7)}


def test_none_never_overwrites_and_an_empty_text_does() -> None:
    first = DocList[MediaDocument]([MediaDocument(id="x", text="kept", error="bad")])
    second = DocList[MediaDocument]([MediaDocument(id="x", text="", error=None)])
    assert join([first, second])[0].text == ""
    assert join([first, second])[0].error == "bad"


@given(FIELDS)
@settings(max_examples=60, deadline=None)
def test_a_document_without_its_empty_fields_arrives_whole(fields: dict[str, Any]) -> None:
    sent = MediaDocument(id="a", tags={"place": "x", "year": 3}, blob=b"\xff", trail=["one"], **fields)
    message = sent.to_protobuf()
    assert set(message.data) == {name for name, value in sent.__dict__.items() if value is not None}
    assert MediaDocument.from_protobuf(message).__dict__ == sent.__dict__
