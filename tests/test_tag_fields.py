"""Which tags an index has, with their values and how often: of photos and captions, whatever changed."""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from conftest import TOY_DATA
from hypothesis import given
from store_samples import vector_of
from test_filtered_search import Change, Expected, apply, changes_of, finite_tags

from crossmodal.data_sets import open_data_set
from crossmodal.filters import collect_values, field_name, parse_filter
from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.protocols import TagField
from crossmodal.records import MODALITIES, Modality, Record
from crossmodal.workspace import Workspace


def store_with(path: Path, documents: Mapping[str, Mapping[str, Any]]) -> EmbeddedStore:
    store = EmbeddedStore.open_writer(path)
    put(store, documents)
    return store


def put(
    store: EmbeddedStore, documents: Mapping[str, Mapping[str, Any]], modality: Modality = "image"
) -> None:
    records = [Record(id=id, modality=modality, tags=tags).hashed() for id, tags in documents.items()]
    store.put(records, np.stack([vector_of(record.id) for record in records]))


DOCUMENTS: dict[str, dict[str, Any]] = {
    "a": {"place": "harbour", "year": 2019, "indoor": True, "camera": {"make": "Leica"}},
    "b": {"place": "beach", "year": 2021.5, "indoor": False, "people": ["Ada", "Ada", "Grace"]},
    "c": {"place": "harbour", "year": 2019, "indoor": True, "people": ["Grace"], "modality": "print"},
    "d": {"place": ["beach", "harbour", 7], "empty": [], "nothing": None},
}


def test_a_tag_of_nothing_but_days_and_moments_is_a_date(tmp_path: Path) -> None:
    documents = {
        "a": {
            "taken": "2019-07-04T12:30:00+02:00",
            "sold": "2021-02-28",
            "season": "2019-07",
            "due": "2021-03-01",
        },
        "b": {"taken": "2020-01-01", "sold": "2021-02-29", "season": "2020-07", "due": 2021},
    }
    with store_with(tmp_path, documents) as store:
        types = {field.name: field.type for field in store.tag_fields("image")}
    assert types == {"taken": "date", "sold": "string", "season": "string", "due": "mixed"}


def test_names_types_values_and_ranges(tmp_path: Path) -> None:
    with store_with(tmp_path, DOCUMENTS) as store:
        fields = store.tag_fields("image")
        assert store.tag_fields("text") == []
        # Each name is one that a filter understands.
        index = ExactIndex(store.vector_source("image"))
        for field in fields:
            for value, count in field.values:
                wanted = parse_filter({field.name: value})
                assert len(index.search(vector_of("a")[None], 10, wanted)[0]) == count
    assert fields == [
        TagField("camera.make", "string", 1, (("Leica", 1),), None, None),
        TagField("indoor", "boolean", 3, ((True, 2), (False, 1)), None, None),
        TagField("people", "string", 2, (("Grace", 2), ("Ada", 1)), None, None),
        TagField("place", "mixed", 4, (("harbour", 3), ("beach", 2), (7.0, 1)), 7.0, 7.0),
        TagField("tags.modality", "string", 1, (("print", 1),), None, None),
        TagField("year", "number", 3, ((2019.0, 2), (2021.5, 1)), 2019.0, 2021.5),
    ]
    written = json.loads(json.dumps([field.to_json() for field in fields], allow_nan=False))
    assert written[-1] == {
        "name": "year",
        "type": "number",
        "count": 3,
        "values": [{"value": 2019, "count": 2}, {"value": 2021.5, "count": 1}],
        "min": 2019,
        "max": 2021.5,
    }


def test_numbers_that_json_cannot_write_are_no_values(tmp_path: Path) -> None:
    """They come from files with NaN, or with 1e999, and can still be filtered."""
    documents = {
        "a": {"height": math.inf, "width": 3},
        "b": {"height": 2.5, "width": [math.nan, 4]},
        "c": {"height": [-math.inf, 1e308], "width": 10**400},
        "d": {"height": math.nan},
    }
    with store_with(tmp_path, documents) as store:
        index = ExactIndex(store.vector_source("image"))
        for condition, ids in (({"$gt": 1e308}, "a"), ({"$lt": 0}, "c"), ({"$exists": True}, "abcd")):
            (found,) = index.search(vector_of("a")[None], 10, parse_filter({"height": condition}))
            assert sorted(id for id, *_ in found) == list(ids)
        height, width = store.tag_fields("image")
    assert (height.values, height.minimum, height.maximum) == (((2.5, 1), (1e308, 1)), 2.5, 1e308)
    assert (width.values, width.minimum, width.maximum) == (((3.0, 1), (4.0, 1)), 3.0, 4.0)
    json.dumps([height.to_json(), width.to_json()], allow_nan=False)


