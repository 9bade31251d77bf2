"""The index as a whole: which model built it, what is new, what status says."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_samples import CLIP, VSE, caption, photo, run_python, vector_of, vectors_of

from crossmodal.errors import ModelMismatch, OriginalGone, StoreMissing, StoreUnwritable
from crossmodal.index.embedded.schema import FORMAT
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import TEXT, LocalFile, Record
from crossmodal.workspace import Workspace

PHOTOS = [photo(f"p{number}") for number in range(12)]
CAPTIONS = [
    caption(f"p{number}-{position}", f"photo {number}") for number in range(12) for position in (0, 1)
]


def put(workspace: Workspace, records: list[Record]) -> None:
    """As the last step of the index Flow does it, in one transaction."""
    with EmbeddedStore.open_writer(workspace.path, identity=VSE) as store:
        store.put(records, np.stack([vector_of(record.id) for record in records]))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "workspace")
    put(workspace, PHOTOS)
    put(workspace, CAPTIONS)
    return workspace


def test_nothing_there(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "not there")
    assert not workspace.exists()
    with pytest.raises(StoreMissing, match=r"crossmodal index --workspace '.*not there'$"):
        workspace.require()
    with pytest.raises(StoreMissing):
        workspace.status()
    assert workspace.identity() is None
    workspace.check_model(CLIP)
    assert (workspace.find("p0"), workspace.tag_fields(), workspace.search_words("photo", 3)) == (
        None,
        [],
        [],
    )
    assert workspace.standings([PHOTOS[0], CAPTIONS[0]]) == ["new", "new"]
    assert workspace.content("p0") is None
    assert not (tmp_path / "none").exists(), "looking made the folder"


def test_a_folder_without_a_commit_is_no_index(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    (tmp_path / "index.sqlite").touch()
    assert not workspace.exists()


def test_model(workspace: Workspace) -> None:
    assert workspace.identity() == VSE
    workspace.check_model(VSE)
    with pytest.raises(ModelMismatch) as told:
        workspace.check_model(CLIP)
    assert str(VSE) in str(told.value)
    assert str(CLIP) in str(told.value)


def test_the_same_has_the_same_content_and_a_vector(workspace: Workspace) -> None:
    everything = [*PHOTOS, *CAPTIONS]
    assert workspace.standings(everything) == ["same"] * len(everything)
    assert workspace.standings([replace(PHOTOS[0], content_hash="")]) == ["same"]
    changed = [photo("p1", version=1), caption("p2-0", "another text"), photo("new"), PHOTOS[3]]
    assert workspace.standings(changed) == ["new", "new", "new", "same"]
    # Only what is said of it is another: it needs no encoding.
    tagged = replace(PHOTOS[4], tags={"place": "Bern"}, content_hash="")
    assert workspace.standings([tagged]) == ["known"]
    bare = photo("bare")
    with EmbeddedStore.open_writer(workspace.path) as store:
        store.put([bare])
        assert workspace.standings([bare]) == ["new"], "it has no vector"
        store.put([bare], vectors_of([bare]))
    assert workspace.standings([bare], originals=True) == ["same"]
    assert workspace.standings([]) == []


def test_the_same_lies_in_the_same_file(workspace: Workspace) -> None:
    local = LocalFile("/photos", "harbour.jpg", "1000 1 7")
    photo_there = replace(photo("harbour"), local=local, content_hash="").hashed()
    put(workspace, [replace(photo_there, content=None)])
    assert workspace.standings([photo_there]) == ["same"]
    assert workspace.standings([photo_there], originals=True) == ["without original"]
    for other in (replace(local, path="copy.jpg"), replace(local, signature="1000 2 7")):
        assert workspace.standings([replace(photo_there, local=other)]) == ["known"]
    # An upload of it has no file from which its original could come.
    uploaded = replace(photo_there, local=None, content_hash="")
    assert workspace.standings([uploaded]) == ["new"]


def test_originals_and_thumbnails(workspace: Workspace) -> None:
    assert workspace.content("p5") == (PHOTOS[5].content, "image/jpeg")
    assert workspace.thumbnail("p5") == (PHOTOS[5].thumbnail, "image/jpeg")
    for id in ("missing", "", "../../etc/passwd", "x" * 2000, "p0-0"):
        assert workspace.content(id) is None
        assert workspace.thumbnail(id) is None
    without = replace(photo("gone"), content=None, mime_type=None)
    put(workspace, [without])
    with pytest.raises(OriginalGone, match="The file of the photo 'gone' is not there any more"):
        workspace.content("gone")
    assert workspace.thumbnail("gone") is not None
    record = workspace.get("p7-1", TEXT)
    assert record is not None
    assert (record.text, record.photo_id) == ("photo 7", "p7")


def test_status(workspace: Workspace) -> None:
    status = workspace.status()
    assert json.loads(json.dumps(status)) == status
    assert status["path"] == str(workspace.path.absolute())
    assert status["format"] == FORMAT
    assert status["model"] == VSE.to_json()
    image, text = status["modalities"]["image"], status["modalities"]["text"]
    assert (image["documents"], image["vectors"], image["model"]) == (12, 12, "vse")
    assert (text["documents"], text["vectors"], text["model"]) == (24, 24, "vse")
    assert (image["search"]["tier"], image["search"]["recall"]) == ("exact", 1.0)
    files = [file for file in workspace.path.rglob("*") if file.name != "reserve"]
    on_disk = sum(file.stat().st_size for file in files if file.is_file())
    assert status["bytes_on_disk"] == on_disk
    assert image["bytes_on_disk"] == 12 * (1000 + 50 + 4 * 8)
    assert text["bytes_on_disk"] == 24 * 4 * 8
    assert status["last_change"] == text["last_change"] > image["last_change"]


def test_status_follows_changes_and_a_workspace_that_was_replaced(workspace: Workspace) -> None:
    assert workspace.status()["modalities"]["image"]["documents"] == 12
    put(workspace, [photo("more")])
    assert workspace.status()["modalities"]["image"]["documents"] == 13
    Workspace(workspace.path).delete()
    assert not workspace.exists()
    put(workspace, [photo("other")])
    status = workspace.status()
    assert status["modalities"]["image"]["documents"] == 1
    assert status["modalities"]["text"]["documents"] == 0
    assert workspace.content("other") is not None


def test_status_loads_no_model(workspace: Workspace) -> None:
    code = """
