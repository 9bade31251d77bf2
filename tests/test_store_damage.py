"""Full and read-only disks, missing permission, cut-off and altered files: a sentence, never a crash."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from store_samples import photo, run_python, vectors_of

from crossmodal.errors import StoreError, StoreFormat, StoreMissing, StoreUnwritable
from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.schema import FORMAT
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import IMAGE, Record

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting and changing users needs root")


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    with EmbeddedStore.open_writer(path) as store:
        records = [photo(f"p{number}") for number in range(100)]
        store.put(records, vectors_of(records))
    return path


@pytest.fixture
def disk_of(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a real file system of a size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mounted(size: str) -> Path:
        if os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("mounting a small disk needs root and mount")
        mounting = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            capture_output=True,
            check=False,
        )
        if mounting.returncode != 0:
            pytest.skip(f"no tmpfs can be mounted here: {mounting.stderr.decode().strip()}")
        return folder

    yield mounted
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_disk(disk_of: Callable[[str], Path]) -> Path:
    """A real file system of 4 MB."""
    return disk_of("4m")


def as_nobody(code: str, *arguments: str | Path) -> str:
    """What ``code`` prints as a user without any permission of root's."""
    # Imported before, as the repository and the interpreter's own files may be closed to other users; some
    # only when a store is opened.
    imports = """
import os, sys, tempfile
from pathlib import Path
from crossmodal.index.embedded.store import EmbeddedStore
import crossmodal.errors
with tempfile.TemporaryDirectory() as folder:
    EmbeddedStore.open_writer(Path(folder)).close()
    EmbeddedStore.open_reader(Path(folder)).close()
os.setgid(65534)
os.setuid(65534)
"""
    done = run_python(f"{imports}{code}", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def put_until_it_fails(store: EmbeddedStore, kept: list[Record]) -> None:
    """Adds what was acknowledged to ``kept``."""
    for batch in range(20):
        records = [photo(f"q{batch}-{number}", size=100_000) for number in range(10)]
        store.put(records, vectors_of(records))
        kept += records


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


def test_full_disk_is_a_sentence_and_loses_nothing(small_disk: Path) -> None:
    path = small_disk / "store"
    with EmbeddedStore.open_writer(path) as store:
        kept = [photo(f"p{number}", size=20_000) for number in range(20)]
        store.put(kept, vectors_of(kept))
        with pytest.raises(StoreUnwritable, match="disk is full") as told:
            put_until_it_fails(store, kept)
        assert str(path) in str(told.value)
        assert "--workspace" in str(told.value)
        assert store.verify() == []
        assert sorted(store.ids("image")) == sorted(record.id for record in kept)
    with EmbeddedStore.open_reader(path) as reader:
        assert reader.content(kept[3].id) == kept[3].content


def test_store_on_a_disk_that_is_full_already(small_disk: Path) -> None:
    with EmbeddedStore.open_writer(small_disk / "store") as store:
        store.put([photo("p")], vectors_of([photo("p")]))
    with pytest.raises(OSError, match="No space"):
        fill(small_disk / "ballast")
    with pytest.raises(StoreUnwritable, match=r"(disk is full|No space).*--workspace"):
        EmbeddedStore.open_writer(small_disk / "new")
    with pytest.raises(StoreUnwritable, match=r"(disk is full|No space).*--workspace"):
        EmbeddedStore.open_writer(small_disk / "store")
    # There is no space for memory to share with writers, so the reader keeps them out instead.
    code = """
import sys
from pathlib import Path
from crossmodal.index.embedded.store import EmbeddedStore
print(list(EmbeddedStore.open_reader(Path(sys.argv[1])).ids("image")))
"""
    done = run_python(code, small_disk / "store")
    assert (done.returncode, done.stdout.strip()) == (0, "['p']"), done.stderr


def test_documents_are_deleted_on_a_full_disk(disk_of: Callable[[str], Path]) -> None:
    disk = disk_of("40m")
    with EmbeddedStore.open_writer(disk / "store") as store:
        (disk / "ballast").write_bytes(bytes(24 << 20))
        kept: list[Record] = []
        with pytest.raises(StoreUnwritable, match="disk is full"):
            put_until_it_fails(store, kept)
    with suppress(OSError):
        fill(disk / "more")
    large = photo("large", size=20 << 20)
    for _ in range(3):
        # Each time by a process that only now finds the disk full.
        with EmbeddedStore.open_writer(disk / "store") as store:
            with pytest.raises(StoreUnwritable, match="disk is full"):
                store.put([large], vectors_of([large]))
            gone, kept = kept[:25], kept[25:]
            deleted = store.delete([record.id for record in gone])
            assert sorted(deleted) == sorted((IMAGE, record.id) for record in gone)
            assert list(store.ids(IMAGE)) == sorted(record.id for record in kept)
            assert store.verify() == []
            # The space in the file is used again.
            assert store.put([photo("new", size=1000)], vectors_of([photo("new")])) == ["added"]
            store.delete(["new"])


def test_limit_on_file_size(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from crossmodal.index.embedded.store import EmbeddedStore
from store_samples import photo
from crossmodal.errors import StoreUnwritable
resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))
with EmbeddedStore.open_writer(Path(sys.argv[1])) as store:
    store.put([photo("small")])
    try:
        store.put([photo("large", size=1_500_000)])
    except StoreUnwritable as error:
        print(error)
    print(list(store.ids("image")), store.verify())