def test_only_the_most_frequent_values(tmp_path: Path) -> None:
    documents = {
        f"p{number:03d}": {"number": number % 70, "name": f"n{number % 70:02d}"} for number in range(200)
    }
    with store_with(tmp_path, documents) as store:
        name, number = store.tag_fields("image")
        assert [value for value, _ in name.values] == [f"n{number:02d}" for number in range(50)]
        assert {count for _, count in name.values} == {3}
        assert number.values == tuple((float(value), 3) for value in range(50))
        assert (number.minimum, number.maximum, number.count) == (0.0, 69.0, 200)
        assert store.tag_fields("image", 2)[0].values == (("n00", 3), ("n01", 3))
        assert len(store.tag_fields("image", None)[0].values) == 70


def test_fields_follow_the_store(tmp_path: Path) -> None:
    with store_with(tmp_path, DOCUMENTS) as store, EmbeddedStore.open_reader(tmp_path) as reader:
        assert len(reader.tag_fields("image")) == 6
        store.delete(["a", "d"])
        changed = Record(id="b", modality="image", tags={"place": "station"}).hashed()
        store.put([changed], vector_of("b")[None])
        assert [(field.name, field.values) for field in reader.tag_fields("image")] == [
            ("indoor", ((True, 1),)),
            ("people", (("Grace", 1),)),
            ("place", (("harbour", 1), ("station", 1))),
            ("tags.modality", (("print", 1),)),
            ("year", ((2019.0, 1),)),
        ]
        store.delete(["b", "c"])
        assert reader.tag_fields("image") == []


def fields_by_hand(records: Sequence[Record]) -> list[TagField]:
    """What ``tag_fields`` should give without a limit, counted in the plainest way."""
    fields = []
    collected = [collect_values(record.tags) for record in records]
    for name in {name for values in collected for name in values}:
        pairs: Counter[tuple[int, Any]] = Counter()
        documents = 0
        for values in collected:
            if name in values:
                mine = [
                    *((0, value) for value in values[name].booleans),
                    *((1, value) for value in values[name].numbers if not math.isnan(value)),
                    *((2, value) for value in values[name].strings),
                ]
                pairs.update(mine)
                documents += bool(mine)
        if documents:
            kinds = {kind for kind, _ in pairs}
            numbers = [value for kind, value in pairs if kind == 1]
            ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
            fields.append(
                TagField(
                    field_name(name),
                    ("boolean", "number", "string")[min(kinds)] if len(kinds) == 1 else "mixed",
                    documents,
                    tuple((value, count) for (_, value), count in ordered),
                    min(numbers, default=None),
                    max(numbers, default=None),
                )
            )
    return sorted(fields, key=lambda field: field.name)


@given(commits=changes_of(finite_tags))
def test_fields_equal_counts_by_hand_whatever_changed(commits: list[Change]) -> None:
    """Documents without a vector, which no search finds, count as well."""
    expected = Expected()
    with tempfile.TemporaryDirectory() as name, EmbeddedStore.open_writer(Path(name)) as store:
        for change in commits:
            apply(store, change, expected)
            for modality in MODALITIES:
                records = [record for record in expected.records.values() if record.modality == modality]
                whole = fields_by_hand(records)
                assert store.tag_fields(modality, None) == whole
                assert store.tag_fields(modality, 2) == [
                    replace(field, values=field.values[:2]) for field in whole
                ]


def expected_counts(documents: Sequence[Mapping[str, Any]], field: TagField) -> None:
    for value, count in field.values:
        wanted = parse_filter({field.name: value})
        assert count == sum(wanted.matches("image", tags) for tags in documents)


def test_a_workspace_counts_photos_before_captions(tmp_path: Path) -> None:
    photos = {"p1": {"place": "harbour"}, "p2": {"place": "beach"}}
    captions = {
        "p1-0": {"place": "harbour", "language": "en"},
        "p1-1": {"place": "harbour", "language": "de"},
        "p2-0": {"place": "beach", "language": "en"},
    }
    with EmbeddedStore.open_writer(tmp_path) as store, Workspace(tmp_path) as workspace:
        put(store, photos, "image")
        put(store, captions, "text")
        for _ in range(2):
            assert workspace.tag_fields() == [
                TagField("language", "string", 3, (("en", 2), ("de", 1)), None, None),
                TagField("place", "string", 2, (("beach", 1), ("harbour", 1)), None, None),
            ]
        store.delete(["p2-0"])
        assert workspace.tag_fields(1)[0] == TagField("language", "string", 2, (("de", 1),), None, None)
        store.delete(["p1", "p2"])
        assert workspace.tag_fields()[1] == TagField("place", "string", 2, (("harbour", 2),), None, None)


def test_tags_of_the_toy_data(toy_workspace: Path) -> None:
    photos = {
        record.id: record.tags
        for record in open_data_set(str(TOY_DATA), data_root=TOY_DATA.parent)
        if isinstance(record, Record) and record.modality == "image"
    }
    names = {name for tags in photos.values() for name in tags}
    assert names
    with Workspace(toy_workspace) as workspace:
        fields = {field.name: field for field in workspace.tag_fields()}
    for name in names:
        assert fields[name].count == sum(name in tags for tags in photos.values())
        expected_counts(list(photos.values()), fields[name])
