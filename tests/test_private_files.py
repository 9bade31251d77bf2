"""What the library makes can only be read by its owner, and what was there keeps its mode."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_IMODE

import pytest
from conftest import run_app
from store_samples import VSE, photo, vectors_of

from crossmodal.index.embedded.copies import back_up, compact, restore
from crossmodal.index.embedded.store import EmbeddedStore


@pytest.fixture(autouse=True)
def ordinary_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The modes of the folder and of all in it."""
    return {path.name: S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}


def small_index(folder: Path) -> None:
    with EmbeddedStore.open_writer(folder, identity=VSE) as store:
        photos = [photo("a"), photo("b")]
        store.put(photos, vectors_of(photos))
        found = modes(folder)
        assert found.pop(folder.name) == 0o700
        assert {"index.sqlite", "index.sqlite-wal", "index.sqlite-shm", "writer.lock"} <= set(found)
        assert set(found.values()) == {0o600}


def test_an_index_and_its_copies_are_private(tmp_path: Path) -> None:
    small_index(tmp_path / "one")
    back_up(tmp_path / "one", tmp_path / "copy.sqlite")
    assert S_IMODE((tmp_path / "copy.sqlite").stat().st_mode) == 0o600
    restore(tmp_path / "copy.sqlite", tmp_path / "two")
    assert modes(tmp_path / "two") == {"two": 0o700, "index.sqlite": 0o600, "writer.lock": 0o600}
    assert run_app("dump", tmp_path / "all.parquet", "--workspace", tmp_path / "one").returncode == 0
    assert S_IMODE((tmp_path / "all.parquet").stat().st_mode) == 0o600


def test_the_commands_make_a_private_workspace(tmp_path: Path) -> None:
    workspace = tmp_path / "new"
    indexed = run_app("index", "-n", "6", "--workspace", workspace)
    assert indexed.returncode == 0, indexed.stderr
    assert run_app("search", "--workspace", workspace, "a dog").returncode == 0
    assert {"index-report.json", "index.sqlite"} <= set(modes(workspace))
    for path in (workspace, *workspace.rglob("*")):
        if path.is_file() or path == workspace:
            assert S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_what_others_may_read_they_may_still_read(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    small_index(folder)
    folder.chmod(0o755)
    (folder / "index.sqlite").chmod(0o640)
    compact(folder)
    with EmbeddedStore.open_writer(folder) as store:
        photos = [photo("c")]
        store.put(photos, vectors_of(photos))
    found = modes(folder)
    assert (found["shared"], found["index.sqlite"], found["writer.lock"]) == (0o755, 0o640, 0o600)
