"""What a store keeps, and what it says became of each document."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import CLIP, VSE, caption, photo, vector_of, vectors_of

from crossmodal.errors import DataError, ModelMismatch, StoreError
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import IMAGE, TEXT, Modality, Record


def rows_of(store: EmbeddedStore, modality: Modality = IMAGE) -> dict[str, np.ndarray]:
    """Every vector of one modality by its id, as the search reads them."""
    with store.vector_source(modality).snapshot() as snapshot:
        found = {}
        for block in snapshot.blocks():
            for id, vector in zip(block.ids, block.vectors, strict=True):
                assert id not in found, f"{id} is stored twice"
                found[id] = vector.copy()
    return found


def documents_and_vectors(store: EmbeddedStore, modality: Modality = IMAGE) -> tuple[int, int]:
    counts = store.counts(modality)
    return counts.documents, counts.vectors


def test_put_get_and_delete(tmp_path: Path) -> None:
    records = [photo("a"), photo("b"), photo("c")]
    before = datetime.now(UTC)
    with EmbeddedStore.open_writer(tmp_path / "new" / "folder") as store:
        assert (store.sequence, store.dimension) == (0, None)
        assert store.counts(IMAGE) == store.counts(TEXT) == (0, 0, 0, None)
        assert store.put(records, vectors_of(records)) == ["added", "added", "added"]
        kept = store.get(["c", "missing", "a"], IMAGE)
        assert kept[1] is None
        assert kept[0] == replace(records[2], content=None, thumbnail=None)
        assert kept[2] == replace(records[0], content=None, thumbnail=None)
        assert store.content("b") == records[1].content
        assert store.thumbnail("b") == records[1].thumbnail
        assert store.content("missing") is None
        assert store.get(["a"], TEXT) == [None]
        assert list(store.ids(IMAGE)) == ["a", "b", "c"]
        assert list(store.ids(IMAGE, after="a")) == ["b", "c"]
        assert (store.sequence, store.dimension) == (1, 8)
        documents, vectors, size, last_change = store.counts(IMAGE)
        assert (documents, vectors, size) == (3, 3, 3 * (1000 + 50 + 4 * 8))
        assert last_change is not None
        assert timedelta(0) <= last_change - before < timedelta(minutes=1)
        assert store.counts(TEXT) == (0, 0, 0, None)
        assert store.delete(["b", "missing", "b"]) == [(IMAGE, "b")]
        assert store.delete(["b"]) == []
        assert (store.get(["b"], IMAGE), store.content("b"), store.thumbnail("b")) == ([None], None, None)
        assert (store.sequence, *documents_and_vectors(store)) == (2, 2, 2)
        assert sorted(rows_of(store)) == ["a", "c"]
        assert store.verify() == []
        assert store.bytes_on_disk == sum(
            file.stat().st_size for file in store.path.rglob("*") if file.is_file() and file.name != "reserve"
        )
    with EmbeddedStore.open_reader(tmp_path / "new" / "folder") as store:
        assert list(store.ids(IMAGE)) == ["a", "c"]
        assert np.array_equal(rows_of(store)["c"], vector_of("c"))


def test_indexing_again_writes_only_what_changed(tmp_path: Path) -> None:
    records = [photo(name) for name in "abcd"]
    with EmbeddedStore.open_writer(tmp_path) as store:
        store.put(records, vectors_of(records))
        size = store.bytes_on_disk
        for _ in range(5):
            assert store.put(records, vectors_of(records)) == ["unchanged"] * 4
        assert (store.sequence, store.bytes_on_disk) == (1, size)
        changed = [photo("b", version=1), photo("c"), photo("e")]
        assert store.put(changed, vectors_of(changed)) == ["replaced", "unchanged", "added"]
        assert (*documents_and_vectors(store), store.sequence) == (5, 5, 2)
        assert store.content("b") == changed[0].content
        assert np.array_equal(rows_of(store)["b"], vector_of("b", 1))
        with store.vector_source(IMAGE).snapshot() as snapshot:
            removed = snapshot.rows_removed(1)
            assert removed is not None
            assert removed.tolist() == [1]
            assert (snapshot.next_row, snapshot.rows_added(4)) == (6, 2)
        assert store.verify() == []


def test_last_of_equal_ids_in_a_batch_wins(tmp_path: Path) -> None:
    batch = [photo("a"), photo("b"), photo("a", version=1), photo("a", version=1), photo("b")]
    with EmbeddedStore.open_writer(tmp_path) as store:
        outcomes = store.put(batch, vectors_of(batch))
        assert outcomes == ["added", "added", "replaced", "unchanged", "unchanged"]
        assert documents_and_vectors(store) == (2, 2)
        assert store.content("a") == batch[2].content
        assert np.array_equal(rows_of(store)["a"], vector_of("a", 1))
        # There and back again: nothing has to be written for "b".
        batch = [photo("b", version=5), photo("b")]
        assert store.put(batch, vectors_of(batch)) == ["replaced", "replaced"]
        assert store.sequence == 1
        assert store.verify() == []


def test_what_was_left_out_is_added_later(tmp_path: Path) -> None:
    """A document without its vector, its bytes or its thumbnail is not "unchanged" when these come."""
    whole = photo("a")
    with EmbeddedStore.open_writer(tmp_path) as store:
        assert store.put([replace(whole, content=None, thumbnail=None)]) == ["added"]
        assert documents_and_vectors(store) == (1, 0)
        assert store.put([replace(whole, content=None, thumbnail=None)], vectors_of([whole])) == ["replaced"]
        assert store.put([replace(whole, thumbnail=None)]) == ["replaced"]
        assert store.put([replace(whole, content=None)]) == ["replaced"]
        assert store.put([whole], vectors_of([whole])) == ["unchanged"]
        assert store.put([replace(whole, content=None, thumbnail=None)]) == ["unchanged"]
        assert (store.content("a"), store.thumbnail("a")) == (whole.content, whole.thumbnail)
        assert np.array_equal(rows_of(store)["a"], vector_of("a"))
        assert store.verify() == []
        assert documents_and_vectors(store) == (1, 1)
        # A new version without bytes doesn't keep the old ones.
        assert store.put([replace(photo("a", version=1), content=None, thumbnail=None)]) == ["replaced"]
        assert (store.content("a"), store.thumbnail("a")) == (None, None)
        assert documents_and_vectors(store) == (1, 0)
        assert store.verify() == []


def test_a_photo_and_a_caption_may_have_one_id(tmp_path: Path) -> None:
    with EmbeddedStore.open_writer(tmp_path) as store:
        both = [photo("a"), caption("a", "A photo of its own .")]
        assert store.put(both, np.stack([vector_of("a"), vector_of("other")])) == ["added", "added"]
        assert store.content("a") == both[0].content
        assert [store.get(["a"], modality)[0].modality for modality in (IMAGE, TEXT)] == [IMAGE, TEXT]  # type: ignore[union-attr]
        assert np.array_equal(store.vectors(["a"], TEXT)["a"], vector_of("other"))
        assert store.standings(both) == ["same", "same"]
        assert store.delete(["a"]) == [(IMAGE, "a"), (TEXT, "a")]
        assert store.verify() == []


def test_a_photo_goes_with_its_captions_in_one_commit(tmp_path: Path) -> None:
    with EmbeddedStore.open_writer(tmp_path) as store:
        records = [
            photo("a"),
            photo("b"),
            caption("a-2", "Two ."),
            caption("a-10", "Ten ."),
            caption("b-0", "B ."),
        ]
        store.put(records, np.stack([vector_of(record.id) for record in records]))
        assert [[one.id for one in found] for found in store.captions_of(["a", "b", "none"])] == [
            ["a-2", "a-10"],
            ["b-0"],
            [],
        ]
        assert store.delete(["b"]) == [(IMAGE, "b")]
        assert sorted(store.delete(["a"], captions=True)) == [(IMAGE, "a"), (TEXT, "a-10"), (TEXT, "a-2")]
        assert store.sequence == 3
        assert [list(store.ids(modality)) for modality in (IMAGE, TEXT)] == [[], ["b-0"]]
        assert store.verify() == []


def test_record_without_a_hash_gets_one(tmp_path: Path) -> None:
    with EmbeddedStore.open_writer(tmp_path) as store:
        assert store.put([replace(photo("a"), content_hash="")]) == ["added"]
        assert store.put([photo("a")]) == ["unchanged"]
        (stored,) = store.get(["a"], IMAGE)
        assert stored is not None
        assert stored.content_hash == photo("a").content_hash


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
texts = st.text(st.characters(exclude_categories=[]), max_size=60)
records = st.builds(
    Record,
    id=st.text(st.characters(exclude_categories=[]), min_size=1, max_size=120),
    modality=st.sampled_from(["image", "text"]),
    text=st.none() | texts,
    uri=st.none() | texts,
    mime_type=st.none() | texts,
    photo_id=st.none() | texts,
    tags=st.dictionaries(st.text(), json_values, max_size=5),
    content=st.none() | st.binary(max_size=9000),
    thumbnail=st.none() | st.binary(max_size=300),
)


@given(st.lists(records, min_size=1, max_size=5, unique_by=lambda record: record.id))
def test_any_record_comes_back_as_it_was(batch: list[Record]) -> None:
    hashed = [record.hashed() for record in batch]
    vectors = np.random.default_rng(0).normal(size=(len(batch), 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        with EmbeddedStore.open_writer(Path(name)) as store:
            assert store.put(hashed, vectors) == ["added"] * len(batch)
            assert store.put(hashed, vectors) == ["unchanged"] * len(batch)
            assert store.verify() == []
        with EmbeddedStore.open_reader(Path(name)) as store:
            for record, vector in zip(hashed, vectors, strict=True):
                assert store.get([record.id], record.modality) == [
                    replace(record, content=None, thumbnail=None)
                ]
                if record.modality == IMAGE:
                    assert store.content(record.id) == record.content
                    assert store.thumbnail(record.id) == record.thumbnail
                assert np.array_equal(rows_of(store, record.modality)[record.id], vector)
            for modality in (IMAGE, TEXT):
                mine = {record.id for record in hashed if record.modality == modality}
                ids = list(store.ids(modality))
                assert set(ids) == mine
                assert ids == sorted(ids, key=lambda id: id.encode("utf-8", "surrogatepass"))


def test_tags_that_json_does_not_know(tmp_path: Path) -> None:
    tags = {"taken": datetime(2026, 11, 21, tzinfo=UTC), "broken": math.nan, "far": math.inf}
    with EmbeddedStore.open_writer(tmp_path) as store:
        record = Record(id="a", modality="image", tags=tags).hashed()
        assert store.put([record]) == ["added"]
        assert store.put([record]) == ["unchanged"]
        (kept,) = store.get(["a"], IMAGE)
        assert kept is not None
        assert kept.tags["taken"] == "2026-11-21 00:00:00+00:00"
        assert math.isnan(kept.tags["broken"])
        assert kept.tags["far"] == math.inf


def test_replacing_does_not_let_the_index_grow(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(300)]
    sizes = []
    for versions in (range(5), range(5, 30)):
        with EmbeddedStore.open_writer(tmp_path) as store:
            for version in versions:
                records = [photo(name, version=version, size=2000) for name in names]
                store.put(records, vectors_of(records))
            assert documents_and_vectors(store) == (300, 300)
            assert len(rows_of(store)) == 300
            assert store.verify() == []
        assert sorted(path.name for path in tmp_path.iterdir() if path.stat().st_size) == [
            "index.sqlite",
            "reserve",
        ]
        sizes.append((tmp_path / "index.sqlite").stat().st_size)
    assert sizes[1] < 1.2 * sizes[0]


def test_unusable_input_stores_nothing(tmp_path: Path) -> None:
    good = photo("good")
    with EmbeddedStore.open_writer(tmp_path) as store:
        for bad in (replace(good, id=""), replace(good, id="x" * 512), replace(good, id="ü" * 256)):
            with pytest.raises(DataError, match="1 to 511"):
                store.put([good, bad], vectors_of([good, good]))
        with pytest.raises(DataError, match=r"shape \(2, dimension\)"):
            store.put([good, good], vectors_of([good]))
        with pytest.raises(DataError, match="not a finite number"):
            store.put([good], np.full((1, 8), np.inf, np.float32))
        assert (store.sequence, *documents_and_vectors(store)) == (0, 0, 0)
        assert store.put([], np.empty((0, 8), np.float32)) == []
        store.put([replace(good, id="x" * 511)], vectors_of([good]))
        with pytest.raises(ModelMismatch, match=r"4 dimensions.*have 8"):
            store.put([good], np.ones((1, 4), np.float32))
        assert store.get(["", "x" * 512], IMAGE) == [None, None]
        assert documents_and_vectors(store) == (1, 1)


def test_model_is_remembered(tmp_path: Path) -> None:
    with EmbeddedStore.open_writer(tmp_path, identity=VSE) as store:
        assert (store.identity, store.dimension) == (VSE, VSE.dimension)
        with pytest.raises(ModelMismatch, match=r"3 dimensions.*have 8"):
            store.put([photo("a")], np.ones((1, 3), np.float32))
        store.put([photo("a")], vectors_of([photo("a")]))
    for open_store in (EmbeddedStore.open_reader, EmbeddedStore.open_writer):
        with open_store(tmp_path, identity=VSE) as store:
            assert store.identity == VSE
        with pytest.raises(ModelMismatch) as told:
            open_store(tmp_path, identity=CLIP)
        for words in (
            str(VSE),
            str(CLIP),
            "-m vse",
            "another --workspace",
            f"convert --workspace {tmp_path} -m {CLIP.name}",
        ):
            assert words in str(told.value)
        with pytest.raises(ModelMismatch):
            open_store(tmp_path, identity=replace(VSE, weights="0" * 16))
        # The refused store is closed: the next one may open it.
        open_store(tmp_path).close()


def test_store_without_a_model(tmp_path: Path) -> None:
    with EmbeddedStore.open_writer(tmp_path) as store:
        assert store.identity is None
        store.put([photo("a")])
    with EmbeddedStore.open_writer(tmp_path, identity=VSE) as store:
        assert store.identity == VSE, "no vector was there yet"
        assert store.put([photo("a")], vectors_of([photo("a")])) == ["replaced"]
    with EmbeddedStore.open_writer(tmp_path / "vectors") as store:
        store.put([photo("a")], vectors_of([photo("a")]))
    with pytest.raises(ModelMismatch, match="doesn't say which model"):
        EmbeddedStore.open_reader(tmp_path / "vectors", identity=VSE)


def test_what_is_being_read_outlives_the_store(tmp_path: Path) -> None:
    photos = [photo("a"), photo("b"), photo("c")]
    with EmbeddedStore.open_writer(tmp_path) as writer:
        writer.put(photos, vectors_of(photos))
    reader = EmbeddedStore.open_reader(tmp_path)
    ids = reader.ids(IMAGE)
    first = next(ids)
    with reader.vector_source(IMAGE).snapshot() as snapshot:
        (block,) = snapshot.blocks()
        # As another thread does that finds that the index was replaced.
        reader.close()
        np.testing.assert_array_equal(block.vectors, vectors_of(photos))
    assert [first, *ids] == ["a", "b", "c"]
    with pytest.raises(StoreError, match="closed"):
        list(reader.ids(IMAGE))
    still_open = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    assert not [name for name in still_open if name.startswith(str(tmp_path))]


def test_closed_and_read_only_stores_say_so(tmp_path: Path) -> None:
    with EmbeddedStore.open_writer(tmp_path) as store:
        store.put([photo("a")])
    with pytest.raises(StoreError, match="closed"):
        store.get(["a"], IMAGE)
    with pytest.raises(StoreError, match="closed"):
        store.put([photo("b")])
    store.close()
    with EmbeddedStore.open_reader(tmp_path) as reader:
        with pytest.raises(StoreError, match="open for reading"):
            reader.put([photo("b")])
        with pytest.raises(StoreError, match="open for reading"):
            reader.delete(["a"])


def test_size_while_a_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the files that are derived from a store are, in the middle of looking."""
    with EmbeddedStore.open_writer(tmp_path) as store:
        size = store.bytes_on_disk
        (tmp_path / "derived").mkdir()
        renamed, stat = tmp_path / "derived" / "image.0-of-1.codes.tmp", Path.stat
        looks = 0

        def stat_and_rename(path: Path, **given: Any) -> os.stat_result:
            nonlocal looks
            if path == renamed:
                looks += 1
                if looks > 1:
                    raise FileNotFoundError(path)
            return stat(path, **given)

        renamed.write_bytes(b"12345")
        monkeypatch.setattr(Path, "stat", stat_and_rename)
        # What there was at the first look counts, and the second one finds nothing.
        assert [store.bytes_on_disk, store.bytes_on_disk] == [size + 5, size]
