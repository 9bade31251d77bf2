"""Filters come before the cut: the best of what matches, with the scores and the order of a plain search."""

from __future__ import annotations

import math
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from store_samples import VSE, vector_of

from crossmodal.filters import Filter, parse_filter
from crossmodal.index.embedded.compared import Hit, merge_matches
from crossmodal.index.embedded.exact_index import ExactIndex, matching_rows
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import IMAGE, MODALITIES, Modality, Record

NAMES = ["place", "year", "modality", "camera", "camera.make", "a", "tags.a", "$odd", "\udcff"]
FIELDS = [*NAMES[:2], "tags.modality", "modality", "camera", "camera.make", "camera.lens.mm", "a", "missing"]
FIELDS += ["tags.tags.a", "tags.$odd", "\udcff"]
LONG = "long" * 5000
# Halves of characters are in names of files that are no UTF-8; their order is that of code points.
STRINGS = ["", "harbour", "Zürich", "image", "1", "z\U0001f600", "\uffff", "\ud800", "z\udcff", "a\0b", LONG]
NUMBERS = [0, -0.0, 1, 1.0, 2019, 2019.5, -3, 2.0**53 + 2, 1e308]
NOT_FINITE = [math.inf, -math.inf, 10**400]


def tags_of(scalars: list[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Tags with these values, in lists and objects as well."""
    tag_values = st.recursive(
        st.sampled_from(scalars),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["make", "lens", "mm"]), inner, max_size=2)
        ),
        max_leaves=5,
    )
    return st.dictionaries(st.sampled_from(NAMES), tag_values, max_size=4)


finite_tags = tags_of([*STRINGS, *NUMBERS, True, False, None, math.nan])
tags = finite_tags | tags_of([*STRINGS[:3], *NUMBERS[:3], *NOT_FINITE])

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
                "$eqi": st.sampled_from([*STRINGS, *map(str.upper, STRINGS)]),
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
ids = st.lists(st.sampled_from([*(f"d{number:02d}" for number in range(16)), "\udcff"]), max_size=9)
filters = st.recursive(
    fields | st.just({}) | ids.map(lambda listed: {"$ids": listed}),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$and": parts})
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$or": parts})
        | inner.map(lambda part: {"$not": part})
        | st.tuples(inner, inner).map(lambda pair: {**pair[0], **pair[1]})
    ),
    max_leaves=6,
)


Kind = Literal["put", "without vectors", "delete"]


@dataclass(frozen=True)
class Change:
    """One commit: documents by number and modality that are stored, or deleted by number."""

    kind: Kind
    documents: Mapping[tuple[int, Modality], Mapping[str, Any]]


def changes_of(tags: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[Change]]:
    """A few commits of documents with ``tags``."""
    numbered = st.tuples(st.integers(0, 15), st.sampled_from(MODALITIES))
    kinds: list[Kind] = ["put", "put", "put", "without vectors", "delete"]
    documents = st.dictionaries(numbered, tags, min_size=1, max_size=14)
    return st.lists(st.builds(Change, st.sampled_from(kinds), documents), min_size=1, max_size=6)


@dataclass
class Expected:
    """What an index should hold: records by modality and id, and the keys of those with a vector."""

    records: dict[tuple[Modality, str], Record] = field(default_factory=dict)
    searchable: set[tuple[Modality, str]] = field(default_factory=set)

    def of(self, modality: Modality) -> dict[str, Record]:
        """The documents of one modality that a search can find."""
        return {id: self.records[key] for key in self.searchable for kind, id in [key] if kind == modality}


def record_of(number: int, modality: Modality, tags: Mapping[str, Any]) -> Record:
    return Record(id=f"d{number:02d}", modality=modality, tags=tags).hashed()


def vector(id: str) -> NDArray[np.float32]:
    """Few directions, so that many scores are equal."""
    return vector_of(f"direction {int(id[-1]) % 4}")


def apply(store: EmbeddedStore, change: Change, expected: Expected) -> None:
    records = [record_of(*key, tags) for key, tags in change.documents.items()]
    if change.kind == "delete":
        keys = {(modality, record.id) for record in records for modality in MODALITIES}
        assert set(store.delete([record.id for record in records])) == keys & expected.records.keys()
        for key in keys:
            expected.records.pop(key, None)
        expected.searchable -= keys
        return
    with_vectors = change.kind == "put"
    store.put(records, np.stack([vector(record.id) for record in records]) if with_vectors else None)
    for record in records:
        key = record.modality, record.id
        known = expected.records.get(key)
        if with_vectors:
            expected.searchable.add(key)
        elif known is None or (record.modality == IMAGE and known.content_hash != record.content_hash):
            # A caption of the same text keeps its vector, whatever its tags.
            expected.searchable.discard(key)
        expected.records[key] = record


def brute_force(
    expected: Mapping[str, Record], query: NDArray[np.float32], top_k: int, wanted: Filter
) -> list[Hit]:
    """What a search without any index finds, by the filter's own definition."""
    matching = [
        Hit(
            id,
            cosine := float(np.add.reduce(vector(id).astype(np.float64) * query.astype(np.float64))),
            cosine,
        )
        for id, record in expected.items()
        if wanted.matches(record.modality, record.tags, {id})
    ]
    return merge_matches([matching], top_k)


@pytest.fixture(params=[1024, 0], ids=["scored directly", "through faiss"])
def few_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Both ways of scoring a selection, whatever its size."""
    monkeypatch.setattr("crossmodal.index.embedded.exact_search._FEW_ROWS", request.param)
    return int(request.param)


@given(
    commits=changes_of(tags),
    objects=st.lists(filters, min_size=1, max_size=4),
    top_k=st.integers(1, 12),
)
def test_masks_and_searches_equal_the_definition_whatever_changed(
    commits: list[Change], objects: list[dict[str, Any]], top_k: int
) -> None:
    parsed = [parse_filter(one) for one in objects]
    queries = np.stack([vector_of("direction 1"), vector_of("other")])
    expected = Expected()
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedStore.open_writer(Path(name)) as store,
        pytest.MonkeyPatch.context() as patch,
    ):
        # Begins again at a few dead rows instead of a thousand.
        patch.setattr("crossmodal.index.embedded.row_follower._FEW_DEAD", 4)
        sources = {modality: store.vector_source(modality) for modality in MODALITIES}
        following = {modality: ExactIndex(source) for modality, source in sources.items()}
        for change in commits:
            apply(store, change, expected)
            for modality, source in sources.items():
                index, records = following[modality], expected.of(modality)
                view = index.view()
                ids = view.ids(np.arange(view.positions))
                assert sorted(view.ids(view.living)) == sorted(records)
                for wanted in parsed:
                    with source.snapshot() as snapshot:
                        mask = matching_rows(wanted, view, snapshot)
                    assert {ids[place] for place in np.flatnonzero(mask)} == {
                        id for id, record in records.items() if wanted.matches(modality, record.tags, {id})
                    }
                    assert set(np.flatnonzero(mask)) <= set(view.living), "a dead row"
                    for rows_scored_directly in (1024, 0):
                        patch.setattr(
                            "crossmodal.index.embedded.exact_search._FEW_ROWS", rows_scored_directly
                        )
                        found = index.search(queries, top_k, filter=wanted)
                        assert found == [brute_force(records, query, top_k, wanted) for query in queries]
        for modality, source in sources.items():
            late = ExactIndex(source)
            for wanted in parsed:
                assert late.search(queries, top_k, wanted) == following[modality].search(
                    queries, top_k, wanted
                )
        assert store.verify() == []


@given(commits=changes_of(tags), wanted=filters.map(parse_filter), top_k=st.integers(1, 30))
def test_shards_together_find_what_one_index_finds(commits: list[Change], wanted: Filter, top_k: int) -> None:
    query = vector_of("other")[None]
    with tempfile.TemporaryDirectory() as name, EmbeddedStore.open_writer(Path(name)) as store:
        sharded = {
            (modality, shards): [
                ExactIndex(store.vector_source(modality, shard, shards)) for shard in range(shards)
            ]
            for modality in MODALITIES
            for shards in (1, 2, 4)
        }
        expected = Expected()
        for change in commits:
            apply(store, change, expected)
            for (modality, _), indexes in sharded.items():
                parts = [index.search(query, top_k, wanted)[0] for index in indexes]
                assert merge_matches(parts, top_k) == brute_force(
                    expected.of(modality), query[0], top_k, wanted
                )


def test_dates_and_other_objects_are_filtered_by_the_text_that_is_stored(tmp_path: Path) -> None:
    """Tags from Python may hold what JSON doesn't know."""
    taken = {"old": datetime(1999, 5, 1, tzinfo=UTC), "new": datetime(2024, 5, 1, tzinfo=UTC)}
    with EmbeddedStore.open_writer(tmp_path) as store:
        records = [
            Record(id=id, modality="image", tags={"taken": date, "raw": b"xy"}).hashed()
            for id, date in taken.items()
        ]
        store.put(records, np.stack([vector_of(id) for id in taken]))
        index = ExactIndex(store.vector_source("image"))
        (stored,) = store.get(["new"], "image")
        assert stored is not None
        assert stored.tags == {"taken": "2024-05-01 00:00:00+00:00", "raw": "b'xy'"}
        for wanted in ({"taken": {"$gte": "2020"}}, {"taken": stored.tags["taken"]}):
            assert parse_filter(wanted).matches("image", stored.tags)
            (found,) = index.search(vector_of("new")[None], 5, parse_filter(wanted))
            assert [id for id, *_ in found] == ["new"]
        assert store.verify() == []
        store.delete(["old"])
        assert store.verify() == []


def test_ids_let_through_what_has_them_and_its_parts(tmp_path: Path, few_rows: int) -> None:
    def caption(id: str, photo_id: str | None) -> Record:
        return Record(id=id, modality="text", text=id, photo_id=photo_id).hashed()

    photos = [Record(id=f"p{number:04d}", modality="image").hashed() for number in range(1500)]
    captions = [caption(f"c{number}", f"p{number // 2:04d}") for number in range(3000)]
    captions += [caption("p0009", None), caption("alone", None)]
    with EmbeddedStore.open_writer(tmp_path) as store:
        store.put([*photos, *captions], np.repeat(vector_of("any")[None], 4502, 0))
        for names, modality, found in (
            (["p0002", "p0009", "gone"], "image", {"p0002", "p0009"}),
            (["p0002", "p0009", "gone"], "text", {"c4", "c5", "c18", "c19", "p0009"}),
            (["c4", "alone", "\udcff"], "text", {"c4", "alone"}),
            (["c4"], "image", set()),
            ([], "image", set()),
            ([each.id for each in photos[:1000]], "text", {*(f"c{n}" for n in range(2000)), "p0009"}),
        ):
            index = ExactIndex(store.vector_source(modality))
            wanted = parse_filter({"$ids": names})
            (hits,) = index.search(vector_of("direction 1")[None], 5000, wanted)
            assert {hit.id for hit in hits} == found
            assert {record.id for record in store.listed(modality, 5000, filter=wanted)} == found
            without = parse_filter({"$not": {"$ids": names}})
            (others,) = index.search(vector_of("direction 1")[None], 5000, without)
            assert {hit.id for hit in others} == set(store.ids(modality)) - found


def test_as_many_values_as_a_filter_may_have(tmp_path: Path) -> None:
    """More than one statement asks for; the last bound of a string differs behind 100,000 equal letters."""
    longest = "x" * 100_000
    values = [*(f"v{number}\udcff" for number in range(0, 900, 2)), *range(0, 1098, 2), longest + "b"]
    documents: dict[str, Any] = {f"n{number}": number for number in range(700)}
    documents |= {f"s{number}": [f"v{number}\udcff", None] for number in range(700)}
    documents |= {"long a": longest + "a", "long b": longest + "b", "long c": longest + "c"}
    assert len(values) == 1000
    with EmbeddedStore.open_writer(tmp_path) as store:
        records = [
            Record(id=id, modality="text", tags={"value": value}).hashed() for id, value in documents.items()
        ]
        store.put(records, np.repeat(vector_of("any")[None], len(records), 0))
        index = ExactIndex(store.vector_source("text"))
        for condition, count in (
            ({"$in": values}, 701),
            ({"$nin": values}, 702),
            ({"$gt": longest + "a"}, 2),
            ({"$gte": longest + "a", "$lt": longest + "c"}, 2),
        ):
            wanted = parse_filter({"value": condition})
            (found,) = index.search(vector_of("any")[None], 2000, wanted)
            assert {id for id, *_ in found} == {
                record.id for record in records if wanted.matches("text", record.tags)
            }
            assert len(found) == count


def filled(path: Path, count: int, dimension: int = 16) -> tuple[EmbeddedStore, NDArray[np.float32]]:
    """Photos p00000 and on with the tags ``year`` (2000 to 2019) and ``rare`` (every 500th)."""
    vectors = np.random.default_rng(3).normal(size=(count, dimension)).astype(np.float32)
    store = EmbeddedStore.open_writer(path)
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


def test_top_k_come_whenever_that_many_match(tmp_path: Path, few_rows: int) -> None:
    """The scores and the order are those of the unfiltered search, to the last bit."""
    store, vectors = filled(tmp_path, 6000)
    wishes: list[tuple[dict[str, Any], int]] = [({"rare": True}, 12), ({"year": 2007}, 300)]
    wishes += [({"year": {"$gte": 2004}}, 4800), ({}, 6000)]
    with store:
        index = ExactIndex(store.vector_source("image"))
        everything = index.search(vectors[:3], 6000)
        records = store.get(list(store.ids("image")), "image")
        for wanted, count in wishes:
            parsed = parse_filter(wanted)
            kept = {record.id for record in records if record and parsed.matches("image", record.tags)}
            assert len(kept) == count
            for top_k in (1, 10, count, count + 50):
                found = index.search(vectors[:3], top_k, parsed)
                for matches, whole in zip(found, everything, strict=True):
                    expected = [match for match in whole if match[0] in kept][:top_k]
                    assert matches == expected, (wanted, top_k)


def test_ties_at_the_cut_among_many_that_match(tmp_path: Path, few_rows: int) -> None:
    """2,000 equal vectors of which half match: the first in order of id come, through faiss as well."""
    ids = [f"c{number:04d}" for number in np.random.default_rng(0).permutation(2000)]
    records = [
        Record(id=id, modality="text", text=id, tags={"odd": int(id[1:]) % 2 == 1}).hashed() for id in ids
    ]
    vector = vector_of("a dog", dimension=32)
    with EmbeddedStore.open_writer(tmp_path) as store:
        store.put(records, np.repeat(vector[None], 2000, 0))
        (matches,) = ExactIndex(store.vector_source("text")).search(
            vector[None], 15, parse_filter({"odd": True})
        )
        assert [id for id, *_ in matches] == [f"c{number:04d}" for number in range(1, 30, 2)]
        assert len({score for _, score, _ in matches}) == 1


def test_nothing_matches_and_nothing_is_stored(tmp_path: Path) -> None:
    wanted = parse_filter({"year": 1900})
    with EmbeddedStore.open_writer(tmp_path / "empty") as store:
        assert ExactIndex(store.vector_source("image")).search(np.ones((2, 16), np.float32), 5, wanted) == [
            [],
            [],
        ]
    store, vectors = filled(tmp_path / "filled", 40)
    with store:
        index = ExactIndex(store.vector_source("image"))
        assert index.search(vectors[:2], 5, wanted) == [[], []]
        assert index.search(np.empty((0, 16), np.float32), 5, wanted) == []


def test_a_filter_sees_changed_tags_at_once(tmp_path: Path) -> None:
    """The masks that are remembered belong to one commit."""
    store, vectors = filled(tmp_path, 50)
    with store, EmbeddedStore.open_reader(tmp_path) as reader:
        index = ExactIndex(reader.vector_source("image"))
        wanted = parse_filter({"year": 2001})
        assert len(index.search(vectors[:1], 50, wanted)[0]) == 3
        changed = Record(id="p00000", modality="image", tags={"year": 2001}).hashed()
        assert store.put([changed], vectors[:1]) == ["replaced"]
        found = index.search(vectors[:1], 50, wanted)[0]
        assert (len(found), found[0][0]) == (4, "p00000")
        store.delete(["p00001", "p00000"])
        assert len(index.search(vectors[:1], 50)[0]) == 48
        assert {id for id, *_ in index.search(vectors[:1], 50, wanted)[0]} == {"p00021", "p00041"}


def test_threads_search_while_documents_change(tmp_path: Path) -> None:
    """A document alternates between two versions of tags; no search may mix the rows of two commits."""
    store, vectors = filled(tmp_path, 60)
    parity = {even: parse_filter({"even": even, "year": {"$exists": False}}) for even in (True, False)}
    with store, EmbeddedStore.open_reader(tmp_path) as reader, ThreadPoolExecutor(4) as pool:
        index = ExactIndex(reader.vector_source("image"))
        done = threading.Event()

        def search(even: bool) -> set[int]:
            counts = set()
            while not done.is_set():
                found = index.search(vectors[:1], 60, parity[even])[0]
                assert {id for id, *_ in found} <= {f"p{number:05d}" for number in range(10)}
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
        index = ExactIndex(store.vector_source("image"))
        for _ in range(2):
            for year in range(2000, 2020):
                found = index.search(vectors[:1], 200, parse_filter({"year": year}))[0]
                assert sorted(id for id, *_ in found) == [
                    f"p{number:05d}" for number in range(200) if number % 20 == year - 2000
                ]
        assert len(index._selections) == 16


def test_letters_are_equal_however_they_are_written(tmp_path: Path) -> None:
    """A decomposed letter, as macOS writes names, is the composed one, in tags and in filters."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    with EmbeddedStore.open_writer(tmp_path, identity=VSE) as store:
        records = [
            Record(id=id, modality=IMAGE, content=b"x", tags={name: value, "camera": camera}).hashed()
            for id, name, value, camera in (
                ("a", composed, decomposed, "Canon EOS"),
                ("b", decomposed, composed, "CANON EOS"),
                ("c", "cafe", "cafe", "Nikon"),
            )
        ]
        store.put(records, np.stack([vector_of(record.id) for record in records]))
        index = ExactIndex(store.vector_source(IMAGE))
        for wanted, found in (
            ({composed: decomposed}, "ab"),
            ({decomposed: {"$in": [composed]}}, "ab"),
            ({"camera": "canon eos"}, ""),
            ({"camera": {"$eqi": "canon eos"}}, "ab"),
            ({"$not": {"camera": {"$eqi": "canon eos"}}}, "c"),
        ):
            (matches,) = index.search(vector_of("query")[None], 5, parse_filter(wanted))
            assert "".join(sorted(id for id, *_ in matches)) == found, wanted
        assert [field.name for field in store.tag_fields(IMAGE)] == ["cafe", composed, "camera"]
