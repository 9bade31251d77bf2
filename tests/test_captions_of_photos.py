"""From a photo to the captions that describe it, whatever was stored, changed or deleted since."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import caption, photo, vector_of, vectors_of

from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import Record
from crossmodal.workspace import Workspace


def ids_of(store: EmbeddedStore, *photo_ids: str) -> list[list[str]]:
    return [[record.id for record in records] for records in store.captions_of(photo_ids)]


def describing(id: str, photo_id: str | None) -> Record:
    return Record(id=id, modality="text", text=f"text of {id}", photo_id=photo_id).hashed()


def test_captions_come_with_their_texts_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    records = [caption(f"42-{number}", f"caption {number}") for number in (10, 2, 0, 1, 11)]
    with EmbeddedStore.open_writer(tmp_path) as store:
        store.put([*records, caption("7-0", "another photo"), photo("42")])
        found, nothing, other = store.captions_of(["42", "8", "7"])
        assert [record.id for record in found] == ["42-10", "42-2", "42-0", "42-1", "42-11"]
        assert [record.text for record in found] == [f"caption {number}" for number in (10, 2, 0, 1, 11)]
        assert nothing == []
        assert [record.text for record in other] == ["another photo"]
        assert store.verify() == []


def test_captions_follow_every_change(tmp_path: Path) -> None:
    with EmbeddedStore.open_writer(tmp_path) as store, EmbeddedStore.open_reader(tmp_path) as reader:
        store.put([describing("a", "p"), describing("b", "p"), describing("c", "q"), describing("d", None)])
        assert ids_of(reader, "p", "q") == [["a", "b"], ["c"]]
        store.put([describing("a", "q"), describing("b", None), describing("d", "p")])
        assert ids_of(reader, "p", "q") == [["d"], ["c", "a"]]
        # A photo of that id is another document.
        store.put([photo("c")])
        assert ids_of(reader, "q") == [["c", "a"]]
        assert store.delete(["a", "d", "c", "nothing"]) == [
            ("text", "a"),
            ("text", "d"),
            ("image", "c"),
            ("text", "c"),
        ]
        assert ids_of(reader, "p", "q") == [[], []]
        assert store.verify() == []


def test_ids_of_any_length_and_content(tmp_path: Path) -> None:
    longest, awkward = "x" * 511, "a\x00b"
    names = [longest, awkward, "\x00", "ü" * 255, "\ud800", " "]
    with EmbeddedStore.open_writer(tmp_path) as store:
        store.put([describing(id, photo_id) for id in names for photo_id in [id]])
        assert ids_of(store, *names) == [[id] for id in names]
        assert ids_of(store, "a", "", "x" * 512, "x" * 510) == [[], [], [], []]
        # No photo can have such a name, but a caption may say so.
        store.put([describing("e", ""), describing("f", "x" * 512)])
        assert ids_of(store, "", "x" * 512) == [["e"], ["f"]]
        assert store.verify() == []


def test_many_captions_of_one_photo(tmp_path: Path) -> None:
    names = [f"p-{number}" for number in range(3000)]
    with EmbeddedStore.open_writer(tmp_path) as store:
        store.put([describing(name, "p") for name in names])
        assert ids_of(store, "p") == [names]
        assert store.verify() == []
        store.delete(names[1:])
        assert ids_of(store, "p") == [["p-0"]]
        assert store.verify() == []


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["p", "q", None]), min_size=1),
        ),
        max_size=8,
    )
)
def test_captions_equal_a_scan_of_the_documents(commits: list[tuple[bool, dict[str, str | None]]]) -> None:
    # In the order in which they came: what changes comes again.
    expected: dict[str, str | None] = {}
    with tempfile.TemporaryDirectory() as name, EmbeddedStore.open_writer(Path(name)) as store:
        for deletes, pairs in commits:
            if deletes:
                store.delete(pairs)
                expected = {id: photo_id for id, photo_id in expected.items() if id not in pairs}
            else:
                store.put([describing(*pair) for pair in pairs.items()])
                for id, photo_id in pairs.items():
                    if id not in expected or expected[id] != photo_id:
                        expected.pop(id, None)
                        expected[id] = photo_id
        assert ids_of(store, "p", "q") == [
            [id for id, photo_id in expected.items() if photo_id == wanted] for wanted in "pq"
        ]
        assert store.verify() == []


def test_vectors_by_id(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(700)]
    with EmbeddedStore.open_writer(tmp_path) as store:
        for start in range(0, 700, 90):
            records = [photo(name, size=10) for name in names[start : start + 90]]
            store.put(records, vectors_of(records))
        changed = [photo(name, version=1, size=10) for name in names[100:400]]
        store.put(changed, vectors_of(changed))
        store.put([caption("bare", "without a vector")])
        store.delete(names[50:60])
        found = store.vectors(["p699", "p55", "bare", "nothing", "", "p0", "p300", "p0"], "image")
        assert list(found) == ["p699", "p0", "p300"]
        for id, version in (("p699", 0), ("p0", 0), ("p300", 1)):
            assert found[id].dtype == np.float32
            assert np.array_equal(found[id], vector_of(id, version))
        assert len(store.vectors(names, "image")) == 690
        assert store.vectors([*names, "bare"], "text") == store.vectors([], "image") == {}


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """Twelve photos with three captions each."""
    photos = [photo(f"p{number}", size=20) for number in range(12)]
    captions = [
        caption(f"p{number}-{place}", f"{number}, {place}") for number in range(12) for place in (0, 2, 10)
    ]
    with EmbeddedStore.open_writer(tmp_path) as store, Workspace(tmp_path) as workspace:
        for records in (photos, captions):
            store.put(records, np.stack([vector_of(record.id) for record in records]))
        yield workspace


def test_workspace_knows_captions_of_photos(workspace: Workspace) -> None:
    found = workspace.captions_of(["p3", "p11", "nothing", "p3"])
    assert {photo_id: [record.id for record in records] for photo_id, records in found.items()} == {
        "p3": ["p3-0", "p3-2", "p3-10"],
        "p11": ["p11-0", "p11-2", "p11-10"],
        "nothing": [],
    }
    assert found["p3"][1].text == "3, 2"
    assert workspace.captions_of([]) == {}


def test_workspace_finds_records_and_vectors(workspace: Workspace) -> None:
    found = workspace.find("p3"), workspace.find("p3-2"), workspace.find("nothing")
    assert [None if record is None else (record.id, record.modality) for record in found] == [
        ("p3", "image"),
        ("p3-2", "text"),
        None,
    ]
    assert list(workspace.records(["p4", "p4-0", "p1"], "image")) == ["p4", "p1"]
    assert list(workspace.records(["p4", "p4-0", "p1"], "text")) == ["p4-0"]
    vectors = workspace.vectors(["p9", "p2", "p2-0"], "image")
    assert list(vectors) == ["p9", "p2"]
    assert np.array_equal(vectors["p2"], vector_of("p2"))
    assert np.array_equal(workspace.vectors(["p2-10"], "text")["p2-10"], vector_of("p2-10"))


def test_workspace_lists_records_page_by_page(workspace: Workspace) -> None:
    everything = [record.id for record in workspace.list_records("image", 100)]
    assert everything == sorted(f"p{number}" for number in range(12))
    pages = []
    after = None
    while page := workspace.list_records("image", 5, after):
        pages.append([record.id for record in page])
        after = page[-1].id
    assert pages == [everything[:5], everything[5:10], everything[10:]]
    # A name that is not there, or could not be, still has its place in the order.
    assert [record.id for record in workspace.list_records("image", 2, "p1" + "0" * 600)] == ["p11", "p2"]
    assert workspace.list_records("image", 3, "")[0].id == "p0"
    assert len(workspace.list_records("text", 100)) == 36
    assert workspace.list_records("image", 5, "q") == []


def test_a_workspace_without_an_index_holds_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "none")
    assert workspace.find("p") is None
    assert workspace.records(["p"], "image") == {}
    assert workspace.vectors(["p"], "text") == {}
    assert workspace.captions_of(["p"]) == {"p": []}
    assert workspace.list_records("image", 10) == []
    assert workspace.tag_fields() == []
