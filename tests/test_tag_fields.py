"""Which tags an index has, with their values and how often: over shards, and as documents change."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TOY_DATA
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import vector_of
from test_filtered_search import tags

from crossmodal.data_sets import open_data_set
from crossmodal.filters import parse_filter
from crossmodal.records import Record
from crossmodal.search import ExactIndex, TagField, merge_fields, shard_of
from crossmodal.stores import Store
from crossmodal.workspace import IMAGE_VECTORS, TEXTS, Workspace


def store_with(path: Path, documents: Mapping[str, Mapping[str, Any]], modality: str = "image") -> Store:
    store = Store.open_writer(path)
    records = [
        Record(id=id, modality="image" if modality == "image" else "text", tags=tags).hashed()
        for id, tags in documents.items()
    ]
    if records:
        store.put(records, np.stack([vector_of(record.id) for record in records]))
    return store


DOCUMENTS: dict[str, dict[str, Any]] = {
    "a": {"place": "harbour", "year": 2019, "indoor": True, "camera": {"make": "Leica"}},
    "b": {"place": "beach", "year": 2021.5, "indoor": False, "people": ["Ada", "Ada", "Grace"]},
    "c": {"place": "harbour", "year": 2019, "indoor": True, "people": ["Grace"], "modality": "print"},
    "d": {"place": ["beach", "harbour", 7], "empty": [], "nothing": None, "broken": math.nan},
}


def test_names_types_values_and_ranges(tmp_path: Path) -> None:
    with store_with(tmp_path, DOCUMENTS) as store:
        fields = ExactIndex(store).tag_fields()
    assert fields == [
        TagField("broken", "mixed", 1, (), None, None),
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
    # Each name is one that a filter understands.
    with store_with(tmp_path / "again", DOCUMENTS) as store:
        index = ExactIndex(store)
        for field in fields:
            for value, count in field.values:
                wanted = parse_filter({field.name: value})
                assert len(index.search(vector_of("a")[None], 10, wanted)[0]) == count


def test_only_the_most_frequent_values(tmp_path: Path) -> None:
    documents = {
        f"p{number:03d}": {"number": number % 70, "name": f"n{number % 70:02d}"} for number in range(200)
    }
    with store_with(tmp_path, documents) as store:
        index = ExactIndex(store)
        name, number = index.tag_fields()
        assert [value for value, _ in name.values] == [f"n{number:02d}" for number in range(50)]
        assert {count for _, count in name.values} == {3}
        assert number.values == tuple((float(value), 3) for value in range(50))
        assert (number.minimum, number.maximum, number.count) == (0.0, 69.0, 200)
        assert index.tag_fields(2)[0].values == (("n00", 3), ("n01", 3))
        assert len(index.tag_fields(None)[0].values) == 70


def test_fields_follow_the_store(tmp_path: Path) -> None:
    with store_with(tmp_path, DOCUMENTS) as store, Store.open_reader(tmp_path) as reader:
        index = ExactIndex(reader)
        assert len(index.tag_fields()) == 7
        store.delete(["a", "d"])
        changed = Record(id="b", modality="image", tags={"place": "station"}).hashed()
        store.put([changed], vector_of("b")[None])
        assert [(field.name, field.values) for field in index.tag_fields()] == [
            ("indoor", ((True, 1),)),
            ("people", (("Grace", 1),)),
            ("place", (("harbour", 1), ("station", 1))),
            ("tags.modality", (("print", 1),)),
            ("year", ((2019.0, 1),)),
        ]
        store.delete(["b", "c"])
        assert index.tag_fields() == []


def expected_counts(documents: Sequence[Mapping[str, Any]], field: TagField) -> None:
    for value, count in field.values:
        wanted = parse_filter({field.name: value})
        assert count == sum(wanted.matches("image", tags) for tags in documents)


@settings(max_examples=40, deadline=None)
@given(documents=st.lists(tags, min_size=1, max_size=25), shards=st.integers(2, 4))
def test_shards_merged_equal_one_index(
    tmp_path_factory: pytest.TempPathFactory, documents: list[dict[str, Any]], shards: int
) -> None:
    folder = tmp_path_factory.mktemp("fields")
    named = {f"d{number}": tags for number, tags in enumerate(documents)}
    with store_with(folder / "one", named) as store:
        whole = ExactIndex(store).tag_fields(None)
    parts = []
    for shard in range(shards):
        mine = {id: tags for id, tags in named.items() if shard_of(id, shards) == shard}
        with store_with(folder / f"{shard}", mine) as store:
            parts.append(ExactIndex(store).tag_fields(None))
    assert merge_fields(parts, None) == whole
    assert merge_fields(parts, 2) == merge_fields([whole], 2)
    for field in whole:
        expected_counts(documents, field)


def test_a_workspace_counts_photos_before_captions(tmp_path: Path) -> None:
    photos = {"p1": {"place": "harbour"}, "p2": {"place": "beach"}}
    captions = {
        "p1-0": {"place": "harbour", "language": "en"},
        "p1-1": {"place": "harbour", "language": "de"},
        "p2-0": {"place": "beach", "language": "en"},
    }
    with Workspace(tmp_path) as workspace:
        for name, documents, modality in ((IMAGE_VECTORS, photos, "image"), (TEXTS, captions, "text")):
            for shard in range(2):
                mine = {id: tags for id, tags in documents.items() if shard_of(id, 2) == shard}
                store_with(workspace.store_path(name, shard, 2), mine, modality).close()
        for _ in range(2):
            assert workspace.tag_fields() == [
                TagField("language", "string", 3, (("en", 2), ("de", 1)), None, None),
                TagField("place", "string", 2, (("beach", 1), ("harbour", 1)), None, None),
            ]
        with Store.open_writer(workspace.store_path(TEXTS, shard_of("p2-0", 2), 2)) as store:
            store.delete(["p2-0"])
        assert workspace.tag_fields(1)[0] == TagField("language", "string", 2, (("de", 1),), None, None)


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
