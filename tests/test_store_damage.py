"""Full and read-only disks, missing permission, cut-off and altered files: a sentence, never a crash."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import pytest
from store_samples import photo, run_python, vectors_of

from crossmodal.errors import StoreError, StoreFormat, StoreMissing, StoreUnwritable
from crossmodal.records import Record
from crossmodal.search import ExactIndex
from crossmodal.stores import FORMAT, Store
from crossmodal.stores.state import State

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting and changing users needs root")


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    path = tmp_path / "image_vector_indexer" / "0-of-1"
    with Store.open_writer(path) as store:
        records = [photo(f"p{number}") for number in range(100)]
        store.put(records, vectors_of(records))
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root and mount")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def as_nobody(code: str, *arguments: str | Path) -> str:
    """What ``code`` prints as a user without any permission of root's."""
    # Imported before, as the repository and the interpreter's own files may be closed to other users; some
    # only when a store is opened.
    imports = """
import os, sys, tempfile
from pathlib import Path
import crossmodal.errors
from crossmodal.stores import Store
with tempfile.TemporaryDirectory() as folder:
    Store.open_writer(Path(folder)).close()
    Store.open_reader(Path(folder)).close()
os.setgid(65534)
os.setuid(65534)
"""
    done = run_python(f"{imports}{code}", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def put_until_it_fails(store: Store, kept: list[Record]) -> None:
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
    with Store.open_writer(path) as store:
        kept = [photo(f"p{number}", size=20_000) for number in range(20)]
        store.put(kept, vectors_of(kept))
        with pytest.raises(StoreUnwritable, match="disk is full") as told:
            put_until_it_fails(store, kept)
        assert str(path) in str(told.value)
        assert "--workspace" in str(told.value)
        assert store.verify() == []
        assert sorted(store.ids()) == sorted(record.id for record in kept)
        # Small things still fit, and what was deleted makes room for others.
        assert len(store.delete([record.id for record in kept[10:]])) == len(kept) - 10
        assert store.put([kept[11]], vectors_of([kept[11]])) == ["added"]
    with Store.open_reader(path) as reader:
        assert reader.content(kept[3].id) == kept[3].content


def test_store_on_a_disk_that_is_full_already(small_disk: Path) -> None:
    with Store.open_writer(small_disk / "store") as store:
        store.put([photo("p")], vectors_of([photo("p")]))
    (small_disk / "store" / "lock.mdb").unlink()
    with pytest.raises(OSError, match="No space"):
        fill(small_disk / "ballast")
    for path in (small_disk / "store", small_disk / "new"):
        with pytest.raises(StoreUnwritable, match=r"(disk is full|No space).*--workspace"):
            Store.open_writer(path)
    # The table of readers has no space, so the reader keeps writers out instead.
    code = """
import sys
from pathlib import Path
from crossmodal.stores import Store
print(list(Store.open_reader(Path(sys.argv[1])).ids()))
"""
    done = run_python(code, small_disk / "store")
    assert (done.returncode, done.stdout.strip()) == (0, "['p']"), done.stderr


def test_limit_on_file_size(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from store_samples import photo
from crossmodal.errors import StoreUnwritable
from crossmodal.stores import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
with Store.open_writer(Path(sys.argv[1])) as store:
    store.put([photo("small")])
    try:
        store.put([photo("large", size=1_000_000)])
    except StoreUnwritable as error:
        print(error)
    print(list(store.ids()), store.verify())
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
        path = mounted / "0-of-1"
        with Store.open_reader(path) as reader:
            index = ExactIndex(reader, search_file=path / "search.faiss")
            assert index.search(vectors_of([photo("p7")]), 1)[0][0][0] == "p7"
            assert index.save() is False
            assert reader.content("p7") == photo("p7").content
        with pytest.raises(StoreUnwritable, match="Read-only file system"):
            Store.open_writer(path)
        with pytest.raises(StoreUnwritable, match="Read-only file system"):
            Store.open_writer(mounted / "0-of-2")
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)


@needs_root
def test_reader_without_write_permission(store_path: Path, tmp_path: Path) -> None:
    open_folders_to_everyone(tmp_path)
    code = """
import sys
from pathlib import Path
from crossmodal.errors import CrossmodalError
from crossmodal.stores import Store
try:
    with Store.open_reader(Path(sys.argv[1])) as store:
        print(store.document_count, store.content("p3")[:4].hex())
except CrossmodalError as error:
    print(type(error).__name__, error)
"""
    content = photo("p3").content
    assert content is not None
    assert as_nobody(code, store_path) == f"100 {content[:4].hex()}"
    # Unregistered readers and a writer would see each other's pages, so they take turns.
    with Store.open_writer(store_path):
        answer = as_nobody(code, store_path)
    assert answer.startswith("StoreLocked")
    assert f"process {os.getpid()}" in answer
    (store_path / "data.mdb").chmod(0o600)
    answer = as_nobody(code, store_path)
    assert answer.startswith("StoreError")
    assert "Permission denied" in answer


@needs_root
def test_writer_without_write_permission(store_path: Path, tmp_path: Path) -> None:
    open_folders_to_everyone(tmp_path)
    code = """
import sys
from pathlib import Path
from crossmodal.errors import StoreUnwritable
from crossmodal.stores import Store
for path in sys.argv[1:]:
    try:
        Store.open_writer(Path(path))
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
        Store.open_reader(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(StoreMissing):
        Store.open_reader(file)
    with pytest.raises(StoreUnwritable, match=r"File exists|Not a directory"):
        Store.open_writer(file)


def test_store_whose_maker_was_killed_before_the_first_commit(tmp_path: Path) -> None:
    for name, make in (("empty", lambda folder: (folder / "data.mdb").touch()), ("blank", make_blank)):
        folder = tmp_path / name
        folder.mkdir()
        make(folder)
        with pytest.raises(StoreMissing, match="never finished"):
            Store.open_reader(folder)
        with Store.open_writer(folder) as store:
            assert store.put([photo("p")], vectors_of([photo("p")])) == ["added"]
            assert store.verify() == []


def make_blank(folder: Path) -> None:
    lmdb.open(str(folder), map_size=1 << 20).close()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_truncated_file(store_path: Path, share: float) -> None:
    size = (store_path / "data.mdb").stat().st_size
    os.truncate(store_path / "data.mdb", int(size * share))
    for open_store in (Store.open_reader, Store.open_writer):
        with pytest.raises(StoreFormat) as told:
            open_store(store_path)
        assert str(store_path / "data.mdb") in str(told.value)
        assert "index again" in str(told.value)


def test_file_that_lacks_only_free_pages_at_its_end(store_path: Path) -> None:
    with Store.open_writer(store_path) as store:
        store.put([photo("large", size=1_000_000)])
        store.delete(list(store.ids()))
        for _ in range(3):
            store.put([photo("last")], vectors_of([photo("last")]))
            store.delete(["last"])
        store.put([photo("last")], vectors_of([photo("last")]))
    data_file = store_path / "data.mdb"
    used = max(0, *pages_in_use(data_file)) + 1
    size = data_file.stat().st_size
    assert used * 4096 < size
    os.truncate(data_file, used * 4096)
    with Store.open_writer(store_path) as store:
        assert list(store.ids()) == ["last"]
        store.put([photo("more")], vectors_of([photo("more")]))
    assert data_file.stat().st_size == size


def pages_in_use(data_file: Path) -> list[int]:
    """The numbers of all pages that are reachable from the newest commit."""
    from lmdb.verify import _Verifier

    with data_file.open("rb") as file:
        verifier = _Verifier(file, data_file.stat().st_size)
        assert verifier.verify() == []
        return [page for page, alive in enumerate(verifier.live) if alive]


def test_not_an_index(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    (text / "data.mdb").write_text("this is no database\n" * 1000)
    with pytest.raises(StoreFormat, match="not a readable LMDB file"):
        Store.open_reader(text)
    other = tmp_path / "other"
    environment = lmdb.open(str(other), map_size=1 << 20)
    with environment.begin(write=True) as transaction:
        transaction.put(b"some", b"thing")
    environment.close()
    for open_store in (Store.open_reader, Store.open_writer):
        with pytest.raises(StoreFormat, match="not an index of this project"):
            open_store(other)
    environment = lmdb.open(str(other), map_size=1 << 20)
    with environment.begin() as transaction:
        assert transaction.get(b"some") == b"thing", "another program's data was touched"
    environment.close()


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (
            str(FORMAT + 1),
            f"format {FORMAT + 1}.* knows format {FORMAT} only. Update this program, or delete",
        ),
        (
            str(FORMAT - 1),
            f"format {FORMAT - 1}.* knows format {FORMAT} only. Delete the workspace .*and index again",
        ),
        ("?", "no format version that can be read"),
    ],
)
def test_unknown_format(store_path: Path, written: str, words: str) -> None:
    environment = lmdb.open(str(store_path), map_size=1 << 30, max_dbs=8)
    with environment.begin(write=True) as transaction:
        transaction.put(b"format", written.encode(), db=environment.open_db(b"meta", txn=transaction))
    environment.close()
    for open_store in (Store.open_reader, Store.open_writer):
        with pytest.raises(StoreFormat, match=words.replace("?", r"\?")):
            open_store(store_path)


def test_format_without_the_captions_of_photos(store_path: Path) -> None:
    """Format 1 lacks a tree; what is said is that it is old, not that it is no index."""
    environment = lmdb.open(str(store_path), map_size=1 << 30, max_dbs=8)
    with environment.begin(write=True) as transaction:
        transaction.put(b"format", b"1", db=environment.open_db(b"meta", txn=transaction))
        transaction.drop(environment.open_db(b"captions", txn=transaction))
    environment.close()
    for open_store in (Store.open_reader, Store.open_writer):
        with pytest.raises(StoreFormat, match=f"has format 1, but this program knows format {FORMAT} only"):
            open_store(store_path)


@pytest.mark.parametrize("what", ["vectors", "document", "content"])
def test_altered_bytes_are_found(store_path: Path, what: str) -> None:
    data_file = store_path / "data.mdb"
    raw = bytearray(data_file.read_bytes())
    content = photo("p42").content
    assert content is not None
    sought = {
        "vectors": vectors_of([photo("p42")]).tobytes(),
        "document": b'"/photos/p42.jpg"',
        "content": content[100:150],
    }[what]
    assert raw.count(sought) >= 1
    position = -1
    while (position := raw.find(sought, position + 1)) >= 0:
        raw[position + 10] ^= 0x20
    data_file.write_bytes(raw)
    with Store.open_reader(store_path) as store:
        assert len(store.verify()) >= 1
        if what == "vectors":
            with pytest.raises(StoreFormat, match="checksum"):
                ExactIndex(store)
        if what == "document":
            with pytest.raises(StoreFormat, match=r"p42.*checksum"):
                store.get(["p42"])
            assert store.get(["p41"])[0] is not None


def test_numbers_that_do_not_fit_are_found(store_path: Path) -> None:
    """Each value is sound by itself, so no checksum can tell."""
    with changing(store_path) as (transaction, trees):
        first, second, third = (transaction.get(id, db=trees["ids"]) for id in (b"p1", b"p2", b"p3"))
        transaction.put(b"p1", second, db=trees["ids"])
        transaction.put(b"p2", first, db=trees["ids"])
        transaction.delete(third, db=trees["documents"])
    with Store.open_writer(store_path) as store:
        with pytest.raises(StoreFormat, match="noted for 'p1' but is the document 'p2'"):
            store.get(["p1"])
        with pytest.raises(StoreFormat, match="'p3', number 3, is missing"):
            store.get(["p3"])
        assert store.get(["p4"])[0] is not None
        assert store.verify() == [
            "number 1 is the document 'p1' but is noted for 'p2'",
            "number 2 is the document 'p2' but is noted for 'p1'",
            "the document 'p3', number 3, is missing",
            "99 documents are stored but 100 are counted",
            "the contents hold number 3, which no document asks for",
            "the thumbnails hold number 3, which no document asks for",
            "row 3 belongs to 'p3', whose document has row None",
            "99 documents have a vector but 100 are counted",
        ]


def test_nothing_is_put_over_a_document_that_is_there(store_path: Path) -> None:
    with changing(store_path) as (transaction, trees):
        state = State.from_bytes(transaction.get(b"state", db=trees["meta"]))
        wrong = replace(state, next_number=state.next_number - 1)
        transaction.put(b"state", wrong.to_bytes(), db=trees["meta"])
    with Store.open_writer(store_path) as store:
        with pytest.raises(StoreFormat, match="not behind those that there are"):
            store.put([photo("new")], vectors_of([photo("new")]))
        assert (store.document_count, store.get(["new"])) == (100, [None])
        assert store.content("p99") == photo("p99").content
        assert store.verify() == ["number 99 was never given out"]


@contextmanager
def changing(store_path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A transaction behind the store's back, and the handles of its trees."""
    environment = lmdb.open(str(store_path), map_size=1 << 30, max_dbs=8)
    with environment.begin(write=True) as transaction:
        names = ("meta", "ids", "documents")
        yield transaction, {name: environment.open_db(name.encode(), txn=transaction) for name in names}
    environment.close()


def test_altered_pages_never_crash_the_process(store_path: Path) -> None:
    """Random bytes anywhere: the answer is right, or it is StoreError."""
    code = """
import random, shutil, sys
from pathlib import Path
from crossmodal.errors import StoreError
from crossmodal.stores import Store
source, folder, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
folder.mkdir()
raw = bytearray((source / "data.mdb").read_bytes())
chance = random.Random(seed)
page = chance.randrange(len(raw) // 4096)
raw[page * 4096 : page * 4096 + 64] = chance.randbytes(64)
(folder / "data.mdb").write_bytes(raw)
try:
    with Store.open_writer(folder) as store:
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
