"""Documents become messages and come back whole, and what jina's own reduction leaves twice is made one."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from needs_jina import skip_module_without_jina

skip_module_without_jina()

from docarray import DocList  # noqa: E402
from docarray.utils.reduce import reduce_all  # noqa: E402

from crossmodal.documents import Document, ShardScores  # noqa: E402
from crossmodal.http_shapes.values import shown  # noqa: E402
from crossmodal.jina.documents import (  # noqa: E402
    MatchDocument,
    MediaDocument,
    read_messages,
    tags_from_wire,
    write_message,
)
from crossmodal.match import Match  # noqa: E402
from crossmodal.records import LocalFile, Record  # noqa: E402
from crossmodal.steps.joining import join  # noqa: E402

LARGE = 2**31

RECORD = Record(
    "a",
    "image",
    uri="/photos/cat.jpg",
    mime_type="image/jpeg",
    tags={"place": "x", "year": 3, "bytes": LARGE, "nested": {"sizes": [1, LARGE, 0.5, True]}},
    content=b"\xff\x00",
    content_hash="hash",
)


def sent(doc: Document, *, indexing: bool = False) -> Document:
    """``doc`` as it comes out of another process's message."""
    message = MediaDocument.from_protobuf(write_message(doc).to_protobuf())
    (read,), _ = read_messages([message], {}, indexing=indexing)
    return read


def same(one: Any, other: Any) -> bool:
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other


def differing(doc: Document, arrived: Document) -> list[str]:
    """The names of the fields that ``arrived`` has in another way."""
    names = [field.name for field in fields(Document)]
    return [name for name in names if not same(getattr(arrived, name), getattr(doc, name))]


def test_everything_on_a_document_arrives() -> None:
    match = Match("m", "image", 0.123456789012345, rank=2, uri="/a/b.jpg", file="b.jpg", photo_id="m")
    doc = Document(
        "a",
        "image",
        "text",
        text="some",
        content=b"\xff\x00",
        record=replace(RECORD, text="some"),
        pixels=np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
        frame=(0.5, 0.0, 2.0, 2.0),
        thumbnail=b"\x00small",
        embedding=np.array([0.1, 0.2], np.float32),
        outcome="added",
        error="bad",
        aborted="StoreUnwritable",
        encoded_ms=1.25,
    )
    assert differing(doc, sent(doc, indexing=True)) == []
    asked = replace(
        doc,
        record=None,
        matches=[match, Match("n", "text", -1.0, text="words", tags={"n": LARGE + 1})],
        wanted=["x", "y"],
        shard_states=[{"shard": 0, "recall": None, "vectors": LARGE}],
    )
    arrived = sent(asked)
    assert differing(asked, arrived) == []
    assert arrived.embedding is not None
    assert arrived.pixels is not None
    assert (arrived.embedding.dtype, arrived.pixels.dtype) == (np.float32, np.uint8)


def test_what_only_the_index_needs_of_a_record_arrives() -> None:
    whole = replace(
        RECORD,
        photo_id="of",
        metadata={"taken": "2019-07-04", "sizes": [1, LARGE, 0.5], "place": {"at": [48.86, 2.35]}},
        thumbnail=b"small",
        digest="f" * 64,
        local=LocalFile("/mnt/nas", "2019/caf\u00e9.jpg", "1 2 3 4 5 6"),
        keeps=("tags", "metadata"),
    )
    caption = Record("a-1", "text", text="words", photo_id="a", content_hash="h").from_files(
        ("/a/captions.txt", "/b/of, others.csv")
    )
    for record in (whole, caption, replace(whole, keeps=("tags",), local=LocalFile("/", "a.jpg"))):
        doc = Document(record.id, record.modality, text=record.text, record=record)
        assert sent(doc, indexing=True).record == record
    assert caption.origins == ("/a/captions.txt", "/b/of, others.csv")


def test_scores_of_shards_arrive_to_the_last_bit() -> None:
    cosines, hubness = np.array([1 / 3, -1e-17]), np.array([0.1, 0.25], np.float32)
    arrived = sent(Document("q", shard_scores=[ShardScores(1, ["a", "b"], cosines, hubness)]))
    assert arrived.shard_scores is not None
    (part,) = arrived.shard_scores
    assert (part.shard, part.ids, part.cosines.tolist()) == (1, ["a", "b"], cosines.tolist())
    assert part.hubness.tolist() == hubness.tolist()


def test_only_what_is_set_is_sent() -> None:
    message = write_message(Document("a", "text", text="", wanted=[])).to_protobuf()
    assert set(message.data) == {"id", "modality", "text", "wanted"}


@pytest.mark.parametrize("field", ["modality", "seeks"])
def test_a_modality_that_there_is_not_is_an_error_with_words(field: str) -> None:
    (doc,), _ = read_messages([MediaDocument(id="a", **{field: "video"})], {}, indexing=False)
    assert doc.error == "The document a has the modality 'video'; it must be 'image' or 'text'."
    (doc,), _ = read_messages([MediaDocument(id="a")], {}, indexing=True)
    assert doc.record is None
    assert "has the modality None" in str(doc.error)


