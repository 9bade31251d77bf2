"""Filters come before the cut: the best of what matches, with the scores and the order of a plain search."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from store_samples import vector_of

from crossmodal.errors import StoreFormat
from crossmodal.filters import Filter, parse_filter
from crossmodal.records import Modality, Record
from crossmodal.search import ExactIndex, merge_matches, shard_of
from crossmodal.search.tag_index import TagIndex
from crossmodal.stores import Store

NAMES = ["place", "year", "modality", "camera", "camera.make", "a"]
FIELDS = [*NAMES[:2], "tags.modality", "modality", "camera", "camera.make", "camera.lens.mm", "a", "missing"]
STRINGS = ["", "harbour", "Zürich", "image", "1", "z\U0001f600", "\uffff"]
NUMBERS = [0, -0.0, 1, 1.0, 2019, 2019.5, -3, 2**53 + 1, 1e308]

scalars = st.sampled_from([*STRINGS, *NUMBERS, True, False, None])
tag_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["make", "lens", "mm"]), inner, max_size=2)
    ),
    max_leaves=5,
)
tags = st.dictionaries(st.sampled_from(NAMES), tag_values, max_size=4)

values = st.sampled_from([*STRINGS, *NUMBERS, True, False])
bounds = st.sampled_from([*STRINGS, *NUMBERS])


def conditions(field: str) -> st.SearchStrategy[Any]:
    known = st.sampled_from(["image", "text"]) if field == "modality" else values
    return st.one_of(
        known,
        st.fixed_dictionaries(
            {},
            optional={
                "$eq": known,
                "$ne": known,
                "$in": st.lists(known, max_size=4),
                "$nin": st.lists(known, max_size=4),
                "$lt": bounds,
                "$lte": bounds,
                "$gt": bounds,
                "$gte": bounds,
                "$exists": st.booleans(),
            },
        ).filter(bool),
    )


fields = st.sampled_from(FIELDS).flatmap(lambda field: conditions(field).map(lambda value: {field: value}))
filters = st.recursive(
    fields | st.just({}),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$and": parts})
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$or": parts})
        | inner.map(lambda part: {"$not": part})
        | st.tuples(inner, inner).map(lambda pair: {**pair[0], **pair[1]})
    ),
    max_leaves=6,
)


@dataclass(frozen=True)
class Change:
    """One commit: documents that are stored, or deleted."""

    deletes: bool
    documents: Mapping[int, tuple[Modality, Mapping[str, Any]]]


changes = st.builds(
    Change,
    deletes=st.integers(0, 3).map(lambda number: number == 0),
    documents=st.dictionaries(
        st.integers(0, 25), st.tuples(st.sampled_from(["image", "text"]), tags), min_size=1, max_size=14
    ),
)


def record_of(number: int, modality: Modality, tags: Mapping[str, Any]) -> Record:
    return Record(id=f"d{number:02d}", modality=modality, tags=tags).hashed()


def vector(id: str) -> NDArray[np.float32]:
    """Few directions, so that many scores are equal."""
    return vector_of(f"direction {int(id[-1]) % 4}")


def apply(store: Store, change: Change, expected: dict[str, Record]) -> None:
    records = [record_of(number, *rest) for number, rest in change.documents.items()]
    if change.deletes:
        store.delete([record.id for record in records])
        for record in records:
            expected.pop(record.id, None)
    else:
        store.put(records, np.stack([vector(record.id) for record in records]))
        expected.update({record.id: record for record in records})


def brute_force(
    expected: Mapping[str, Record], query: NDArray[np.float32], top_k: int, wanted: Filter
) -> list[tuple[str, float]]:
    """What a search without any index finds, by the filter's own definition."""
    matching = [
        (id, float(np.add.reduce(vector(id).astype(np.float64) * query.astype(np.float64))))
        for id, record in expected.items()
        if wanted.matches(record.modality, record.tags)
    ]
    return merge_matches([matching], top_k)


