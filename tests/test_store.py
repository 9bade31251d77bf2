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
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import CLIP, VSE, caption, photo, vector_of, vectors_of

from crossmodal.errors import DataError, ModelMismatch, StoreError
from crossmodal.records import Record
from crossmodal.stores import Store
from crossmodal.stores.row_blocks import BLOCK_ROWS, FULL_ROWS


def rows_of(store: Store) -> dict[str, np.ndarray]:
    """Every living vector by its id, as the search reads them."""
    with store.vector_snapshot() as snapshot:
        found = {}
        for block in snapshot.blocks():
            for id, vector in zip(block.ids, block.vectors, strict=True):
                assert id not in found, f"{id} lives twice"
                found[id] = vector.copy()
    return found


def block_lengths(store: Store) -> list[int]:
    with store.vector_snapshot() as snapshot:
        return [len(block) for block in snapshot.blocks()]


def test_put_get_and_delete(tmp_path: Path) -> None:
    records = [photo("a"), photo("b"), photo("c")]
    before = datetime.now(UTC)
    with Store.open_writer(tmp_path / "new" / "folder") as store:
        assert (store.sequence, store.document_count, store.dimension, store.last_change) == (
            0,
            0,
            None,
            None,
        )
        assert store.put(records, vectors_of(records)) == ["added", "added", "added"]
        kept = store.get(["c", "missing", "a"])
        assert kept[1] is None
        assert kept[0] == replace(records[2], content=None, thumbnail=None)
        assert kept[2] == replace(records[0], content=None, thumbnail=None)
        assert store.content("b") == records[1].content
        assert store.thumbnail("b") == records[1].thumbnail
        assert store.content("missing") is None
        assert store.hashes(["a", "missing"]) == [records[0].content_hash, None]
        assert list(store.ids()) == ["a", "b", "c"]
        assert (store.sequence, store.document_count, store.vector_count, store.dimension) == (1, 3, 3, 8)
        assert store.last_change is not None
        assert timedelta(0) <= store.last_change - before < timedelta(minutes=1)
        assert store.delete(["b", "missing", "b"]) == ["b"]
        assert store.delete(["b"]) == []
        assert (store.get(["b"]), store.content("b"), store.thumbnail("b")) == ([None], None, None)
        assert (store.sequence, store.document_count, store.vector_count) == (2, 2, 2)
        assert sorted(rows_of(store)) == ["a", "c"]
        assert store.verify() == []
        assert store.bytes_on_disk == sum(file.stat().st_size for file in store.path.iterdir())
    with Store.open_reader(tmp_path / "new" / "folder") as store:
        assert list(store.ids()) == ["a", "c"]
        assert np.array_equal(rows_of(store)["c"], vector_of("c"))


def test_indexing_again_writes_only_what_changed(tmp_path: Path) -> None:
    records = [photo(name) for name in "abcd"]
    with Store.open_writer(tmp_path) as store:
        store.put(records, vectors_of(records))
        size = store.bytes_on_disk
        for _ in range(5):
            assert store.put(records, vectors_of(records)) == ["unchanged"] * 4
        assert (store.sequence, store.bytes_on_disk) == (1, size)
        changed = [photo("b", version=1), photo("c"), photo("e")]
        assert store.put(changed, vectors_of(changed)) == ["replaced", "unchanged", "added"]
        assert (store.document_count, store.vector_count, store.sequence) == (5, 5, 2)
        assert store.content("b") == changed[0].content
        assert np.array_equal(rows_of(store)["b"], vector_of("b", 1))
        with store.vector_snapshot() as snapshot:
            died = snapshot.deaths_after(1)
            assert died is not None
            assert died.tolist() == [1]
            assert snapshot.next_row == 6
        assert store.verify() == []


def test_last_of_equal_ids_in_a_batch_wins(tmp_path: Path) -> None:
    batch = [photo("a"), photo("b"), photo("a", version=1), photo("a", version=1), photo("b")]
    with Store.open_writer(tmp_path) as store:
        outcomes = store.put(batch, vectors_of(batch))
        assert outcomes == ["added", "added", "replaced", "unchanged", "unchanged"]
        assert (store.document_count, store.vector_count) == (2, 2)
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
    with Store.open_writer(tmp_path) as store:
        assert store.put([replace(whole, content=None, thumbnail=None)]) == ["added"]
        assert store.vector_count == 0
        assert store.put([replace(whole, content=None, thumbnail=None)], vectors_of([whole])) == ["replaced"]
        assert store.put([replace(whole, thumbnail=None)]) == ["replaced"]
        assert store.put([replace(whole, content=None)]) == ["replaced"]
        assert store.put([whole], vectors_of([whole])) == ["unchanged"]
        assert store.put([replace(whole, content=None, thumbnail=None)]) == ["unchanged"]
        assert (store.content("a"), store.thumbnail("a")) == (whole.content, whole.thumbnail)
        assert np.array_equal(rows_of(store)["a"], vector_of("a"))
        assert store.verify() == []
        assert (store.document_count, store.vector_count) == (1, 1)
        # A new version without bytes doesn't keep the old ones.
        assert store.put([caption("a", "now a caption")]) == ["replaced"]
        assert (store.content("a"), store.thumbnail("a"), store.vector_count) == (None, None, 0)
        assert store.verify() == []


