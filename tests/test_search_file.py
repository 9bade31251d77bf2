"""The derived search file: used when whole and current, otherwise made anew, never trusted blindly."""

from __future__ import annotations

import fcntl
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from store_samples import photo, run_python, vector_of, vectors_of

from crossmodal.search import ExactIndex
from crossmodal.search.search_file import SearchFile
from crossmodal.stores import Store, VectorSnapshot

NAMES = [f"p{number}" for number in range(70)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open_writer(tmp_path / "store")
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


def put(store: Store, names: list[str], version: int = 0) -> None:
    records = [photo(name, version=version, size=20) for name in names]
    store.put(records, vectors_of(records))


def finds_all(index: ExactIndex, versions: dict[str, int]) -> None:
    queries = np.stack([vector_of(name, version) for name, version in versions.items()])
    assert [matches[0][0] for matches in index.search(queries, 3)] == list(versions)
    assert len(index) == len(versions)


def test_current_file_is_used_instead_of_the_store(store: Store, rows_read: list[int]) -> None:
    file = store.path / "search.faiss"
    index = ExactIndex(store, search_file=file)
    assert index.save() is True
    rows_read.clear()
    finds_all(index, dict.fromkeys(NAMES, 0))
    finds_all(ExactIndex(store, search_file=file), dict.fromkeys(NAMES, 0))
    assert rows_read == [], "the vectors were read from the store again"
    assert sorted(path.name for path in store.path.iterdir()) == [
        "data.mdb",
        "lock.mdb",
        "search.faiss",
        "writer.lock",
    ]


def test_saving_takes_over_what_is_new_and_writes_only_then(store: Store) -> None:
    file = store.path / "search.faiss"
    index = ExactIndex(store, search_file=file)
    put(store, ["late"])
    assert index.save()
    assert SearchFile(file).read().source.sequence == store.sequence == 2
    before = file.stat()
    assert index.save()
    assert file.stat().st_ino == before.st_ino
    assert ExactIndex(store).save() is False, "no file was named"


def test_older_file_is_completed_from_new_rows_only(store: Store, rows_read: list[int]) -> None:
    file = store.path / "search.faiss"
    ExactIndex(store, search_file=file).save()
    put(store, ["p3", "p69", "new"], version=1)
    store.delete(["p5"])
    rows_read.clear()
    index = ExactIndex(store, search_file=file)
    assert rows_read == [70]
    expected = {**dict.fromkeys(NAMES, 0), "p3": 1, "p69": 1, "new": 1}
    del expected["p5"]
    finds_all(index, expected)


def test_missing_file(store: Store) -> None:
    index = ExactIndex(store, search_file=store.path / "search.faiss")
    finds_all(index, dict.fromkeys(NAMES, 0))
    assert not (store.path / "search.faiss").exists()


def test_file_of_another_or_newer_store(store: Store, tmp_path: Path, rows_read: list[int]) -> None:
    """A workspace deleted and indexed again, or a store put back from a copy, keeps its old search file."""
    file = tmp_path / "search.faiss"
    put(store, ["p0"], version=9)
    ExactIndex(store, search_file=file).save()
    with Store.open_writer(tmp_path / "other") as other:
        put(other, ["x", "y"])
        put(other, ["z"])
        assert other.sequence == store.sequence
        rows_read.clear()
        finds_all(ExactIndex(other, search_file=file), {"x": 0, "y": 0, "z": 0})
        assert rows_read == [0]
    # The same store as it was before the file was saved.
    store.close()
    shutil.copytree(store.path, tmp_path / "copy")
    with Store.open_writer(tmp_path / "copy") as copy:
        put(copy, ["later"])
        ExactIndex(copy, search_file=file).save()
    with Store.open_reader(store.path) as older:
        rows_read.clear()
        finds_all(ExactIndex(older, search_file=file), {**dict.fromkeys(NAMES, 0), "p0": 9})
        assert rows_read == [0]


@pytest.mark.parametrize("where", [0, 9, 13, 18, 30, 0.3, 0.5, 0.99])
def test_flipped_bit(store: Store, where: float, caplog: pytest.LogCaptureFixture) -> None:
    file = store.path / "search.faiss"
    ExactIndex(store, search_file=file).save()
    raw = bytearray(file.read_bytes())
    raw[where if isinstance(where, int) else int(where * len(raw))] ^= 1
    file.write_bytes(raw)
    with caplog.at_level(logging.WARNING):
        index = ExactIndex(store, search_file=file)
    assert "reading the store instead" in caplog.text
    finds_all(index, dict.fromkeys(NAMES, 0))
    # Saving repairs it.
    assert index.save()
    caplog.clear()
    finds_all(ExactIndex(store, search_file=file), dict.fromkeys(NAMES, 0))
    assert caplog.text == ""


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_truncated_file(store: Store, share: float, caplog: pytest.LogCaptureFixture) -> None:
    file = store.path / "search.faiss"
    ExactIndex(store, search_file=file).save()
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with caplog.at_level(logging.WARNING):
        finds_all(ExactIndex(store, search_file=file), dict.fromkeys(NAMES, 0))
    assert "reading the store instead" in caplog.text
    caplog.clear()
    finds_all(ExactIndex(store, search_file=file), dict.fromkeys(NAMES, 0))
    assert caplog.text == "", "it is told once"


def test_file_that_cannot_be_saved(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "no such folder" / "search.faiss"
    index = ExactIndex(store, search_file=file)
    with caplog.at_level(logging.WARNING):
        assert index.save() is False
    assert "No such file or directory" in caplog.text
    finds_all(index, dict.fromkeys(NAMES, 0))


def test_empty_index_can_be_saved(tmp_path: Path) -> None:
    with Store.open_writer(tmp_path / "store") as store:
        assert ExactIndex(store, search_file=tmp_path / "search.faiss").save()
        put(store, ["a"])
        finds_all(ExactIndex(store, search_file=tmp_path / "search.faiss"), {"a": 0})


def test_two_savers_never_mix(store: Store) -> None:
    """A second process that saves at the same moment leaves it to the first."""
    file = store.path / "search.faiss"
    temporary = file.with_name("search.faiss.tmp")
    with temporary.open("wb") as being_written:
        fcntl.flock(being_written, fcntl.LOCK_EX)
        assert ExactIndex(store, search_file=file).save() is False
    # What a killed process left is taken over.
    temporary.write_bytes(b"torn" * 100)
    assert ExactIndex(store, search_file=file).save() is True
    assert not temporary.exists()
    finds_all(ExactIndex(store, search_file=file), dict.fromkeys(NAMES, 0))


def test_killed_while_saving_leaves_the_old_file(store: Store, tmp_path: Path) -> None:
    file = store.path / "search.faiss"
    ExactIndex(store, search_file=file).save()
    before = file.read_bytes()
    put(store, ["new"])
    code = """
import os, signal, sys
from pathlib import Path
from crossmodal.search import ExactIndex, derived_file
from crossmodal.stores import Store
derived_file.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
path = Path(sys.argv[1])
ExactIndex(Store.open_reader(path), search_file=path / "search.faiss").save()
"""
    assert run_python(code, store.path).returncode == -9
    assert file.read_bytes() == before
    finds_all(ExactIndex(store, search_file=file), {**dict.fromkeys(NAMES, 0), "new": 0})
    assert list(SearchFile(file).read().segment.ids) == NAMES
