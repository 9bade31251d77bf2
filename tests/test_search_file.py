"""The derived search file: used when whole and current, otherwise made anew, never trusted blindly."""

from __future__ import annotations

import fcntl
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from store_samples import caption, photo, run_python, vector_of, vectors_of

from crossmodal.index.embedded.compared import merge_matches
from crossmodal.index.embedded.derived_file import VECTORS, derived_path
from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.search_file import SearchFile, save_vectors
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.embedded.vector_source import VectorSnapshot

NAMES = [f"p{number}" for number in range(70)]


@pytest.fixture
def store(tmp_path: Path) -> EmbeddedStore:
    store = EmbeddedStore.open_writer(tmp_path / "store")
    put(store, NAMES)
    return store


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows from which on the store's vectors were read, one entry for each reading."""
    first_rows: list[int] = []
    original = VectorSnapshot.blocks

    def blocks(self: VectorSnapshot, first_row: int = 0) -> object:
        first_rows.append(first_row)
        return original(self, first_row)

    monkeypatch.setattr(VectorSnapshot, "blocks", blocks)
    return first_rows


def put(store: EmbeddedStore, names: list[str], version: int = 0) -> None:
    records = [photo(name, version=version, size=20) for name in names]
    store.put(records, vectors_of(records))


def file_of(store: EmbeddedStore) -> Path:
    return derived_path(store.vector_source("image"), VECTORS)


def opened(store: EmbeddedStore, file: Path | None = None) -> ExactIndex:
    return ExactIndex(store.vector_source("image"), search_file=file)


def finds_all(index: ExactIndex, versions: dict[str, int]) -> None:
    queries = np.stack([vector_of(name, version) for name, version in versions.items()])
    assert [matches[0][0] for matches in index.search(queries, 3)] == list(versions)
    assert len(index) == len(versions)


def test_current_file_is_used_instead_of_the_store(store: EmbeddedStore, rows_read: list[int]) -> None:
    file = file_of(store)
    index = opened(store, file)
    assert index.save() is True
    rows_read.clear()
    finds_all(index, dict.fromkeys(NAMES, 0))
    finds_all(opened(store, file), dict.fromkeys(NAMES, 0))
    assert rows_read == [], "the vectors were read from the store again"
    assert list(file.parent.iterdir()) == [file] == [store.path / "derived" / "image.0-of-1.vectors"]


def test_saving_takes_over_what_is_new_and_writes_only_then(store: EmbeddedStore) -> None:
    file = file_of(store)
    index = opened(store, file)
    put(store, ["late"])
    assert index.save()
    assert SearchFile(file).read().source.sequence == store.sequence == 2
    before = file.stat()
    assert index.save()
    assert file.stat().st_ino == before.st_ino
    assert opened(store).save() is False, "no file was named"


def test_older_file_is_completed_from_new_rows_only(store: EmbeddedStore, rows_read: list[int]) -> None:
    file = file_of(store)
    opened(store, file).save()
    put(store, ["p3", "p69", "new"], version=1)
    store.delete(["p5"])
    rows_read.clear()
    index = opened(store, file)
    assert rows_read == [70]
    expected = {**dict.fromkeys(NAMES, 0), "p3": 1, "p69": 1, "new": 1}
    del expected["p5"]
    finds_all(index, expected)


def test_missing_file(store: EmbeddedStore) -> None:
    index = opened(store, file_of(store))
    finds_all(index, dict.fromkeys(NAMES, 0))
    assert not (file_of(store)).exists()


def test_file_of_another_or_newer_store(store: EmbeddedStore, tmp_path: Path, rows_read: list[int]) -> None:
    """A workspace deleted and indexed again, or a store put back from a copy, keeps its old search file."""
    file = tmp_path / "vectors"
    put(store, ["p0"], version=9)
    opened(store, file).save()
    with EmbeddedStore.open_writer(tmp_path / "other") as other:
        put(other, ["x", "y"])
        put(other, ["z"])
        assert other.sequence == store.sequence
        rows_read.clear()
        finds_all(opened(other, file), {"x": 0, "y": 0, "z": 0})
        assert rows_read == [0]
    # The same store as it was before the file was saved.
    store.close()
    shutil.copytree(store.path, tmp_path / "copy")
    with EmbeddedStore.open_writer(tmp_path / "copy") as copy:
        put(copy, ["later"])
        opened(copy, file).save()
    with EmbeddedStore.open_reader(store.path) as older:
        rows_read.clear()
        finds_all(opened(older, file), {**dict.fromkeys(NAMES, 0), "p0": 9})
        assert rows_read == [0]