def test_record_without_a_hash_gets_one(tmp_path: Path) -> None:
    with Store.open_writer(tmp_path) as store:
        assert store.put([replace(photo("a"), content_hash="")]) == ["added"]
        assert store.put([photo("a")]) == ["unchanged"]
        assert store.hashes(["a"]) == [photo("a").content_hash]


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


@settings(max_examples=60, deadline=None)
@given(st.lists(records, min_size=1, max_size=5, unique_by=lambda record: record.id))
def test_any_record_comes_back_as_it_was(batch: list[Record]) -> None:
    hashed = [record.hashed() for record in batch]
    vectors = np.random.default_rng(0).normal(size=(len(batch), 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        with Store.open_writer(Path(name)) as store:
            assert store.put(hashed, vectors) == ["added"] * len(batch)
            assert store.put(hashed, vectors) == ["unchanged"] * len(batch)
            assert store.verify() == []
        with Store.open_reader(Path(name)) as store:
            assert store.get([record.id for record in hashed]) == [
                replace(record, content=None, thumbnail=None) for record in hashed
            ]
            for record, vector in zip(hashed, vectors, strict=True):
                assert store.content(record.id) == record.content
                assert store.thumbnail(record.id) == record.thumbnail
                assert np.array_equal(rows_of(store)[record.id], vector)
            assert set(store.ids()) == {record.id for record in hashed}


def test_tags_that_json_does_not_know(tmp_path: Path) -> None:
    tags = {"taken": datetime(2026, 11, 21, tzinfo=UTC), "broken": math.nan, "far": math.inf}
    with Store.open_writer(tmp_path) as store:
        record = Record(id="a", modality="image", tags=tags).hashed()
        assert store.put([record]) == ["added"]
        assert store.put([record]) == ["unchanged"]
        (kept,) = store.get(["a"])
        assert kept is not None
        assert kept.tags["taken"] == "2026-11-21 00:00:00+00:00"
        assert math.isnan(kept.tags["broken"])
        assert kept.tags["far"] == math.inf


@pytest.mark.parametrize("batch", [1, 3, 64, 200, 600])
def test_blocks_stay_few_however_small_the_batches(tmp_path: Path, batch: int) -> None:
    names = [f"p{number:04d}" for number in range(600)]
    with Store.open_writer(tmp_path) as store:
        for start in range(0, 600, batch):
            records = [caption(name, name) for name in names[start : start + batch]]
            store.put(records, np.stack([vector_of(record.id) for record in records]))
        lengths = block_lengths(store)
        assert sum(lengths) == 600
        assert max(lengths) <= BLOCK_ROWS
        assert len(lengths) <= 600 / FULL_ROWS + 8
        found = rows_of(store)
        assert list(found) == names
        assert all(np.array_equal(found[name], vector_of(name)) for name in names)
        assert store.verify() == []


def test_blocks_of_full_batches_are_not_written_again(tmp_path: Path) -> None:
    lengths = [1, 1, FULL_ROWS, FULL_ROWS, 3, 2, 300, FULL_ROWS - 1, 1, 1]
    with Store.open_writer(tmp_path) as store:
        for batch, length in enumerate(lengths):
            records = [caption(f"{batch}-{number}", "a caption") for number in range(length)]
            store.put(records, np.stack([vector_of(record.id) for record in records]))
        # Each swallows the shorter ones before it; 66 and 64 are long enough to stay as they are.
        assert block_lengths(store) == [66, 64, BLOCK_ROWS, 112, 2]
        assert store.verify() == []


def test_replacing_does_not_let_the_store_grow(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(300)]
    sizes = []
    with Store.open_writer(tmp_path) as store:
        for version in range(30):
            records = [photo(name, version=version, size=2000) for name in names]
            store.put(records, vectors_of(records))
            sizes.append(store.bytes_on_disk)
        assert store.vector_count == 300
        assert sum(block_lengths(store)) == 300
        assert store.verify() == []
    assert sizes[-1] < 1.2 * sizes[4]


def test_unusable_input_stores_nothing(tmp_path: Path) -> None:
    good = photo("good")
    with Store.open_writer(tmp_path) as store:
        for bad in (replace(good, id=""), replace(good, id="x" * 512), replace(good, id="ü" * 256)):
            with pytest.raises(DataError, match="1 to 511"):
                store.put([good, bad], vectors_of([good, good]))
        with pytest.raises(DataError, match=r"shape \(2, dimension\)"):
            store.put([good, good], vectors_of([good]))
        with pytest.raises(DataError, match="not a finite number"):
            store.put([good], np.full((1, 8), np.inf, np.float32))
        assert (store.sequence, store.document_count) == (0, 0)
        assert store.put([], np.empty((0, 8), np.float32)) == []
        store.put([replace(good, id="x" * 511)], vectors_of([good]))
        with pytest.raises(ModelMismatch, match=r"4 dimensions.*have 8"):
            store.put([good], np.ones((1, 4), np.float32))
        assert store.get(["", "x" * 512]) == [None, None]
        assert store.document_count == 1


def test_model_is_remembered(tmp_path: Path) -> None:
    with Store.open_writer(tmp_path, identity=VSE) as store:
        assert (store.identity, store.dimension) == (VSE, VSE.dimension)
        with pytest.raises(ModelMismatch, match=r"3 dimensions.*have 8"):
            store.put([photo("a")], np.ones((1, 3), np.float32))
        store.put([photo("a")], vectors_of([photo("a")]))
    for open_store in (Store.open_reader, Store.open_writer):
        with open_store(tmp_path, identity=VSE) as store:
            assert store.identity == VSE
        with pytest.raises(ModelMismatch) as told:
            open_store(tmp_path, identity=CLIP)
        for words in (str(VSE), str(CLIP), "-m vse", "--workspace", "delete"):
            assert words in str(told.value)
        with pytest.raises(ModelMismatch):
            open_store(tmp_path, identity=replace(VSE, weights="0" * 16))
        # The refused store is closed: the next one may open it.
        open_store(tmp_path).close()


def test_store_without_a_model(tmp_path: Path) -> None:
    with Store.open_writer(tmp_path) as store:
        assert store.identity is None
        store.put([photo("a")])
    with Store.open_writer(tmp_path, identity=VSE) as store:
        assert store.identity == VSE, "no vector was there yet"
        assert store.put([photo("a")], vectors_of([photo("a")])) == ["replaced"]
    with Store.open_writer(tmp_path / "vectors") as store:
        store.put([photo("a")], vectors_of([photo("a")]))
    with pytest.raises(ModelMismatch, match="doesn't say which model"):
        Store.open_reader(tmp_path / "vectors", identity=VSE)


def test_what_is_being_read_outlives_the_store(tmp_path: Path) -> None:
    photos = [photo("a"), photo("b"), photo("c")]
    with Store.open_writer(tmp_path) as writer:
        writer.put(photos, vectors_of(photos))
    reader = Store.open_reader(tmp_path)
    ids = reader.ids()
    first = next(ids)
    with reader.vector_snapshot() as snapshot:
        (block,) = snapshot.blocks()
        # As another thread does that finds that the index was made anew.
        reader.close()
        np.testing.assert_array_equal(block.vectors, vectors_of(photos))
    assert [first, *ids] == ["a", "b", "c"]
    with pytest.raises(StoreError, match="closed"):
        list(reader.ids())
    assert str(tmp_path) not in Path("/proc/self/maps").read_text(), "the last one closed the files"


def test_closed_and_read_only_stores_say_so(tmp_path: Path) -> None:
    with Store.open_writer(tmp_path) as store:
        store.put([photo("a")])
    with pytest.raises(StoreError, match="closed"):
        store.get(["a"])
    with pytest.raises(StoreError, match="closed"):
        store.put([photo("b")])
    store.close()
    with Store.open_reader(tmp_path) as reader:
        with pytest.raises(StoreError, match="open for reading"):
            reader.put([photo("b")])
        with pytest.raises(StoreError, match="open for reading"):
            reader.delete(["a"])


def test_size_while_a_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the files that are derived from a store are, in the middle of looking."""
    with Store.open_writer(tmp_path) as store:
        size = store.bytes_on_disk
        renamed, stat = tmp_path / "search.codes.tmp", Path.stat
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
