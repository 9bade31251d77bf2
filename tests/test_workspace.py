"""The index as a whole: where stores lie, which model built them, what is unchanged, what status says."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_samples import CLIP, VSE, caption, photo, run_python, vector_of, vectors_of

from crossmodal.errors import ModelMismatch, StoreError, StoreMissing, StoreUnwritable
from crossmodal.records import Record
from crossmodal.stores import FORMAT, Store
from crossmodal.workspace import IMAGE_CONTENTS, IMAGE_VECTORS, TEXTS, Workspace, shard_of

PHOTOS = [photo(f"p{number}") for number in range(12)]
CAPTIONS = [
    caption(f"p{number}-{position}", f"photo {number}") for number in range(12) for position in (0, 1)
]


def put(
    workspace: Workspace, name: str, records: list[Record], shards: int = 1, vectors: bool = True
) -> None:
    """What the executors do: each shard its part, in one transaction."""
    for shard in range(shards):
        mine = [record for record in records if shard_of(record.id, shards) == shard]
        with Store.open_writer(workspace.store_path(name, shard, shards), identity=VSE) as store:
            if mine:
                store.put(mine, np.stack([vector_of(record.id) for record in mine]) if vectors else None)


def bare(records: list[Record]) -> list[Record]:
    return [Record(id=r.id, modality=r.modality, content_hash=r.content_hash) for r in records]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "workspace")
    put(workspace, IMAGE_VECTORS, bare(PHOTOS), shards=2)
    put(workspace, IMAGE_CONTENTS, PHOTOS, shards=2, vectors=False)
    put(workspace, TEXTS, CAPTIONS, shards=2)
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
    workspace.check_shards(4)
    assert workspace.shards(TEXTS) is None
    assert workspace.unchanged([*PHOTOS, *CAPTIONS]) == set()
    assert workspace.content("p0") is None
    assert not (tmp_path / "none").exists(), "looking made the folder"


def test_a_folder_without_a_commit_is_no_index(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.store_path(TEXTS).mkdir(parents=True)
    (workspace.store_path(TEXTS) / "data.mdb").touch()
    assert not workspace.exists()


def test_layout(workspace: Workspace) -> None:
    assert workspace.store_path("text_indexer", 1, 2) == workspace.path / "text_indexer" / "1-of-2"
    assert [workspace.shards(name) for name in (IMAGE_VECTORS, IMAGE_CONTENTS, TEXTS)] == [2, 2, 2]
    workspace.check_shards(2)
    with pytest.raises(StoreError, match=r"has 2 shards, but 4 are asked for. Leave out --shards"):
        workspace.check_shards(4)
    with Store.open_writer(workspace.store_path(TEXTS, 0, 3)), pytest.raises(StoreError, match="2 and for 3"):
        workspace.shards(TEXTS)


def test_model(workspace: Workspace) -> None:
    assert workspace.identity() == VSE
    workspace.check_model(VSE)
    with pytest.raises(ModelMismatch) as told:
        workspace.check_model(CLIP)
    assert str(VSE) in str(told.value)
    assert str(CLIP) in str(told.value)
    workspace.close()
    for file in workspace.store_path(TEXTS, 0, 2).iterdir():
        file.unlink()
    Store.open_writer(workspace.store_path(TEXTS, 0, 2), identity=CLIP).close()
    with pytest.raises(ModelMismatch, match="two models"):
        workspace.identity()


def test_unchanged_needs_every_store_concerned(workspace: Workspace) -> None:
    everything = [*PHOTOS, *CAPTIONS]
    assert workspace.unchanged(everything) == {record.id for record in everything}
    # Only hashes count: the records of a run with --keep uri hold no bytes in the index.
    assert workspace.unchanged([replace(PHOTOS[0], content_hash="")]) == {"p0"}
    changed = [photo("p1", version=1), caption("p2-0", "another text"), photo("new"), PHOTOS[3]]
    assert workspace.unchanged(changed) == {"p3"}
    # A crash between two commits: the vector of p4 is newer than its bytes.
    newer = photo("p4", version=1)
    put(workspace, IMAGE_VECTORS, bare([newer]), shards=2)
    assert workspace.unchanged([newer]) == workspace.unchanged([PHOTOS[4]]) == set()
    put(workspace, IMAGE_CONTENTS, [newer], shards=2, vectors=False)
    assert workspace.unchanged([newer]) == {"p4"}
    assert workspace.unchanged([PHOTOS[4]]) == set()
    assert workspace.unchanged([]) == set()


def test_content_for_the_gateway(workspace: Workspace) -> None:
    assert workspace.content("p5") == (PHOTOS[5].content, "image/jpeg")
    assert workspace.thumbnail("p5") == (PHOTOS[5].thumbnail, "image/jpeg")
    for id in ("missing", "", "../../etc/passwd", "x" * 2000, "p0-0"):
        assert workspace.content(id) is None
        assert workspace.thumbnail(id) is None
    without = replace(photo("uri"), content=None, mime_type=None)
    put(workspace, IMAGE_CONTENTS, [without], shards=2, vectors=False)
    assert workspace.content("uri") is None
    assert workspace.thumbnail("uri") is not None
    record = workspace.get(TEXTS, "p7-1")
    assert record is not None
    assert (record.text, record.photo_id) == ("photo 7", "p7")


def test_status(workspace: Workspace) -> None:
    status = workspace.status()
    assert json.loads(json.dumps(status)) == status
    assert status["path"] == str(workspace.path.absolute())
    assert (status["format"], status["shards"]) == (FORMAT, 2)
    assert status["model"] == VSE.to_json()
    image, text = status["modalities"]["image"], status["modalities"]["text"]
    assert (image["documents"], image["vectors"], image["model"]) == (12, 12, "vse")
    assert (text["documents"], text["vectors"], text["model"]) == (24, 24, "vse")
    assert (image["search"]["tier"], image["search"]["recall"]) == ("exact", 1.0)
    on_disk = sum(file.stat().st_size for file in workspace.path.rglob("*") if file.is_file())
    assert image["bytes_on_disk"] + text["bytes_on_disk"] == status["bytes_on_disk"] == on_disk
    assert status["last_change"] == text["last_change"] > image["last_change"]


def test_status_follows_changes_and_a_workspace_made_anew(workspace: Workspace) -> None:
    assert workspace.status()["modalities"]["image"]["documents"] == 12
    put(workspace, IMAGE_CONTENTS, [photo("more")], shards=2, vectors=False)
    assert workspace.status()["modalities"]["image"]["documents"] == 13
    Workspace(workspace.path).delete()
    assert not workspace.exists()
    put(workspace, IMAGE_CONTENTS, [photo("other")], vectors=False)
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
assert "numpy" not in sys.modules and "lmdb" not in sys.modules
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


def test_unchanged_is_cheap(tmp_path: Path) -> None:
    """A batch needs one read of each store, without opening anything again."""
    workspace = Workspace(tmp_path)
    put(workspace, IMAGE_VECTORS, bare(PHOTOS))
    put(workspace, IMAGE_CONTENTS, PHOTOS, vectors=False)
    workspace.unchanged(PHOTOS)
    opened: list[Path] = []
    original = Store.open_reader

    def open_reader(path: Path, **options: object) -> Store:
        opened.append(path)
        return original(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "open_reader", open_reader)
        for _ in range(20):
            assert len(workspace.unchanged(PHOTOS)) == 12
    assert opened == []
    assert np.array_equal(vectors_of(PHOTOS[:1])[0], vector_of("p0"))
