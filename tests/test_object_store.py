"""Originals and thumbnails in an object store: what is acknowledged is there, and what nobody names goes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import httpx2
import pytest
from conftest import TOY_IMAGES, run_app, run_here, start_server
from s3_server import s3_server
from store_samples import VSE, photo, run_python, vector_of, vectors_of

from crossmodal import PhotoIndex
from crossmodal.errors import ObjectsUnavailable, SettingsError, StoreLocked
from crossmodal.index import object_store
from crossmodal.index.embedded import objects as index_objects
from crossmodal.index.embedded.changes import Changes
from crossmodal.index.embedded.copies import back_up, compact, restore
from crossmodal.index.embedded.object_care import move_objects, sweep_objects
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import IMAGE, LocalFile, Record


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a disk may take seconds; a server of its own keeps to what it promises."""
    monkeypatch.setattr(object_store, "_LEAST_SECONDS", 60.0)


@pytest.fixture(scope="module")
def s3() -> Iterator[subprocess.Popen[bytes]]:
    with s3_server() as server:
        yield server


def opened(folder: Path, **named: Any) -> EmbeddedStore:
    """The index in a folder, open for writing."""
    return EmbeddedStore.open_writer(folder / "index", identity=VSE, **named)


def address_of(folder: Path) -> str:
    return f"file://{folder / 'bucket'}"


def filled(folder: Path, count: int = 4, *, objects: str | None = None) -> list[Record]:
    """Photos in a new index that puts their bytes into files below its folder, or elsewhere."""
    records = [photo(f"p{number}") for number in range(count)]
    with opened(folder, objects=objects or address_of(folder)) as store:
        assert store.put(records, vectors_of(records)) == ["added"] * count
    return records


def keys_in(address: str) -> list[str]:
    """The names of all objects below an address, but of the one that marks it."""
    fs, path = fsspec.core.url_to_fs(address)
    fs.invalidate_cache()
    names = (name.rpartition("/")[2] for name in fs.find(path))
    return sorted(name for name in names if name != "crossmodal-objects")


def keys_of(records: Sequence[Record]) -> list[str]:
    """What the objects of photos are called."""
    parts = (part for record in records for part in (record.content, record.thumbnail) if part is not None)
    return sorted(hashlib.sha256(part).hexdigest() for part in parts)


def object_state(folder: Path) -> str:
    with EmbeddedStore.open_reader(folder / "index") as store:
        state = store.objects_state()
        assert state is not None
        return str(state["state"])


def wait_for(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.1)


def assert_whole(folder: Path, records: Sequence[Record]) -> None:
    """These photos are in the index with all of their bytes, and no others."""
    with EmbeddedStore.open_reader(folder / "index") as store:
        assert sorted(store.ids(IMAGE)) == sorted(record.id for record in records)
        for record in records:
            assert store.content(record.id) == record.content
            assert store.thumbnail(record.id) == record.thumbnail
        assert store.verify() == []


