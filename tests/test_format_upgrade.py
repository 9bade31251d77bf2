"""An index of format 4, 5, 6 or 7 becomes one of today's in one transaction, with its ids and answers."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, run_app
from old_indexes import FIXTURES, unpack

from crossmodal import PhotoIndex
from crossmodal.errors import StoreFormat
from crossmodal.index.embedded.conversion import convert
from crossmodal.index.embedded.schema import vector_table
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.models.registry import banks_of, identify_model
from crossmodal.records import IMAGE, MODALITIES, Look

pytestmark = pytest.mark.usefixtures("encoders_loaded_once")

EXPECTED: dict[str, Any] = json.loads((FIXTURES / "format-4.json").read_text(encoding="utf-8"))

# Where the photos lay when the fixture was made.
FOLDER = "/tmp/format-4/photos"

_SLOWLY = """
import sys, time
from pathlib import Path
from crossmodal.index.embedded.upgrade import upgrade
def progress(done, total):
    print(done, flush=True)
    time.sleep(0.2)
upgrade(Path(sys.argv[1]), progress)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An index of three photos with captions that were indexed from a folder, and an upload."""
    return unpack(4, tmp_path)


def assert_as_before(workspace: Path) -> None:
    with EmbeddedStore.open_reader(workspace) as store:
        assert store.verify() == []
        assert [(root.path, root.files) for root in store.library.roots()] == [(f"{FOLDER}/images", 3)]
    with PhotoIndex(workspace) as index:
        found = [
            [record.modality, record.id, record.text, record.uri, record.photo_id, dict(record.tags)]
            for record in index
        ]
        assert found == EXPECTED["records"]
        # Their order is that of today's model.
        found_now = {match.id for match in index.search_text("a rocket", 4)}
        assert found_now == {id for id, _ in EXPECTED["search"]}
        for photo, captions in EXPECTED["captions"].items():
            assert [caption.id for caption in index.captions_of(photo)] == captions
            # Copies of the files are in it.
            assert index.photo(photo)


def test_it_holds_and_answers_what_it_did_before(workspace: Path) -> None:
    before = vectors_of(workspace)
    with pytest.raises(StoreFormat, match="Convert it with: crossmodal convert"):
        PhotoIndex(workspace)
    done = run_app("convert", "--workspace", workspace)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Converted the index in {workspace}: 4 photos, 3 captions.\n"
    assert_as_before(workspace)
    assert vectors_of(workspace) == before
    again = run_app("convert", "--workspace", workspace)
    assert "there is nothing to convert" in again.stdout


@pytest.mark.parametrize("documents", [1, 4, 7])
def test_killed_it_has_not_begun(workspace: Path, documents: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SLOWLY, workspace], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < documents:
            pass
        os.kill(process.pid, signal.SIGKILL)
    with sqlite3.connect(f"file:{workspace}/index.sqlite?mode=ro", uri=True) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (4,)
    connection.close()
    assert run_app("convert", "--workspace", workspace).returncode == 0
    assert_as_before(workspace)


def test_format_5_keeps_everything_and_gets_the_tables_of_a_new_index(tmp_path: Path) -> None:
    workspace = unpack(5, tmp_path)
    before = vectors_of(workspace)
    with pytest.raises(StoreFormat, match="Convert it with: crossmodal convert"):
        PhotoIndex(workspace)
    done = run_app("convert", "--workspace", workspace)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Converted the index in {workspace}: 2 photos, 3 captions.\n"
    expected = json.loads((FIXTURES / "format-5.json").read_text(encoding="utf-8"))
    with EmbeddedStore.open_reader(workspace) as store:
        assert store.verify() == []
        assert [each.file for each in store.library.trash()] == ["/tmp/format-5/photos/images/coffee.jpg"]
        assert len(store.caption_ids("8766e5eb6734b3906697")) == 2
        assert_ranked_with_the_hubness_of_its_model(store)
    with PhotoIndex(workspace) as index:
        assert {each.id for each in index.search_text("a rocket", 4)} == {id for id, _ in expected["search"]}
        found = [[r.modality, r.id, r.text, r.uri, r.photo_id, dict(r.metadata)] for r in index]
        assert found == expected["records"]
    assert vectors_of(workspace) == before
    EmbeddedStore.open_writer(tmp_path / "new").close()
    assert tables_of(workspace) == tables_of(tmp_path / "new")


# Both were made of the same photos; what they answer is in one file.
@pytest.mark.parametrize("format", [6, 7])
def test_formats_6_and_7_get_what_a_new_index_notes_of_each_photo(tmp_path: Path, format: int) -> None:
    workspace = unpack(format, tmp_path)
    before = vectors_of(workspace)
    with pytest.raises(StoreFormat, match="Convert it with: crossmodal convert"):
        PhotoIndex(workspace)
    assert convert(workspace, lambda conversion: None) is not None
    expected = json.loads((FIXTURES / "format-6.json").read_text(encoding="utf-8"))
    with EmbeddedStore.open_reader(workspace) as store:
        assert store.verify() == []
        assert_ranked_with_the_hubness_of_its_model(store)
    with PhotoIndex(workspace) as index:
        assert {each.id for each in index.search_text("a cat", 4)} == {id for id, _ in expected["search"]}
        assert [[r.modality, r.id, r.text, r.uri, r.photo_id, dict(r.metadata)] for r in index] == expected[
            "records"
        ]
        looks = {record.file: index.look(record.id) for record in index.page()}
    assert looks == {"cat.jpg": Look(451, 300, "#947057"), "coffee.jpg": Look(600, 400, "#9e5634")}
    assert vectors_of(workspace) == before
    EmbeddedStore.open_writer(tmp_path / "new").close()
    assert tables_of(workspace) == tables_of(tmp_path / "new")


def test_an_empty_index_is_converted(tmp_path: Path) -> None:
    EmbeddedStore.open_writer(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 5")
    done = run_app("convert", "--workspace", tmp_path)
    assert done.stdout == f"Converted the index in {tmp_path}: 0 photos, 0 captions.\n"


def assert_ranked_with_the_hubness_of_its_model(store: EmbeddedStore) -> None:
    banks = banks_of(identify_model("clip-mini"))
    assert banks is not None
    assert store.banks_fingerprint == banks.fingerprint
    for modality in MODALITIES:
        vectors = store.vectors(store.ids(modality), modality)
        hubness = banks.hubness(np.stack(list(vectors.values())), modality).tolist()
        assert store.hubness(vectors, modality) == dict(zip(vectors, hubness, strict=True))
        assert 0.0 not in hubness


def vectors_of(workspace: Path) -> dict[tuple[str, str], bytes]:
    """The stored vectors by modality and id."""
    with closing(sqlite3.connect(f"file:{workspace}/index.sqlite?mode=ro", uri=True)) as connection:
        return {
            (modality, id): vector
            for modality in MODALITIES
            for id, vector in connection.execute(f"SELECT id, vector FROM {vector_table(modality)}")
        }


def tables_of(workspace: Path) -> set[tuple[Any, ...]]:
    """The columns of all tables, and the statements that made indexes."""
    with closing(sqlite3.connect(f"file:{workspace}/index.sqlite?mode=ro", uri=True)) as connection:
        made = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        columns = {
            (name, *column)
            for kind, name, _ in made
            if kind == "table"
            for column in connection.execute(f"PRAGMA table_info('{name}')")
        }
    return columns | {each for each in made if each[0] == "index"}


def test_indexing_again_moves_and_renumbers_without_encoding(workspace: Path, tmp_path: Path) -> None:
    run_app("convert", "--workspace", workspace)
    with PhotoIndex(workspace) as index:
        photos = {
            Path(str(record.uri)).name: index.photo(record.id) or b""
            for record in index
            if record.modality == IMAGE and record.uri
        }
        ids = {Path(str(record.uri)).name: record.id for record in index if record.modality == IMAGE}
    # The photos are in another folder now, with captions of which one is gone.
    folder = tmp_path / "photos"
    (folder / "images").mkdir(parents=True)
    for name, content in photos.items():
        (folder / "images" / name).write_bytes(content)
    (folder / "captions.txt").write_text("image,caption\ncat.jpg,whiskers and fur\n", encoding="utf-8")
    started = time.monotonic()
    with PhotoIndex(workspace) as index:
        summary = index.add(folder)
        assert time.monotonic() > started
        assert (summary.moved, summary.added, summary.failures) == (3, 1, [])
        assert {Path(str(r.uri)).name: r.id for r in index if r.modality == IMAGE and r.uri} == {
            name: ids[name] for name in photos
        }
        assert [caption.text for caption in index.captions_of(ids["cat.jpg"])] == ["whiskers and fur"]
        assert index.captions_of(ids["rocket.jpg"]) == []