@pytest.mark.parametrize("where", [0, 9, 13, 18, 30, 0.3, 0.5, 0.99])
def test_flipped_bit(store: EmbeddedStore, where: float, caplog: pytest.LogCaptureFixture) -> None:
    file = file_of(store)
    opened(store, file).save()
    raw = bytearray(file.read_bytes())
    raw[where if isinstance(where, int) else int(where * len(raw))] ^= 1
    file.write_bytes(raw)
    with caplog.at_level(logging.WARNING):
        index = opened(store, file)
    assert "reading the store instead" in caplog.text
    finds_all(index, dict.fromkeys(NAMES, 0))
    # Saving repairs it.
    assert index.save()
    caplog.clear()
    finds_all(opened(store, file), dict.fromkeys(NAMES, 0))
    assert caplog.text == ""


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_truncated_file(store: EmbeddedStore, share: float, caplog: pytest.LogCaptureFixture) -> None:
    file = file_of(store)
    opened(store, file).save()
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with caplog.at_level(logging.WARNING):
        finds_all(opened(store, file), dict.fromkeys(NAMES, 0))
    assert "reading the store instead" in caplog.text
    caplog.clear()
    finds_all(opened(store, file), dict.fromkeys(NAMES, 0))
    assert caplog.text == "", "it is told once"


def test_file_that_cannot_be_saved(
    store: EmbeddedStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "no such folder" / "derived" / "vectors"
    index = opened(store, file)
    with caplog.at_level(logging.WARNING):
        assert index.save() is False
    assert "No such file or directory" in caplog.text
    finds_all(index, dict.fromkeys(NAMES, 0))


def test_empty_index_can_be_saved(tmp_path: Path) -> None:
    with EmbeddedStore.open_writer(tmp_path / "store") as store:
        assert opened(store, tmp_path / "vectors").save()
        put(store, ["a"])
        finds_all(opened(store, tmp_path / "vectors"), {"a": 0})


def test_two_savers_never_mix(store: EmbeddedStore) -> None:
    """A second process that saves at the same moment leaves it to the first."""
    file = file_of(store)
    file.parent.mkdir()
    temporary = file.with_name(f"{file.name}.tmp")
    with temporary.open("wb") as being_written:
        fcntl.flock(being_written, fcntl.LOCK_EX)
        assert opened(store, file).save() is False
    # What a killed process left is taken over.
    temporary.write_bytes(b"torn" * 100)
    assert opened(store, file).save() is True
    assert not temporary.exists()
    finds_all(opened(store, file), dict.fromkeys(NAMES, 0))


def test_killed_while_saving_leaves_the_old_file(store: EmbeddedStore) -> None:
    file = file_of(store)
    opened(store, file).save()
    before = file.read_bytes()
    put(store, ["new"])
    code = """
import os, signal, sys
from pathlib import Path
from test_search_file import file_of, opened
from crossmodal.index.embedded import derived_file
from crossmodal.index.embedded.store import EmbeddedStore
derived_file.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
store = EmbeddedStore.open_reader(Path(sys.argv[1]))
opened(store, file_of(store)).save()
"""
    assert run_python(code, store.path).returncode == -9
    assert file.read_bytes() == before
    finds_all(opened(store, file), {**dict.fromkeys(NAMES, 0), "new": 0})
    assert list(SearchFile(file).read().segment.ids) == NAMES


def test_photos_and_captions_and_every_shard_of_them_have_files_of_their_own(
    store: EmbeddedStore, rows_read: list[int]
) -> None:
    captions = [caption(name, "text") for name in NAMES]
    store.put(captions, np.stack([vector_of(name, 1) for name in NAMES]))
    sources = {
        (modality, shard): store.vector_source(modality, shard, shards)
        for modality, shards in (("image", 3), ("text", 2))
        for shard in range(shards)
    }
    for source in sources.values():
        assert save_vectors(source)
    assert sorted(path.name for path in (store.path / "derived").iterdir()) == [
        *(f"image.{shard}-of-3.vectors" for shard in range(3)),
        *(f"text.{shard}-of-2.vectors" for shard in range(2)),
    ]
    # Replaces and deletes photos of all shards, and with "p7" a caption.
    put(store, ["p3", "p8", "new"], version=2)
    store.delete(["p7"])
    rows_read.clear()
    indexes = {
        key: ExactIndex(source, search_file=derived_path(source, VECTORS)) for key, source in sources.items()
    }
    assert rows_read == [140] * 5, "more than what is new was read"
    queries = np.stack([vector_of("p3", 2), vector_of("p9"), vector_of("p9", 1)])
    for modality, shards in (("image", 3), ("text", 2)):
        parts = [indexes[modality, shard].search(queries, 80) for shard in range(shards)]
        whole = ExactIndex(store.vector_source(modality)).search(queries, 80)
        assert [merge_matches(found, 80) for found in zip(*parts, strict=True)] == whole
        assert len(whole[0]) == (70 if modality == "image" else 69)
