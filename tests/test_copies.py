"""Backups, restoring, compacting, verifying: whole and checked, beside readers and a writer, or nothing."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import run_app, run_python
from store_samples import VSE, caption, photo, vector_of, vectors_of

from crossmodal.errors import StoreError, StoreFormat, StoreLocked, StoreUnwritable
from crossmodal.index.embedded.copies import back_up, compact, restore
from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import IMAGE, TEXT
from crossmodal.workspace import Workspace

PHOTOS = [photo(f"p{number}", size=5000) for number in range(60)]
CAPTIONS = [caption(f"p{number}-0", f"photo number {number} of a dog") for number in range(60)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "workspace"
    with EmbeddedStore.open_writer(folder, identity=VSE) as store:
        store.put(PHOTOS, vectors_of(PHOTOS))
        store.put(CAPTIONS, np.stack([vector_of(each.id) for each in CAPTIONS]))
    yield folder
    assert not list(tmp_path.rglob("*.making")), "nothing half is left"


def assert_whole(folder: Path, photos: int = 60) -> None:
    with EmbeddedStore.open_reader(folder, identity=VSE) as store:
        assert store.verify() == []
        assert (store.counts(IMAGE).documents, store.counts(TEXT).documents) == (photos, 60)
        assert store.content("p7") == PHOTOS[7].content
        assert [hit.id for hit in store.search_words("number 7 dog", 1)] == ["p7-0"]
        index = ExactIndex(store.vector_source(IMAGE))
        assert index.search(vector_of("p7")[None], 1)[0][0][:2] == ("p7", pytest.approx(1.0))


def test_backup_and_restore(folder: Path, tmp_path: Path) -> None:
    done = run_app("backup", tmp_path / "copy.sqlite", "--workspace", folder)
    assert done.returncode == 0, done.stderr
    assert "checked" in done.stdout
    again = run_app("backup", tmp_path / "copy.sqlite", "--workspace", folder)
    assert again.returncode == 1
    assert f"{tmp_path / 'copy.sqlite'} exists" in again.stderr
    with closing(sqlite3.connect(tmp_path / "copy.sqlite")) as any_tool:
        assert any_tool.execute("SELECT count(*) FROM documents").fetchone() == (120,)
    restored = run_app("restore", tmp_path / "copy.sqlite", "--workspace", tmp_path / "new")
    assert restored.returncode == 0, restored.stderr
    assert_whole(tmp_path / "new")
    assert_whole(folder)


def test_backup_is_as_of_one_commit_while_another_thread_writes(folder: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    written: list[str] = []
    with EmbeddedStore.open_writer(folder) as store:

        def write() -> None:
            while not stop.is_set():
                pair = [photo(f"q{len(written)}-{half}", size=20_000) for half in range(2)]
                store.put(pair, vectors_of(pair))
                written.append(pair[0].id)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(3):
                before = len(written)
                back_up(folder, tmp_path / f"copy{number}")
                with closing(sqlite3.connect(tmp_path / f"copy{number}")) as copy:
                    (count,) = copy.execute("SELECT count(*) FROM contents").fetchone()
                    (documents,) = copy.execute(
                        "SELECT count(*) FROM documents WHERE modality = 'image'"
                    ).fetchone()
                # Of each pair both, and all that was there when it began.
                assert count == documents
                assert (count - 60) % 2 == 0
                assert count - 60 >= 2 * before
        finally:
            stop.set()
            writer.join()


def test_a_damaged_index_is_neither_backed_up_nor_compacted(folder: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(folder / "index.sqlite")) as connection, connection:
        connection.execute("UPDATE contents SET content = zeroblob(5000) WHERE row = 7")
    before = (folder / "index.sqlite").read_bytes()
    for work in (lambda: back_up(folder, tmp_path / "copy"), lambda: compact(folder)):
        with pytest.raises(StoreFormat, match=r"not sound.*original of 'p7'"):
            work()
    assert not (tmp_path / "copy").exists()
    assert (folder / "index.sqlite").read_bytes() == before
    told = run_app("verify", "--workspace", folder)
    assert told.returncode == 1
    assert told.stdout == "the original of 'p7', row 7, is missing or does not match its checksum\n", (
        told.stderr
    )
    assert "restore a backup" in told.stderr
    with EmbeddedStore.open_writer(folder) as store:
        assert [error.id for error in store.damaged()] == ["p7"]
        assert store.put([PHOTOS[7], PHOTOS[8]], vectors_of(PHOTOS[7:9])) == ["replaced", "unchanged"]
        assert store.damaged() == []
    sound = run_app("verify", "--workspace", folder)
    assert (sound.returncode, "is sound" in sound.stdout) == (0, True)


def test_restore_puts_another_index_in_the_place_of_one_that_is_searched(
    folder: Path, tmp_path: Path
) -> None:
    back_up(folder, tmp_path / "copy")
    with Workspace(folder) as workspace:
        index = ExactIndex(workspace.require().vector_source(IMAGE))
        with EmbeddedStore.open_writer(folder) as store:
            store.delete([f"p{number}" for number in range(50)])
            late = photo("late")
            store.put([late], vectors_of([late]))
        assert len(index) == 60
        assert workspace.vector_count(IMAGE) == 11
        with pytest.raises(StoreError, match="--replace"):
            restore(tmp_path / "copy", folder)
        with EmbeddedStore.open_writer(folder), pytest.raises(StoreLocked):
            restore(tmp_path / "copy", folder, replace=True)
        before = workspace.require()
        restore(tmp_path / "copy", folder, replace=True)
        # Who has the one of before open reads that to its end, whatever is written into the new one.
        with EmbeddedStore.open_writer(folder) as store:
            store.put([photo("more")], vectors_of([photo("more")]))
        assert before.superseded
        assert before.content("late") == late.content
        assert before.verify() == []
        assert workspace.vector_count(IMAGE) == 61
        assert workspace.require().verify() == []
    assert_whole(folder, 61)


def test_compact_gives_space_back_while_others_read(folder: Path) -> None:
    with EmbeddedStore.open_writer(folder) as store:
        many = [photo(f"large{number}", size=50_000) for number in range(60)]
        store.put(many, vectors_of(many))
        store.delete([record.id for record in many])
    size = (folder / "index.sqlite").stat().st_size
    with EmbeddedStore.open_reader(folder) as reader:
        before, after = compact(folder)
        assert (before, after) == (size, (folder / "index.sqlite").stat().st_size)
        assert after < size - 2_500_000
        assert reader.content("p7") == PHOTOS[7].content
    assert_whole(folder)
    with EmbeddedStore.open_writer(folder), pytest.raises(StoreLocked):
        compact(folder)
    with EmbeddedStore.open_reader(folder) as reader:
        ids = reader.ids(IMAGE)
        next(ids)
        # A view that stays open is no reason to fail; it is only one if the log could not be emptied.
        assert compact(folder)[1] == after
        assert len(list(ids)) == 59


def test_what_is_no_backup_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database" * 1000)
    cut = tmp_path / "cut"
    back_up(folder, cut)
    os.truncate(cut, cut.stat().st_size // 2)
    for file in (tmp_path / "text", cut):
        with pytest.raises(StoreFormat, match="is not sound"):
            restore(file, tmp_path / "new")
        assert not (tmp_path / "new" / "index.sqlite").exists()
    with pytest.raises(StoreError, match="no backup"):
        restore(tmp_path / "nothing", tmp_path / "new")
    with pytest.raises(StoreUnwritable, match="cannot be written"):
        back_up(folder, tmp_path / "text" / "copy")


def test_a_second_writer_is_told_at_once_or_waits(folder: Path, tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from crossmodal.index.embedded.store import EmbeddedStore
with EmbeddedStore.open_writer(Path(sys.argv[1])):
    Path(sys.argv[2]).touch()
    while not Path(sys.argv[3]).exists():
        time.sleep(0.05)
"""
    started, ending = tmp_path / "started", tmp_path / "ending"
    holder = threading.Thread(target=run_python, args=("-c", code, folder, started, ending))
    holder.start()
    while not started.exists():
        assert holder.is_alive()
    told = run_app("compact", "--workspace", folder)
    assert told.returncode == 1
    assert "is being written by process" in told.stderr
    threading.Timer(1.0, ending.touch).start()
    waited = run_app("compact", "--workspace", folder, "--wait", "60")
    assert waited.returncode == 0, waited.stderr
    holder.join()