@pytest.fixture(params=[1024, 0], ids=["scored directly", "through faiss"])
def few_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Both ways of scoring a selection, whatever its size."""
    monkeypatch.setattr("crossmodal.search.exact_search._FEW_ROWS", request.param)
    return int(request.param)


@settings(max_examples=60, deadline=None)
@given(
    commits=st.lists(changes, min_size=1, max_size=6),
    objects=st.lists(filters, min_size=1, max_size=4),
    top_k=st.integers(1, 12),
)
def test_masks_and_searches_equal_the_definition_whatever_changed(
    commits: list[Change], objects: list[dict[str, Any]], top_k: int
) -> None:
    parsed = [parse_filter(one) for one in objects]
    queries = np.stack([vector_of("direction 1"), vector_of("other")])
    expected: dict[str, Record] = {}
    with tempfile.TemporaryDirectory() as name, Store.open_writer(Path(name)) as store:
        with pytest.MonkeyPatch.context() as patch:
            # Compaction after every second commit or so instead of after a thousand deaths.
            patch.setattr("crossmodal.search.tag_index._FEW_SLOTS", 4)
            following, tag_index = ExactIndex(store), TagIndex()
            for change in commits:
                apply(store, change, expected)
                with store.vector_snapshot() as snapshot:
                    tag_index.follow(snapshot)
                    rows = {row: record.id for row, record in snapshot.documents()}
                numbers = np.array(sorted(rows), np.uint64)
                assert len(tag_index) == len(expected) == len(rows)
                for wanted in parsed:
                    mask = tag_index.mask(wanted, numbers).tolist()
                    records = [expected[rows[number]] for number in numbers.tolist()]
                    assert mask == [wanted.matches(record.modality, record.tags) for record in records]
                    for rows_scored_directly in (1024, 0):
                        patch.setattr("crossmodal.search.exact_search._FEW_ROWS", rows_scored_directly)
                        found = following.search(queries, top_k, filter=wanted)
                        assert found == [brute_force(expected, query, top_k, wanted) for query in queries]
        late = ExactIndex(store)
        for wanted in parsed:
            assert late.search(queries, top_k, wanted) == following.search(queries, top_k, wanted)
        assert late.tag_fields() == following.tag_fields()


@settings(max_examples=40, deadline=None)
@given(
    documents=st.dictionaries(
        st.integers(0, 60), st.tuples(st.sampled_from(["image", "text"]), tags), min_size=1, max_size=40
    ),
    wanted=filters.map(parse_filter),
    shards=st.integers(2, 4),
    top_k=st.integers(1, 30),
)
def test_shards_together_find_what_one_index_finds(
    documents: dict[int, tuple[Modality, dict[str, Any]]], wanted: Filter, shards: int, top_k: int
) -> None:
    records = [record_of(number, *rest) for number, rest in documents.items()]
    query = vector_of("other")[None]
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for count in (1, shards):
            parts = []
            for shard in range(count):
                mine = [record for record in records if shard_of(record.id, count) == shard]
                with Store.open_writer(Path(name) / f"{shard}-of-{count}") as store:
                    if mine:
                        store.put(mine, np.stack([vector(record.id) for record in mine]))
                    parts.append(ExactIndex(store).search(query, top_k, wanted)[0])
            found[count] = merge_matches(parts, top_k)
    assert found[1] == found[shards]


def filled(path: Path, count: int, dimension: int = 16) -> tuple[Store, NDArray[np.float32]]:
    """Photos p00000 and on with the tags ``year`` (2000 to 2019) and ``rare`` (every 500th)."""
    vectors = np.random.default_rng(3).normal(size=(count, dimension)).astype(np.float32)
    store = Store.open_writer(path)
    store.put(
        [
            Record(
                id=f"p{number:05d}",
                modality="image",
                tags={"year": 2000 + number % 20} | ({"rare": True} if number % 500 == 0 else {}),
            ).hashed()
            for number in range(count)
        ],
        vectors,
    )
    return store, vectors


@pytest.mark.parametrize(
    ("wanted", "count"),
    [({"rare": True}, 12), ({"year": 2007}, 300), ({"year": {"$gte": 2004}}, 4800), ({}, 6000)],
)
def test_top_k_come_whenever_that_many_match(
    tmp_path: Path, wanted: dict[str, Any], count: int, few_rows: int
) -> None:
    """The scores and the order are those of the unfiltered search, to the last bit."""
    store, vectors = filled(tmp_path, 6000)
    parsed = parse_filter(wanted)
    with store:
        index = ExactIndex(store)
        everything = index.search(vectors[:3], 6000)
        kept = {record.id for record in store.get(list(store.ids())) if parsed.matches("image", record.tags)}
        assert len(kept) == count
        for top_k in (1, 10, count, count + 50):
            found = index.search(vectors[:3], top_k, parsed)
            for matches, whole in zip(found, everything, strict=True):
                assert matches == [match for match in whole if match[0] in kept][:top_k]


def test_ties_at_the_cut_among_many_that_match(tmp_path: Path, few_rows: int) -> None:
    """2,000 equal vectors of which half match: the first in order of id come, through faiss as well."""
    ids = [f"c{number:04d}" for number in np.random.default_rng(0).permutation(2000)]
    records = [
        Record(id=id, modality="text", text=id, tags={"odd": int(id[1:]) % 2 == 1}).hashed() for id in ids
    ]
    vector = vector_of("a dog", dimension=32)
    with Store.open_writer(tmp_path) as store:
        store.put(records, np.repeat(vector[None], 2000, 0))
        (matches,) = ExactIndex(store).search(vector[None], 15, parse_filter({"odd": True}))
        assert [id for id, _ in matches] == [f"c{number:04d}" for number in range(1, 30, 2)]
        assert len({score for _, score in matches}) == 1


def test_nothing_matches_and_nothing_is_stored(tmp_path: Path) -> None:
    wanted = parse_filter({"year": 1900})
    with Store.open_writer(tmp_path / "empty") as store:
        assert ExactIndex(store).search(np.ones((2, 16), np.float32), 5, wanted) == [[], []]
    store, vectors = filled(tmp_path / "filled", 40)
    with store:
        assert ExactIndex(store).search(vectors[:2], 5, wanted) == [[], []]
        assert ExactIndex(store).search(np.empty((0, 16), np.float32), 5, wanted) == []


def test_a_filter_sees_changed_tags_at_once(tmp_path: Path) -> None:
    """The masks that are remembered belong to one commit."""
    store, vectors = filled(tmp_path, 50)
    with store, Store.open_reader(tmp_path) as reader:
        index = ExactIndex(reader)
        wanted = parse_filter({"year": 2001})
        assert len(index.search(vectors[:1], 50, wanted)[0]) == 3
        changed = Record(id="p00000", modality="image", tags={"year": 2001}).hashed()
        assert store.put([changed], vectors[:1]) == ["replaced"]
        found = index.search(vectors[:1], 50, wanted)[0]
        assert (len(found), found[0][0]) == (4, "p00000")
        store.delete(["p00001", "p00000"])
        assert len(index.search(vectors[:1], 50)[0]) == 48
        assert {id for id, _ in index.search(vectors[:1], 50, wanted)[0]} == {"p00021", "p00041"}


def test_threads_search_while_documents_change(tmp_path: Path) -> None:
    """A document alternates between two versions of tags; no search may mix the rows of two commits."""
    store, vectors = filled(tmp_path, 60)
    parity = {even: parse_filter({"even": even, "year": {"$exists": False}}) for even in (True, False)}
    with store, Store.open_reader(tmp_path) as reader, ThreadPoolExecutor(4) as pool:
        index = ExactIndex(reader)
        done = threading.Event()

        def search(even: bool) -> set[int]:
            counts = set()
            while not done.is_set():
                found = index.search(vectors[:1], 60, parity[even])[0]
                assert {id for id, _ in found} <= {f"p{number:05d}" for number in range(10)}
                counts.add(len(found))
            return counts

        searching = [pool.submit(search, even) for even in (True, False, True, False)]
        for version in range(60):
            changed = [
                Record(id=f"p{number:05d}", modality="image", tags={"even": version % 2 == 0}).hashed()
                for number in range(10)
            ]
            store.put(changed, vectors[:10])
        done.set()
        assert set().union(*(thread.result() for thread in searching)) <= {0, 10}
        assert len(index.search(vectors[:1], 60, parity[False])[0]) == 10


def test_more_filters_than_are_remembered(tmp_path: Path) -> None:
    store, vectors = filled(tmp_path, 200)
    with store:
        index = ExactIndex(store)
        for _ in range(2):
            for year in range(2000, 2020):
                found = index.search(vectors[:1], 200, parse_filter({"year": year}))[0]
                assert sorted(id for id, _ in found) == [
                    f"p{number:05d}" for number in range(200) if number % 20 == year - 2000
                ]
        assert len(index._selections) == 16


def test_a_damaged_document_spoils_filtered_searches_only(tmp_path: Path) -> None:
    store, vectors = filled(tmp_path, 30)
    with store:
        documents = store._environment.databases["documents"]
        with store._environment.write() as transaction:
            key = bytes(transaction.get(b"p00003", db=store._environment.databases["ids"]))
            value = bytes(transaction.get(key, db=documents))
            transaction.put(key, value[:-1] + b"?", db=documents)
        index = ExactIndex(store)
        for _ in range(2):
            with pytest.raises(StoreFormat, match=r"document number 3 does not match its checksum"):
                index.search(vectors[:1], 5, parse_filter({"year": 2001}))
            assert len(index.search(vectors[:1], 30)[0]) == 30
        with store._environment.write() as transaction:
            transaction.delete(key, db=documents)
        with pytest.raises(StoreFormat, match="no document"):
            index.search(vectors[:1], 5, parse_filter({"year": 2001}))