"""
    done = run_python(code, tmp_path / "store")
    assert done.returncode == 0, done.stderr
    message, state = done.stdout.strip().splitlines()
    assert "limit on the file size" in message
    assert state == "['small'] []"


@needs_root
def test_read_only_file_system(store_path: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    bound = subprocess.run(
        ["mount", "--bind", str(store_path.parent), str(mounted)], capture_output=True, check=False
    )
    if bound.returncode != 0:
        pytest.skip(f"no bind mount here: {bound.stderr.decode().strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(mounted)], check=True)
        path = mounted / "workspace"
        with EmbeddedStore.open_reader(path) as reader:
            index = ExactIndex(reader.vector_source(IMAGE), search_file=path / "derived" / "image.vectors")
            assert index.search(vectors_of([photo("p7")]), 1)[0][0][0] == "p7"
            assert index.save() is False
            assert reader.content("p7") == photo("p7").content
        with pytest.raises(StoreUnwritable, match="Read-only file system"):
            EmbeddedStore.open_writer(path)
        with pytest.raises(StoreUnwritable, match="Read-only file system"):
            EmbeddedStore.open_writer(mounted / "new")
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)


@needs_root
def test_reader_without_write_permission(store_path: Path, tmp_path: Path) -> None:
    open_folders_to_everyone(tmp_path)
    code = """
import sys
from pathlib import Path
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.errors import CrossmodalError
try:
    with EmbeddedStore.open_reader(Path(sys.argv[1])) as store:
        print(store.counts("image").documents, store.content("p3")[:4].hex())
except CrossmodalError as error:
    print(type(error).__name__, error)
"""
    content = photo("p3").content
    assert content is not None
    # Its owner lets others read it.
    store_path.chmod(0o755)
    for file in store_path.iterdir():
        file.chmod(0o755 if file.is_dir() else 0o644)
    assert as_nobody(code, store_path) == f"100 {content[:4].hex()}"
    with EmbeddedStore.open_writer(store_path) as store:
        store.delete(["p5"])
        assert as_nobody(code, store_path) == f"99 {content[:4].hex()}"
    (store_path / "index.sqlite").chmod(0o600)
    answer = as_nobody(code, store_path)
    assert answer.startswith("StoreError")
    assert "Permission denied" in answer


@needs_root
def test_writer_without_write_permission(store_path: Path, tmp_path: Path) -> None:
    open_folders_to_everyone(tmp_path)
    code = """
import sys
from pathlib import Path
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.errors import StoreUnwritable
for path in sys.argv[1:]:
    try:
        EmbeddedStore.open_writer(Path(path))
    except StoreUnwritable as error:
        print(error)
"""
    answers = as_nobody(code, store_path, tmp_path / "new").splitlines()
    assert len(answers) == 2
    assert all("Permission denied" in answer and "--workspace" in answer for answer in answers)


def open_folders_to_everyone(folder: Path) -> None:
    """pytest's temporary folders are closed to other users."""
    for parent in (folder, *folder.parents):
        if parent.owner() == "root" and parent != Path(parent.anchor):
            parent.chmod(parent.stat().st_mode | 0o055)


