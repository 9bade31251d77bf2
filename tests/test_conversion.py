"""An index of the format before becomes one of today's, wherever it is killed, and answers as before."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lmdb
import pytest
from conftest import REPOSITORY, run_app
from old_indexes import FIXTURES, unpack

from crossmodal import PhotoIndex
from crossmodal.errors import OriginalGone, StoreFormat, StoreLocked, StoreUnwritable
from crossmodal.index.embedded.conversion import Conversion, convert
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.embedded.writer_lock import WriterLock
from crossmodal.models import identify_model
from crossmodal.records import IMAGE, TEXT, LocalFile
from crossmodal.workspace import Workspace

EXPECTED: dict[str, Any] = json.loads((FIXTURES / "format-3.json").read_text(encoding="utf-8"))

OLD = ("image_vector_indexer", "image_kv_indexer", "text_indexer")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An index of format 3 over two shards, with replaced and deleted documents, and odd names."""
    return unpack(3, tmp_path)


def nothing(_: Conversion) -> None:
    pass


def assert_as_before(workspace: Path) -> None:
    with EmbeddedStore.open_reader(workspace) as store:
        assert store.verify() == []
        assert store.identity is not None
        weights = identify_model("clip-mini").weights
        assert store.identity.to_json() == {
            **EXPECTED["identity"],
            "weights": weights,
            "hubness": store.banks_fingerprint,
        }
    with PhotoIndex(workspace) as index:
        found = {(record.modality, record.id): record for record in index}
        assert set(found) == {(record["modality"], record["id"]) for record in EXPECTED["records"]}
        for expected in EXPECTED["records"]:
            record = found[expected["modality"], expected["id"]]
            for name in ("text", "mime_type", "photo_id", "tags"):
                assert getattr(record, name) == expected[name], (record.id, name)
            # A caption without one says where its photo is.
            assert record.uri == expected["uri"] or (expected["uri"], record.modality) == (None, TEXT)
            if record.modality == IMAGE:
                assert (original_bytes(index, record.id), len(index.thumbnail(record.id) or b"")) == (
                    expected["content"],
                    expected["thumbnail"],
                )
        for query, matches in EXPECTED["searches"].items():
            # All there are; their order is that of today's model and of hubness.
            assert {id for id, _ in matches} <= {match.id for match in index.search(query, 100)}
        for id, matches in EXPECTED["similar"].items():
            assert [(match.id, match.cosine) for match in index.similar(id, 5)] == [
                tuple(match) for match in matches
            ]
        for query, ids in EXPECTED["hybrid"].items():
            assert set(ids) <= {match.id for match in index.search(query, 100, hybrid=True)}
        for id, captions in EXPECTED["captions"].items():
            assert sorted(caption.id for caption in index.captions_of(id)) == sorted(captions)
        # Links, `id:` and deletion go by the same ids as before.
        some = EXPECTED["records"][0]["id"]
        assert index.search(f"id:{some}", 1, modality="image")
        assert some in index.delete([some])


def original_bytes(index: PhotoIndex, id: str) -> int:
    """How many bytes the original of a photo has; 0 where it is neither stored nor in its file."""
    try:
        return len(index.photo(id) or b"")
    except OriginalGone:
        return 0


def test_it_holds_and_answers_what_it_did_before(workspace: Path) -> None:
    refused = run_app("search", "a cat", "--workspace", workspace)
    assert refused.returncode == 1
    assert f"crossmodal convert --workspace {workspace}" in refused.stderr
    done = run_app("convert", "--workspace", workspace)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Converted the index in {workspace}: 16 photos, 42 captions.\n"
    assert not any((workspace / name).exists() for name in (*OLD, "converting"))
    again = run_app("convert", "--workspace", workspace)
    assert (again.returncode, "nothing to convert" in again.stdout) == (0, True)
    assert_as_before(workspace)


CONVERTER = """
import sys, time
from pathlib import Path
from crossmodal.index.embedded import conversion
conversion._BATCH_DOCUMENTS = 3
def slowly(done):
    print(done.done, flush=True)
    time.sleep(0.01)
conversion.convert(Path(sys.argv[1]), slowly)
"""


def test_killed_at_any_moment_it_goes_on_where_it_was(workspace: Path) -> None:
    chance = random.Random(12)
    counts = []
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", CONVERTER, str(workspace)], cwd=REPOSITORY, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if not (workspace / "converting").exists():
            break
        # Until it is complete the old index is the index, and nobody takes the new one for it.
        with pytest.raises(StoreFormat, match="crossmodal convert"):
            Workspace(workspace).exists()
        with EmbeddedStore.open_reader(workspace / "converting") as half:
            counts.append(half.counts(IMAGE).documents + half.counts(TEXT).documents)
    assert counts == sorted(counts)
    assert counts
    conversion = convert(workspace, nothing)
    assert conversion is None or conversion.left_out == []
    assert_as_before(workspace)


def test_killed_before_the_old_stores_are_removed(workspace: Path, tmp_path: Path) -> None:
    shutil.copytree(workspace, tmp_path / "before")
    convert(workspace, nothing)
    for name in OLD:
        shutil.copytree(tmp_path / "before" / name, workspace / name)
    assert Workspace(workspace).vector_count(IMAGE) == 16
    assert convert(workspace, nothing) is not None
    assert not any((workspace / name).exists() for name in OLD)
    assert_as_before(workspace)