@pytest.mark.parametrize(
    ("brought", "said"),
    [
        ({"id": "x" * 512}, "id of the document ID has 512 bytes; the limit is 511"),
        (
            {"text": "x" * 2001},
            "text of the document ID has 2,001 characters; the limit is 2,000",
        ),
        ({"uri": "/" * 20_000}, "uri of the document ID has 20,000 characters; the limit is 12,288"),
        (
            {"mime_type": "text/html"},
            "mime_type of the document ID is 'text/html'; photos and captions are of image/",
        ),
        ({"mime_type": "image/svg+xml"}, "mime_type of the document ID is 'image/svg+xml'"),
        ({"photo_id": ""}, "photo_id of the document ID is ''; it has to be a text that is not empty"),
        (
            {"tags": {"a": "x" * (1 << 17)}},
            "tags of the document ID has 131,080 bytes as JSON; the limit is 131,072",
        ),
        (
            {"tags": {"a": float("nan")}},
            "tags of the document ID cannot be stored: the object holds nan, which is not JSON",
        ),
        ({"blob": "letters"}, "blob of the document ID is 'letters', not bytes"),
        ({"original": "letters"}, "original of the document ID is 'letters', not bytes"),
        (
            {"pixels": np.zeros((2, 2, 3))},
            "pixels of the document ID is float64 of the shape (2, 2, 3); it has to be uint8",
        ),
        (
            {"frame": np.zeros(3)},
            "frame of the document ID is float64 of the shape (3,); it has to be four finite floats",
        ),
        ({"embedding": np.zeros((2, 2))}, "embedding of the document ID is float64 of the shape (2, 2)"),
        (
            {"embedding": np.array([1, np.inf])},
            "embedding of the document ID has what is not a finite number",
        ),
        (
            {"outcome": "stolen"},
            "outcome of the document ID is 'stolen'; it has to be 'added' or 'replaced' or",
        ),
        ({"wanted": ["a"]}, "is to be indexed and brings wanted"),
        ({"matches": DocList[MatchDocument]([MatchDocument(modality="text")])}, "brings matches"),
    ],
)
def test_a_value_that_no_document_has_is_an_error_and_nothing_is_taken(
    brought: dict[str, Any], said: str
) -> None:
    messages = [MediaDocument(**{"id": "a", "modality": "text", "text": "words", **brought})]
    messages.append(MediaDocument(id="b", modality="text", text="words"))
    (refused, fine), _ = read_messages(messages, {}, indexing=True)
    assert said.replace("ID", shown(refused.id)) in str(refused.error)
    assert refused == Document(refused.id, error=refused.error)
    assert (fine.error, fine.text) == (None, "words")


def test_what_shards_found_is_merged_once(  # a step may put matches into an order of its own afterwards
) -> None:
    shards = [
        write_message(
            Document("q", matches=[Match(id, "image", cosine)]), visited=[f"s/{shard}"], unmerged=True
        )
        for shard, (id, cosine) in enumerate([("low", 0.1), ("high", 0.9), ("middle", 0.5)])
    ]
    reduced = reduce_all([DocList[MediaDocument]([shard]) for shard in shards])
    (doc,), visited = read_messages(reduced, {"top_k": 2.0}, indexing=False)
    assert [match.id for match in doc.matches or ()] == ["high", "middle"]
    assert visited == {"q": ["s/0", "s/1", "s/2"]}
    assert doc.matches is not None
    doc.matches.reverse()
    assert [match.id for match in sent(doc).matches or ()] == ["middle", "high"]


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(max_size=3),
        "outcome": st.sampled_from(["added", "replaced", "unchanged", "deleted"]),
        "error": st.text(max_size=3),
    },
)
BRANCH = st.dictionaries(st.sampled_from("abc"), FIELDS, max_size=3)


def documents(branch: dict[str, dict[str, Any]]) -> list[Document]:
    return [Document(id, "image", **values) for id, values in branch.items()]


@given(st.lists(BRANCH, min_size=2, max_size=4))
def test_branches_that_jina_reduces_are_joined_as_in_one_process(
    branches: list[dict[str, dict[str, Any]]],
) -> None:
    messages = [DocList[MediaDocument](map(write_message, documents(branch))) for branch in branches]
    read, _ = read_messages(reduce_all(messages), {}, indexing=False)
    assert {doc.id: doc for doc in read} == {doc.id: doc for doc in join(map(documents, branches))}
    assert len(read) == len({doc.id for doc in read})


@given(st.integers(min_value=-(2**53), max_value=2**53))
def test_whole_numbers_in_tags_stay_whole(number: int) -> None:
    message = MediaDocument.from_protobuf(
        write_message(Document("a", "image", record=replace(RECORD, tags={"n": number}))).to_protobuf()
    )
    assert tags_from_wire(message.tags) == {"n": number}
    assert isinstance(tags_from_wire(message.tags)["n"], int)
