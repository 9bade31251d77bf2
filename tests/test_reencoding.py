"""An index goes over to another model, or to new weights, and keeps what people gave; killed, it goes on."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, TOY_IMAGES, clean_environment, copy_index, run_here

from crossmodal import PhotoIndex, Workspace
from crossmodal.data_sets import open_data_set
from crossmodal.errors import ModelMismatch, StoreLocked, StoreUnwritable
from crossmodal.index.embedded.new_vectors import PLACES, NewVectors, put_in_place
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.models import identify_model
from crossmodal.records import IMAGE, MODALITIES, TEXT, Record, photo_id
from crossmodal.vector_files import VectorWriter

pytestmark = pytest.mark.usefixtures("encoders_loaded_once")

NAMES = ("bricks", "cat", "dandelion", "raccoon")
LOST = "rocket"
QUERIES = ("a cat looks into the camera", "a wall", "something that flies")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files") / "photos"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(TOY_IMAGES / f"{name}.jpg", folder)
    return folder


@pytest.fixture(scope="module")
def by_vse(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("by-vse") / "index", "vse", folder)


@pytest.fixture(scope="module")
def by_clip_mini(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("by-clip-mini") / "index", "clip-mini", folder)


@pytest.fixture
def workspace(by_vse: Path, tmp_path: Path) -> Path:
    return copy_index(by_vse, tmp_path / "index")


def filled(workspace: Path, model: str, folder: Path) -> Path:
    """Photos in files, one that went to the trash, and an upload with tags and captions given by hand."""
    content = (TOY_IMAGES / "coffee.jpg").read_bytes()
    upload = Record("coffee", IMAGE, content=content, tags={"who": "Ann", "rating": 5})
    caption = Record("said", TEXT, text="the first cup of the day", photo_id="coffee", tags={"mood": "good"})
    with PhotoIndex(workspace, model) as index:
        shutil.copy2(TOY_IMAGES / f"{LOST}.jpg", folder)
        assert index.add(folder).added == len(NAMES) + 1
        lost = photo_id_of(folder / f"{LOST}.jpg")
        more = Record("flying", TEXT, text="it leaves the ground", photo_id=lost)
        assert index.add([upload, caption, more]).added == 3
        (folder / f"{LOST}.jpg").unlink()
        assert index.add(folder).deleted == 1
    return workspace


def photo_id_of(file: Path) -> str:
    (record,) = open_data_set(str(file), data_root=file.parent)
    assert isinstance(record, Record)
    return record.id


def assert_same(found: Path, expected: Path, *, but: str | None = None) -> None:
    """Both indexes hold and find the same; of the photo ``but`` the vector may be another."""
    with Workspace(found) as one, Workspace(expected) as other:
        assert one.identity() == other.identity()
        assert one.banks_fingerprint == other.banks_fingerprint != ""
        for modality in MODALITIES:
            ids = list(other.ids(modality))
            assert one.records(ids, modality) == other.records(ids, modality)
            assert list(one.ids(modality)) == ids
            ids = [id for id in ids if id != but]
            assert one.hubness(ids, modality) == pytest.approx(other.hubness(ids, modality), abs=1e-6)
            vectors = [each.vectors(ids, modality) for each in (one, other)]
            for id in ids:
                np.testing.assert_allclose(*(each[id] for each in vectors), atol=1e-6)
    with EmbeddedStore.open_reader(found) as store:
        assert store.verify() == []
    with PhotoIndex(found) as one, PhotoIndex(expected) as other:
        for query in QUERIES:
            answers = [{m.id: m for m in index.search(query, 100)} for index in (one, other)]
            assert answers[0].keys() == answers[1].keys()
            for id in answers[1].keys() - {but}:
                for name in ("cosine", "score"):
                    made, wanted = (getattr(each[id], name) for each in answers)
                    assert made == pytest.approx(wanted, abs=1e-6)


def convert(workspace: Path, *options: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = run_here("convert", "--workspace", workspace, *options)
    assert done.returncode == code, done.stderr
    return done


def test_it_holds_and_finds_what_the_other_model_would_have_made(
    workspace: Path, by_clip_mini: Path, tmp_path: Path
) -> None:
    with PhotoIndex(workspace) as reader:
        assert len(reader.search(QUERIES[0], 10)) == len(NAMES) + 1
        said = convert(workspace, "-m", "clip-mini").stdout
        assert said == (
            "Encoded 5 photos and 1 caption, and 2 of the trash again with clip-mini (from their files: 5; "
            "from thumbnails: 0).\n"
        )
        # It has the other model's weights, whose vectors there are none of any more.
        with pytest.raises(ModelMismatch, match="crossmodal convert"):
            reader.search(QUERIES[1], 10)
    assert_same(workspace, by_clip_mini)
    with Workspace(workspace) as opened:
        record = opened.get("coffee", IMAGE)
        assert record is not None
        assert record.tags == {"who": "Ann", "rating": 5}
        assert [caption.text for caption in opened.captions_of(["coffee"])["coffee"]] == [
            "the first cup of the day"
        ]
    assert "nothing to convert" in convert(workspace, "-m", "clip-mini").stdout
    # What was in the trash comes back with vectors of today as well.
    expected = copy_index(by_clip_mini, tmp_path / "expected")
    for each in (workspace, expected):
        lost = photo_id_of(TOY_IMAGES / f"{LOST}.jpg")
        assert run_here("trash", "restore", lost, "--workspace", each).returncode == 0
    # Its file is gone: the vector is that of its thumbnail.
    assert_same(workspace, expected, but=lost)
    with Workspace(workspace) as one, Workspace(expected) as other:
        made, wanted = (each.vectors([lost], IMAGE)[lost] for each in (one, other))
        assert made @ wanted > 0.9


def test_vectors_may_have_another_length(workspace: Path) -> None:
    convert(workspace, "-m", "clip-mini", "--dim", "64")
    with EmbeddedStore.open_reader(workspace) as store:
        assert (store.dimension, store.verify()) == (64, [])
    with PhotoIndex(workspace) as index:
        assert index.model == "clip-mini?dim=64"
        assert len(index.search(QUERIES[0], 100)) == len(NAMES) + 1


KILLED = """
import os, signal, sys
from pathlib import Path
from crossmodal.engine.reencoding import reencode
from crossmodal.settings import Settings
def stop(state):
    print(state.done, flush=True)
    if state.done >= 2:
        os.kill(os.getpid(), signal.SIGKILL)