def test_what_is_damaged_or_half_there_is_left_out_and_named(workspace: Path) -> None:
    with changing(workspace / "image_kv_indexer" / "0-of-2") as (transaction, trees):
        (id, number), *_ = transaction.cursor(trees["ids"])
        transaction.delete(number, db=trees["documents"])
    with changing(workspace / "text_indexer" / "0-of-2") as (transaction, trees):
        (number, value), *_ = transaction.cursor(trees["documents"])
        transaction.put(number, bytes([value[0] ^ 1]) + value[1:], db=trees["documents"])
    conversion = convert(workspace, nothing)
    assert conversion is not None
    assert sorted(sentence.partition(": ")[2] for sentence in conversion.left_out) == [
        "a write was interrupted between its two stores",
        "it does not match its checksum",
    ]
    with Workspace(workspace) as opened:
        assert (opened.vector_count(IMAGE), opened.vector_count(TEXT)) == (15, 41)
        assert opened.find(id.decode()) is None or opened.find(id.decode()).modality == TEXT  # type: ignore[union-attr]


class changing:
    """A transaction behind the back of an old store, and the handles of its trees."""

    def __init__(self, folder: Path) -> None:
        self._environment = lmdb.open(str(folder), map_size=1 << 30, max_dbs=12)

    def __enter__(self) -> tuple[Any, dict[str, Any]]:
        self._transaction = self._environment.begin(write=True)
        names = ("meta", "ids", "documents")
        return self._transaction, {
            name: self._environment.open_db(name.encode(), txn=self._transaction) for name in names
        }

    def __exit__(self, *raised: object) -> None:
        self._transaction.commit()
        self._environment.close()


def test_an_older_format_is_refused(workspace: Path) -> None:
    for store in workspace.glob("*/*-of-2"):
        with changing(store) as (transaction, trees):
            transaction.put(b"format", b"2", db=trees["meta"])
    with pytest.raises(
        StoreFormat, match=r"has format 2; only format 3 can be converted. Delete .*index again"
    ):
        convert(workspace, nothing)
    assert (workspace / "text_indexer").is_dir()


def test_it_waits_for_no_writer_and_takes_no_index_from_one(workspace: Path) -> None:
    lock = WriterLock(workspace / "text_indexer" / "1-of-2")
    try:
        with pytest.raises(StoreLocked, match="is being written by"):
            convert(workspace, nothing)
    finally:
        lock.release()
    assert convert(workspace, nothing) is not None


def test_indexing_again_after_it_changes_nothing(workspace: Path) -> None:
    convert(workspace, nothing)
    with PhotoIndex(workspace) as index:
        # Of a photo of which only a thumbnail was kept, and whose file is gone, nobody knows the content, and
        # a file whose name is no UTF-8 isn't indexed any more.
        records = [record for record in index if record.modality == TEXT or record.digest is not None]
        assert len(records) == len(EXPECTED["records"]) - 2
        assert index._workspace.standings(records) == ["same"] * len(records)
        for record in records:
            if record.modality == IMAGE:
                assert record.uri is not None
                assert record.local == LocalFile("/photos", Path(record.uri).name)


def test_nothing_is_removed_while_the_new_index_is_not_in_one_file(workspace: Path) -> None:
    held: list[EmbeddedStore] = []
    stack = ExitStack()

    def hold(conversion: Conversion) -> None:
        if not held:
            held.append(EmbeddedStore.open_reader(workspace / "converting"))
            # A snapshot that keeps the log from being copied into the file.
            stack.enter_context(held[0].vector_source(IMAGE).snapshot())

    with pytest.raises(
        StoreUnwritable, match=r"another process reads it. What was there before is untouched"
    ):
        convert(workspace, hold)
    assert all((workspace / name).is_dir() for name in OLD)
    stack.close()
    held[0].close()
    assert convert(workspace, nothing) is not None
    assert_as_before(workspace)


def test_a_damaged_store_is_a_sentence_and_stays(workspace: Path) -> None:
    damaged = workspace / "text_indexer" / "0-of-2" / "data.mdb"
    content = bytearray(damaged.read_bytes())
    content[: 2 * 4096] = bytes(2 * 4096)
    damaged.write_bytes(content)
    done = run_app("convert", "--workspace", workspace)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "is damaged" in done.stderr
    assert damaged.exists()


def test_an_index_that_is_no_conversion_costs_the_old_one_nothing(workspace: Path) -> None:
    (workspace / "index.sqlite").touch()
    with pytest.raises(StoreFormat, match="which was not made of it"):
        convert(workspace, nothing)
    (workspace / "index.sqlite").unlink()
    EmbeddedStore.open_writer(workspace).close()
    with pytest.raises(StoreFormat, match="which was not made of it"):
        convert(workspace, nothing)
    assert all((workspace / name).is_dir() for name in OLD)


def test_a_missing_store_is_named_and_nothing_is_removed(workspace: Path) -> None:
    shutil.rmtree(workspace / "image_kv_indexer" / "0-of-2")
    with pytest.raises(StoreFormat, match=r"image_kv_indexer/0-of-2/data\.mdb is missing"):
        convert(workspace, nothing)
    assert (workspace / "image_vector_indexer" / "0-of-2").is_dir()