@pytest.mark.parametrize("kind", ["file", "memory", "s3"])
def test_bytes_lie_in_the_store_under_their_hash_and_the_index_names_them(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "s3":
        request.getfixturevalue("s3")
    if kind == "memory":
        # As of a large index, part by part.
        request.getfixturevalue("monkeypatch").setattr(index_objects, "_FEW_ROWS", 0)
    address = address_of(tmp_path) if kind == "file" else f"{kind}://bucket/{tmp_path.name}"
    records = filled(tmp_path, objects=address)
    assert_whole(tmp_path, records)
    assert keys_in(address) == keys_of(records)
    with closing(sqlite3.connect(tmp_path / "index" / "index.sqlite")) as connection:
        for table in ("contents", "thumbnails"):
            assert connection.execute(f"SELECT DISTINCT typeof(content) FROM {table}").fetchall() == [
                ("text",)
            ]

    # A later writer knows where they belong; what changes of a photo is not its bytes.
    other = photo("p9")
    with opened(tmp_path) as store:
        tagged = Record("p0", IMAGE, tags={"place": "here"}, digest=None, content=records[0].content).hashed()
        store.put([other, tagged], vectors_of([other, records[0]]))
        store.delete(["p1", "p2"])
    left = [records[0], records[3], other]
    assert keys_in(address) == keys_of([*records, other])
    assert sweep_objects(tmp_path / "index") == 4
    assert keys_in(address) == keys_of(left)
    with EmbeddedStore.open_reader(tmp_path / "index") as store:
        assert [store.content(each.id) for each in left] == [each.content for each in left]
        assert store.verify() == []
    assert sweep_objects(tmp_path / "index") == 0


@pytest.mark.parametrize("damaged", ["", "aA"])
def test_a_damaged_reference_costs_no_other_photo(
    damaged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_objects, "_FEW_ROWS", 0)
    records = filled(tmp_path, objects=address_of(tmp_path))
    with closing(sqlite3.connect(tmp_path / "index" / "index.sqlite")) as connection, connection:
        # In the place of a digest that begins with two digits, what sorts before, or in between.
        connection.execute(
            "UPDATE contents SET content = CASE ?1 WHEN '' THEN '' ELSE"
            " substr(content, 1, 17) || 'aA' || substr(content, 20) END"
            " WHERE row = (SELECT min(row) FROM contents)",
            (damaged,),
        )
    assert sweep_objects(tmp_path / "index") == 1
    with opened(tmp_path) as store:
        for record in records[1:]:
            assert store.content(record.id) == record.content
            assert store.thumbnail(record.id) == record.thumbnail


# What is killed just before it is called for the second photo or, as that has two objects, in the middle.
STEPS = {
    "before the bytes": ("crossmodal.index.object_store.ObjectStore.put", 1),
    "between two objects": ("crossmodal.index.object_store._write_file", 2),
    "between bytes and record": ("crossmodal.index.embedded.changes.StoredDocument.of", 1),
    "between record and commit": ("crossmodal.index.embedded.changes.Changes._finish", 1),
}
KILLED = """
import os, sys
from pathlib import Path
from pkgutil import resolve_name
from store_samples import VSE, photo, vectors_of
from crossmodal.index import object_store
from crossmodal.index.embedded.store import EmbeddedStore

object_store._LEAST_SECONDS = 60.0
folder, name, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = EmbeddedStore.open_writer(folder / "index", identity=VSE, objects=f"file://{folder / 'bucket'}")
store.put([photo("p0")], vectors_of([photo("p0")]))
print("p0", flush=True)
if name != "commit":
    owner, method = name.rsplit(".", 1)
    owner, calls = resolve_name(owner), iter(range(1, 9))
    whole = getattr(owner, method)

    def stopping(*arguments, **named):
        if next(calls) == number:
            os.kill(os.getpid(), 9)
        return whole(*arguments, **named)

    setattr(owner, method, stopping)
store.put([photo("p1")], vectors_of([photo("p1")]))
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("step", [*STEPS, "between commit and answer"])
def test_a_kill_between_two_steps_loses_nothing_that_was_acknowledged(step: str, tmp_path: Path) -> None:
    name, number = STEPS.get(step, ("commit", 0))
    done = run_python(KILLED, tmp_path, name, str(number))
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "p0\n"), done.stderr
    there = [photo("p0")] if step in STEPS else [photo("p0"), photo("p1")]
    assert_whole(tmp_path, there)
    left = {"before the bytes": 0, "between two objects": 1, "between commit and answer": 0}.get(step, 2)
    assert sweep_objects(tmp_path / "index") == left
    assert keys_in(address_of(tmp_path)) == keys_of(there)
    # It is written as if nothing had been.
    with opened(tmp_path) as store:
        store.put([photo("p1")], vectors_of([photo("p1")]))
    assert_whole(tmp_path, [photo("p0"), photo("p1")])


def test_a_kill_while_sweeping_or_moving_loses_nothing(tmp_path: Path) -> None:
    records = filled(tmp_path, 80)
    with opened(tmp_path) as store:
        store.delete([record.id for record in records[:40]])
    code = """
import os, sys
from pathlib import Path
from crossmodal.index import object_store
from crossmodal.index.embedded import object_care

object_store._LEAST_SECONDS = 60.0
folder = Path(sys.argv[1]) / "index"
if sys.argv[2] == "sweep":
    whole, calls = os.remove, iter(range(99))
    os.remove = lambda path: os.kill(os.getpid(), 9) if next(calls) == 9 else whole(path)
    object_care.sweep_objects(folder)
else:
    object_care.move_objects(folder, sys.argv[2], lambda moving: os.kill(os.getpid(), 9))
"""
    there = records[40:]
    for work in ("sweep", "embedded", f"file://{tmp_path / 'other'}"):
        done = run_python(code, tmp_path, work)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert_whole(tmp_path, there)
        assert work != "sweep" or len(keys_in(address_of(tmp_path))) == 160 - 9
    moved = move_objects(tmp_path / "index", f"file://{tmp_path / 'other'}", lambda moving: None)
    assert moved is not None
    assert moved.lost == 0
    assert_whole(tmp_path, there)
    assert keys_in(address_of(tmp_path)) == []
    assert keys_in(f"file://{tmp_path / 'other'}") == keys_of(there)


def test_nothing_is_swept_that_a_write_in_progress_is_about_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, 1)
    put, go_on = threading.Event(), threading.Event()
    whole = Changes._finish

    def waiting(changes: Changes) -> None:
        put.set()
        assert go_on.wait(30)
        whole(changes)

    monkeypatch.setattr(Changes, "_finish", waiting)
    with opened(tmp_path) as store:
        writing = threading.Thread(target=store.put, args=([photo("p1")], vectors_of([photo("p1")])))
        writing.start()
        assert put.wait(30)
        assert keys_in(address_of(tmp_path)) == keys_of([photo("p0"), photo("p1")])
        with pytest.raises(StoreLocked):
            sweep_objects(tmp_path / "index")
        go_on.set()
        writing.join()
    assert sweep_objects(tmp_path / "index") == 0
    assert_whole(tmp_path, [photo("p0"), photo("p1")])


def test_of_two_writers_of_one_id_one_wins_whole(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    versions = [photo("p0", version=version, size=4000) for version in range(1, 9)]
    with opened(tmp_path) as store:
        threads = [
            threading.Thread(target=store.put, args=([record], vectors_of([record]))) for record in versions
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (found,) = store.get(["p0"], IMAGE)
        assert found is not None
        won = versions[found.tags["version"] - 1]
        assert (store.content("p0"), store.thumbnail("p0")) == (won.content, won.thumbnail)
        assert store.vectors(["p0"], IMAGE)["p0"].tolist() == vector_of("p0", found.tags["version"]).tolist()
    sweep_objects(tmp_path / "index")
    assert keys_in(address_of(tmp_path)) == keys_of([won])


def test_a_photo_in_the_trash_keeps_its_bytes_and_comes_back_with_them(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    file = LocalFile(str(tmp_path), "a.jpg", "signature")
    content, thumbnail = (TOY_IMAGES / "gravel.jpg").read_bytes(), (TOY_IMAGES / "coins.jpg").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    record = Record("t", IMAGE, local=file, digest=digest, content=content, thumbnail=thumbnail).hashed()
    with opened(tmp_path) as store:
        store.put([record], vectors_of([record]))
        look = store.looks(["t"])["t"]
        assert look.colour is not None
        assert store.library.forget([file]) == ["t"]
        assert store.content("t") is None
    assert sweep_objects(tmp_path / "index") == 0
    with opened(tmp_path) as store:
        assert store.library.restore(["t"]) == ["t"]
        assert (store.content("t"), store.thumbnail("t")) == (content, thumbnail)
        assert store.looks(["t"])["t"] == look
        assert store.verify() == []
        store.delete(["t"])
    assert sweep_objects(tmp_path / "index") == 2


def test_what_the_store_lost_or_altered_is_found_and_repaired_by_indexing_it_again(tmp_path: Path) -> None:
    records = filled(tmp_path)
    files = {path.name: path for path in (tmp_path / "bucket").rglob("*/??/*")}
    files[keys_of([records[0]])[0]].unlink()
    original = hashlib.sha256(records[1].content or b"").hexdigest()
    files[original].write_bytes(b"\0" * 1000)
    with opened(tmp_path) as store:
        # Of the right size, so that it is noticed when it is read.
        (said,) = store.verify()
        assert "'p0', row 0, is missing" in said
        with pytest.raises(Exception, match="the original of 'p1', row 1"):
            store.content("p1")
        assert {(error.id, error.modality) for error in store.damaged()} == {("p0", IMAGE), ("p1", IMAGE)}
        assert store.standings(records) == ["new", "new", "same", "same"]
        assert store.put(records, vectors_of(records)) == ["replaced", "replaced", "unchanged", "unchanged"]
        assert store.damaged() == []
    assert_whole(tmp_path, records)


def test_a_backup_names_the_objects_and_what_is_restored_elsewhere_leaves_them_alone(tmp_path: Path) -> None:
    records = filled(tmp_path)
    back_up(tmp_path / "index", tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "copy" / "index")
    assert_whole(tmp_path / "copy", records)
    with opened(tmp_path / "copy") as store:
        store.delete(["p0", "p1"])
        store.put([photo("p8")], vectors_of([photo("p8")]))
    # They are the first index's, which knows nothing of what the copy put.
    assert sweep_objects(tmp_path / "copy" / "index") == 0
    assert sweep_objects(tmp_path / "index") == 0
    assert_whole(tmp_path, records)
    assert_whole(tmp_path / "copy", [*records[2:], photo("p8")])

    # In the place of the index that it is a backup of, it goes on with its objects.
    with opened(tmp_path) as store:
        store.delete(["p3"])
        store.put([photo("p7")], vectors_of([photo("p7")]))
    restore(tmp_path / "backup", tmp_path / "index", replace=True)
    assert sweep_objects(tmp_path / "index") == 2
    assert_whole(tmp_path, records)

    # On its own feet the copy needs nothing of the first any more.
    moved = move_objects(tmp_path / "copy" / "index", address_of(tmp_path), lambda moving: None)
    assert moved is not None
    assert moved.done == 4
    shutil.rmtree(tmp_path / "index")
    assert_whole(tmp_path / "copy", [*records[2:], photo("p8")])


def test_an_index_with_photos_says_how_its_objects_are_moved(tmp_path: Path) -> None:
    records = filled(tmp_path)
    with opened(tmp_path, objects=address_of(tmp_path) + "/"):
        pass
    for objects, reason in (
        ("embedded", "convert --workspace .*--objects embedded"),
        (f"file://{tmp_path}/other", "Move them with"),
        ("some/folder", "it must be embedded, or an address"),
        ("s3://key:secret@bucket/folder", "has a password"),
        ("file:///proc/nowhere", "convert"),
    ):
        with pytest.raises(SettingsError, match=reason), opened(tmp_path, objects=objects):
            pass
    with pytest.raises(SettingsError, match="Nothing can be written to file:///proc/no"):
        move_objects(tmp_path / "index", "file:///proc/no", lambda moving: None)
    assert_whole(tmp_path, records)


def test_the_command_line_puts_moves_sweeps_dumps_and_loads(tmp_path: Path) -> None:
    workspace, bucket = tmp_path / "w", f"file://{tmp_path / 'bucket'}"
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("gravel.jpg", "coins.jpg", "grass.jpg"):
        shutil.copy(TOY_IMAGES / name, photos)
    given = ("--workspace", workspace)
    done = run_here("index", photos, *given, "--keep", "original", "--objects", bucket)
    assert done.returncode == 0, done.stderr
    assert len(keys_in(bucket)) == 6
    assert f"originals and thumbnails lie in {bucket}: ready" in run_here("status", *given).stdout
    assert run_here("verify", *given).returncode == 0

    (photos / "coins.jpg").unlink()
    for command in (("index", photos), ("trash", "empty"), ("compact",)):
        done = run_here(*command, *given)
        assert done.returncode == 0, done.stderr
    assert "Deleted 2 objects that no photo has any more" in done.stdout
    assert run_here("dump", tmp_path / "dump.parquet", *given).returncode == 0
    done = run_here("convert", *given, "--objects", "embedded")
    assert "Moved 4 originals and thumbnails to embedded" in done.stdout
    assert keys_in(bucket) == []

    loaded = tmp_path / "loaded"
    done = run_here("load", tmp_path / "dump.parquet", "--workspace", loaded, "--objects", bucket)
    assert done.returncode == 0, done.stderr
    assert len(keys_in(bucket)) == 4
    with PhotoIndex(workspace) as index, PhotoIndex(loaded) as other:
        hits = index.search("small stones")
        assert [(hit.id, hit.cosine) for hit in other.search("small stones")] == [
            (hit.id, hit.cosine) for hit in hits
        ]
        for hit in hits:
            assert index.photo(hit.id) == other.photo(hit.id)
            assert index.thumbnail(hit.id) == other.thumbnail(hit.id)


def test_a_store_that_was_emptied_is_away_and_its_photos_are_not_damaged(tmp_path: Path) -> None:
    records = filled(tmp_path)
    bucket = tmp_path / "bucket"
    bucket.rename(tmp_path / "elsewhere")
    with opened(tmp_path) as store:
        with pytest.raises(ObjectsUnavailable, match="could not read"):
            store.content("p0")
        (said,) = store.verify()
        assert "it is not known whether all originals and thumbnails are there" in said
        with pytest.raises(ObjectsUnavailable):
            store.put([photo("p9")], vectors_of([photo("p9")]))
        assert store.damaged() == []
    with pytest.raises(ObjectsUnavailable):
        sweep_objects(tmp_path / "index")
    assert not bucket.exists()
    (tmp_path / "elsewhere").rename(bucket)
    wait_for(lambda: object_state(tmp_path) == "ready")
    assert_whole(tmp_path, records)


def test_a_store_that_is_away_holds_up_nothing_but_bytes(s3: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with PhotoIndex(tmp_path, keep="original", objects="s3://bucket/served") as index:
        index.add(TOY_IMAGES / "gravel.jpg")
        (hit,) = index.search("small stones")
    server = start_server("query_restful", "--workspace", tmp_path, "--keep", "original")
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        bytes_of = [f"/v1/documents/{hit.id}/{part}" for part in ("content", "thumbnail")]
        wait_for(lambda: all(client.get(path).status_code == 200 for path in bytes_of))
        before = [client.get(path) for path in bytes_of]
        assert before[0].content == (TOY_IMAGES / "gravel.jpg").read_bytes()
        assert client.get("/readyz").json()["objects"] == "ready"

        os.kill(s3.pid, signal.SIGSTOP)
        try:
            for path in bytes_of * 2:
                answer = client.get(path)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
                assert "The object store that holds originals and thumbnails" in answer.json()["detail"]
            found = client.post("/v1/search", json={"text": "small stones", "group_duplicates": True})
            assert found.status_code == 200
            assert found.json()["results"][0]["matches"][0]["id"] == hit.id
            refused = client.post(
                "/v1/documents", files={"file": ("a.jpg", (TOY_IMAGES / "coins.jpg").read_bytes())}
            )
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2"), refused.text
            ready = client.get("/readyz")
            assert (ready.status_code, ready.json()["objects"]) == (200, "away")
            assert client.get("/v1/status").json()["objects"]["state"] == "away"
            assert "crossmodal_objects_up 0.0" in client.get("/metrics").text
            status = run_app("status", "--workspace", tmp_path)
            assert (status.returncode, "s3://bucket/served: The object store" in status.stdout) == (1, True)
        finally:
            os.kill(s3.pid, signal.SIGCONT)
        wait_for(lambda: client.get("/readyz").json()["objects"] == "ready")
        assert [client.get(path).content for path in bytes_of] == [answer.content for answer in before]
        assert client.get("/v1/status").json()["damaged"] == []
        stored = client.post(
            "/v1/documents", files={"file": ("a.jpg", (TOY_IMAGES / "coins.jpg").read_bytes())}
        )
        assert stored.status_code < 300, stored.text
        assert "crossmodal_objects_up 1.0" in client.get("/metrics").text
    assert server.stop() == 0
    with EmbeddedStore.open_reader(tmp_path) as store:
        assert store.verify() == []
        assert store.counts(IMAGE).documents == 2


def test_compacting_keeps_what_is_named(tmp_path: Path) -> None:
    records = filled(tmp_path)
    compact(tmp_path / "index")
    assert_whole(tmp_path, records)