def test_missing_store(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match=r"crossmodal index"):
        EmbeddedStore.open_reader(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(StoreMissing):
        EmbeddedStore.open_reader(file)
    with pytest.raises(StoreUnwritable, match=r"File exists|Not a directory"):
        EmbeddedStore.open_writer(file)


def test_store_whose_maker_was_killed_before_the_first_commit(tmp_path: Path) -> None:
    for name, make in (("empty", Path.touch), ("blank", make_blank)):
        folder = tmp_path / name
        folder.mkdir()
        make(folder / "index.sqlite")
        with pytest.raises(StoreMissing, match="never finished"):
            EmbeddedStore.open_reader(folder)
        with EmbeddedStore.open_writer(folder) as store:
            assert store.put([photo("p")], vectors_of([photo("p")])) == ["added"]
            assert store.verify() == []


def make_blank(file: Path) -> None:
    """As SQLite leaves it before the tables are made."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_truncated_file(store_path: Path, share: float) -> None:
    size = (store_path / "index.sqlite").stat().st_size
    os.truncate(store_path / "index.sqlite", int(size * share))
    for open_store in (EmbeddedStore.open_reader, EmbeddedStore.open_writer):
        with pytest.raises(StoreFormat) as told:
            open_store(store_path)
        assert str(store_path / "index.sqlite") in str(told.value)
        assert "index again" in str(told.value)


def test_not_an_index(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    (text / "index.sqlite").write_text("this is no database\n" * 1000)
    with pytest.raises(StoreFormat, match=r"is damaged .*index again"):
        EmbeddedStore.open_reader(text)
    (tmp_path / "folder" / "index.sqlite").mkdir(parents=True)
    for open_store in (EmbeddedStore.open_reader, EmbeddedStore.open_writer):
        with pytest.raises(StoreFormat, match=r"index\.sqlite is a folder.*Move it away"):
            open_store(tmp_path / "folder")
    other = tmp_path / "other"
    other.mkdir()
    with closing(sqlite3.connect(other / "index.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE some (thing)")
    before = (other / "index.sqlite").read_bytes()
    for open_store in (EmbeddedStore.open_reader, EmbeddedStore.open_writer):
        with pytest.raises(StoreFormat, match="not an index of this project"):
            open_store(other)
    with closing(sqlite3.connect(other / "index.sqlite")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("some",)]
    assert len((other / "index.sqlite").read_bytes()) == len(before), "another program's data was touched"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (FORMAT + 1, f"format {FORMAT + 1}.* knows format {FORMAT} only. Update this program"),
        (0, r"no format version that can be read \(0\)"),
    ],
)
def test_unknown_format(store_path: Path, written: int, words: str) -> None:
    change(store_path, f"PRAGMA user_version = {written}")
    for open_store in (EmbeddedStore.open_reader, EmbeddedStore.open_writer):
        with pytest.raises(StoreFormat, match=words):
            open_store(store_path)


def change(store_path: Path, *statements: str) -> None:
    """Runs SQL behind the index's back."""
    with closing(sqlite3.connect(store_path / "index.sqlite")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("what", ["vectors", "document", "content"])
def test_altered_bytes_are_found(store_path: Path, what: str) -> None:
    data_file = store_path / "index.sqlite"
    raw = bytearray(data_file.read_bytes())
    content = photo("p42").content
    assert content is not None
    sought = {
        "vectors": vectors_of([photo("p42")]).tobytes(),
        "document": b"/photos/p42.jpg",
        "content": content[100:150],
    }[what]
    assert raw.count(sought) >= 1
    position = -1
    while (position := raw.find(sought, position + 1)) >= 0:
        raw[position + 10] ^= 0x20
    data_file.write_bytes(raw)
    with EmbeddedStore.open_reader(store_path) as store:
        assert len(store.verify()) >= 1
        if what == "vectors":
            with pytest.raises(StoreFormat, match="checksum"):
                ExactIndex(store.vector_source(IMAGE))
        if what == "document":
            with pytest.raises(StoreFormat, match=r"p42.*checksum"):
                store.get(["p42"], IMAGE)
            assert store.get(["p41"], IMAGE)[0] is not None
        if what == "content":
            with pytest.raises(StoreFormat, match=r"original of 'p42'.*checksum"):
                store.content("p42")


def test_what_does_not_fit_together_is_found(store_path: Path) -> None:
    """Each value is sound by itself, so no checksum of one can show it."""
    change(
        store_path,
        "DELETE FROM documents WHERE id = 'p3'",
        "DELETE FROM image_vectors WHERE id = 'p4'",
        "DELETE FROM thumbnails WHERE row = 5",
        "DELETE FROM tags WHERE row = 6 AND name = 'place'",
        "UPDATE state SET next_row = 99",
    )
    with EmbeddedStore.open_writer(store_path) as store:
        assert store.get(["p3"], IMAGE) == [None]
        with pytest.raises(StoreFormat, match="the vector of 'p4', row 4, is missing"):
            store.vectors(["p4"], IMAGE)
        assert store.get(["p7"], IMAGE)[0] is not None
        assert store.verify() == [
            "row 3 has a vector of 'p3', which no document asks for",
            "the vector of 'p4', row 4, is missing or does not match its checksum",
            "the contents hold row 3, which no document asks for",
            "the thumbnails hold row 3, which no document asks for",
            "the thumbnail of 'p5', row 5, is missing or does not match its checksum",
            "the tags of 'p6', row 6, are not those that can be filtered",
            "the tags hold row 3, which no document asks for",
            "99 documents have words, but those of 100 can be searched",
            "the words hold row 3, which no document asks for",
            "row 99 was never given out",
            "99 documents of the modality image are stored but 100 are counted",
            "99 vectors of the modality image are stored but 100 are counted",
        ]


def test_damage_gets_no_checksum_of_its_own_when_a_document_moves(store_path: Path) -> None:
    bare = replace(photo("bare"), thumbnail=None)
    with EmbeddedStore.open_writer(store_path) as store:
        store.put([bare], vectors_of([bare]))
    change(store_path, "UPDATE contents SET content = zeroblob(1000) WHERE row = 100")
    with EmbeddedStore.open_writer(store_path) as store:
        # The thumbnail comes later, and the original goes along into the new row.
        with pytest.raises(
            StoreFormat, match="the original of 'bare', row 100, is missing or does not match"
        ):
            store.put([replace(bare, content=None, thumbnail=b"small")])
        assert store.verify() == [
            "the original of 'bare', row 100, is missing or does not match its checksum"
        ]


def test_nothing_is_put_over_a_document_that_is_there(store_path: Path) -> None:
    change(store_path, "UPDATE state SET next_row = next_row - 1")
    with EmbeddedStore.open_writer(store_path) as store:
        with pytest.raises(StoreError, match="UNIQUE constraint"):
            store.put([photo("new")], vectors_of([photo("new")]))
        assert (store.counts(IMAGE).documents, store.get(["new"], IMAGE)) == (100, [None])
        assert store.content("p99") == photo("p99").content
        assert store.verify() == ["row 99 was never given out"]


def test_altered_pages_never_crash_the_process(store_path: Path) -> None:
    """Random bytes anywhere: the answer is right, or it is StoreError."""
    code = """
import random, shutil, sys
from pathlib import Path
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.errors import StoreError
source, folder, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
folder.mkdir()
raw = bytearray((source / "index.sqlite").read_bytes())
chance = random.Random(seed)
page = chance.randrange(len(raw) // 16384)
raw[page * 16384 : page * 16384 + 64] = chance.randbytes(64)
(folder / "index.sqlite").write_bytes(raw)
try:
    with EmbeddedStore.open_writer(folder) as store:
        print("damaged" if store.verify() else "sound")
except StoreError as error:
    print("damaged", error)
"""
    answers = []
    for seed in range(6):
        done = run_python(code, store_path, store_path.parent / f"copy{seed}", str(seed))
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout.split()[0])
    assert "damaged" in answers


def test_errors_are_of_this_project() -> None:
    assert all(issubclass(kind, StoreError) for kind in (StoreFormat, StoreMissing, StoreUnwritable))