import sys
from pathlib import Path
from crossmodal.workspace import Workspace
print(Workspace(Path(sys.argv[1])).status()["modalities"]["text"]["documents"])
heavy = {"torch", "faiss", "docarray", "jina", "timm", "open_clip", "PIL"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    done = run_python(code, workspace.path)
    assert (done.returncode, done.stdout) == (0, "24\n"), done.stderr


def test_package_is_cheap_to_import() -> None:
    code = """
import sys
import crossmodal
assert "numpy" not in sys.modules and "sqlite3" not in sys.modules
assert crossmodal.__all__ == sorted(crossmodal.__all__)
for name in crossmodal.__all__:
    assert getattr(crossmodal, name).__name__ == name and name in dir(crossmodal)
try:
    crossmodal.nothing
except AttributeError as error:
    print(error)
"""
    done = run_python(code)
    assert (done.returncode, done.stdout) == (0, "module 'crossmodal' has no attribute 'nothing'\n"), (
        done.stderr
    )


def test_require_writable(workspace: Workspace, tmp_path: Path) -> None:
    workspace.require_writable()
    new = Workspace(tmp_path / "a" / "b")
    new.require_writable()
    assert list(new.path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnwritable, match="--workspace"):
        Workspace(tmp_path / "file").require_writable()
    with pytest.raises(StoreUnwritable, match="Not a directory"):
        Workspace(tmp_path / "file" / "inside").require_writable()
    if sys.platform == "linux" and os.path.isdir("/proc"):  # noqa: PTH112
        with pytest.raises(StoreUnwritable):
            Workspace(Path("/proc/workspace")).require_writable()


def test_standings_are_cheap(tmp_path: Path) -> None:
    """A batch needs one read, without opening anything again."""
    workspace = Workspace(tmp_path)
    put(workspace, PHOTOS)
    workspace.standings(PHOTOS)
    opened: list[Path] = []
    original = EmbeddedStore.open_reader

    def open_reader(path: Path, **options: object) -> EmbeddedStore:
        opened.append(path)
        return original(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmbeddedStore, "open_reader", open_reader)
        for _ in range(20):
            assert workspace.standings(PHOTOS) == ["same"] * 12
    assert opened == []
    assert np.array_equal(vectors_of(PHOTOS[:1])[0], vector_of("p0"))