reencode(Settings(workspace=Path(sys.argv[1]), model="clip-mini", request_size=1), stop)
"""


def test_killed_it_goes_on_where_it_was(workspace: Path, by_clip_mini: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, workspace],
        cwd=REPOSITORY,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = int(killed.stdout.split()[-1])
    with EmbeddedStore.open_reader(workspace) as store:
        assert store.verify() == []
    with PhotoIndex(workspace) as index:
        assert (index.model, len(index.search(QUERIES[0], 100))) == ("vse", len(NAMES) + 1)
    with NewVectors(workspace, identify_model("clip-mini")) as vectors:
        assert sum(vectors.made_of("documents").values()) == done
        assert len(vectors.rows("documents")) == len(NAMES) + 2 - done
        # Nobody else writes meanwhile.
        with pytest.raises(StoreLocked):
            EmbeddedStore.open_writer(workspace)
    said = convert(workspace, "-m", "clip-mini").stdout
    assert "Encoded 5 photos and 1 caption" in said
    assert_same(workspace, by_clip_mini)
    # For another model it begins anew.
    with NewVectors(workspace, identify_model("vse")) as vectors:
        vectors.add("documents", {vectors.rows("documents")[0]: bytes(2048)}, "text")
    with NewVectors(workspace, identify_model("vse?dim=8")) as vectors:
        assert vectors.made_of("documents") == {}


def test_what_another_process_added_meanwhile_is_not_lost(workspace: Path) -> None:
    with NewVectors(workspace, identify_model("clip-mini")) as vectors:
        failed = {place: set(vectors.rows(place)) for place in PLACES}
    with PhotoIndex(workspace) as index:
        assert index.add([Record("late", TEXT, text="a late caption")]).added == 1
    with pytest.raises(StoreUnwritable, match="changed by another process meanwhile"):
        put_in_place(workspace, identify_model("clip-mini"), failed)
    with PhotoIndex(workspace) as index:
        assert [match.id for match in index.search("a late caption", 1, modality="text")] == ["late"]


def test_a_photo_whose_file_is_gone_is_made_of_its_thumbnail(
    by_vse: Path, by_clip_mini: Path, folder: Path, tmp_path: Path
) -> None:
    workspace = copy_index(by_vse, tmp_path / "index")
    file = folder / "cat.jpg"
    gone = photo_id_of(file)
    file.rename(tmp_path / "elsewhere.jpg")
    try:
        said = convert(workspace, "-m", "clip-mini").stdout
    finally:
        (tmp_path / "elsewhere.jpg").rename(file)
    assert "(from their files: 4; from thumbnails: 1)" in said
    assert_same(workspace, by_clip_mini, but=gone)
    with Workspace(workspace) as one, Workspace(by_clip_mini) as other:
        made, wanted = (each.vectors([gone], IMAGE)[gone] for each in (one, other))
        assert 0.9 < made @ wanted < 1 - 1e-6


def old_weights(workspace: Path) -> None:
    """Has the index say that its model had other weights."""
    with closing(sqlite3.connect(workspace / "index.sqlite")) as connection, connection:
        (text,) = connection.execute("SELECT value FROM meta WHERE name = 'model'").fetchone()
        model = json.dumps({**json.loads(text), "weights": "0" * 16})
        connection.execute("UPDATE meta SET value = ? WHERE name = 'model'", (model,))


def test_weights_of_before_are_told_and_mended_by_one_command(by_clip_mini: Path, tmp_path: Path) -> None:
    workspace = copy_index(by_clip_mini, tmp_path / "index")
    old_weights(workspace)
    refused = run_here("search", "a cat", "--workspace", workspace)
    assert refused.returncode == 1
    assert refused.stderr.endswith(
        "encode all of it again, which keeps tags, captions and uploads, with: crossmodal convert "
        f"--workspace {workspace}\n"
    )
    other = run_here("search", "a cat", "--workspace", workspace, "-m", "vse")
    assert other.stderr.endswith(f"crossmodal convert --workspace {workspace} -m vse\n")
    assert "Encoded 5 photos and 1 caption" in convert(workspace).stdout
    assert_same(workspace, by_clip_mini)
    assert "nothing to convert" in convert(workspace).stdout


@pytest.fixture
def with_vector_alone(by_clip_mini: Path, tmp_path: Path) -> tuple[Path, str]:
    """An index in which one photo has a vector, and nothing that another could be made of."""
    workspace = copy_index(by_clip_mini, tmp_path / "index")
    alone = Record(photo_id("0" * 64), IMAGE, uri="https://example.org/a.jpg", digest="0" * 64)
    with closing(VectorWriter(tmp_path / "vectors", "parquet", identify_model("clip-mini"))) as writer:
        writer.add(alone, np.eye(1, identify_model("clip-mini").dimension, dtype=np.float32)[0])
    with PhotoIndex(workspace) as index:
        assert index.add_embeddings(tmp_path / "vectors").added == 1
        (id,) = {record.id for record in index} - {*Workspace(by_clip_mini).ids(IMAGE), "said"}
    return workspace, id


def test_what_nothing_can_be_made_of_is_named(with_vector_alone: tuple[Path, str]) -> None:
    workspace, id = with_vector_alone
    refused = convert(workspace, "-m", "vse", code=1)
    assert "came with vectors alone: 1. vse cannot encode them; index them from their" in refused.stderr
    with PhotoIndex(workspace) as index:
        assert (index.model, len(index.search(QUERIES[0], 100))) == ("clip-mini", len(NAMES) + 2)
    # Vectors of weights that are no more are no loss.
    old_weights(workspace)
    done = convert(workspace, code=1)
    assert "until indexed again: 1\n" in done.stderr
    assert f"the photo {id!r}: its file is gone, and it has no thumbnail" in done.stderr
    with Workspace(workspace) as opened, EmbeddedStore.open_reader(workspace) as store:
        assert (opened.get(id, IMAGE) is not None, opened.vectors([id], IMAGE)) == (True, {})
        assert (opened.vector_count(IMAGE), store.verify()) == (len(NAMES) + 1, [])
