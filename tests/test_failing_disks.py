"""A failing disk, a file system without locks, no home folder, no file handles: a sentence, or it works."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import run_app, run_python
from preloaded import compile_library
from store_samples import REPOSITORY

FAILING = """
import sys
from pathlib import Path
from store_samples import photo, vectors_of
from crossmodal.errors import CrossmodalError
from crossmodal.index.embedded.store import EmbeddedStore

folder, fails = Path(sys.argv[1]), Path(sys.argv[2])
with EmbeddedStore.open_writer(folder) as store:
    first = [photo(f"p{number}", size=100_000) for number in range(200)]
    store.put(first, vectors_of(first))
with EmbeddedStore.open_writer(folder) as store:
    fails.touch()
    for work in (
        lambda: store.content("p199"),
        lambda: store.put([photo("late", size=100_000)], vectors_of([photo("late")])),
        lambda: store.delete(["p3"]),
    ):
        try:
            work()
            print("done")
        except CrossmodalError as error:
            print(type(error).__name__, error)
    fails.unlink()
    print(len(list(store.ids("image"))), store.verify(), store.content("p199") == first[-1].content)
    print(store.put([photo("late")], vectors_of([photo("late")])))
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes calls fail."""
    return compile_library("failing_calls", tmp_path_factory.mktemp("shim"))


@pytest.fixture
def failing(shim: Path, tmp_path: Path) -> Callable[[str], list[str]]:
    def run(what: str) -> list[str]:
        done = run_python(
            *("-c", FAILING, tmp_path / "workspace", tmp_path / "fails"),
            environment={
                "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}",
                "LD_PRELOAD": str(shim),
                "FAILING": what,
                "FAILING_WHILE": str(tmp_path / "fails"),
            },
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_a_disk_that_cannot_be_read_is_told_and_serves_on_when_it_can(failing: Callable) -> None:
    read, put, delete, after, again = failing("read")
    assert read.startswith("Store")
    assert "disk fails" in read
    for answer in (put, delete):
        assert answer == "done" or answer.startswith("Store")
    assert after.endswith("[] True")
    assert again in ("['added']", "['replaced']", "['unchanged']")


def test_a_disk_that_cannot_be_written_is_told_and_nothing_half_stays(failing: Callable) -> None:
    read, put, delete, after, again = failing("write")
    assert read == "done"
    for answer in (put, delete):
        assert answer.startswith("StoreUnwritable")
        assert "cannot be written" in answer
        assert "safe" not in answer
    assert after == "200 [] True"
    assert again == "['added']"


# SQLite tries again for this long; it is thirty seconds otherwise.
IMPATIENT = """
import sys
from crossmodal.cli import main
from crossmodal.index.embedded import connections
connections._BUSY_SECONDS = 0.5
sys.exit(main(sys.argv[1:]))
"""


def test_a_file_system_without_locks_is_told(shim: Path, toy_workspace: Path, tmp_path: Path) -> None:
    environment = {"LD_PRELOAD": str(shim), "FAILING": "lock"}
    for command in (
        ("index", "--workspace", tmp_path / "new"),
        ("status", "--workspace", toy_workspace),
    ):
        told = run_python("-c", IMPATIENT, *command, environment=environment)
        assert told.returncode == 1
        (line,) = [line for line in told.stderr.splitlines() if line.startswith("error:")]
        assert "has no locks" in line
        assert "Put the workspace on a local disk" in line


def test_a_home_folder_that_cannot_be_written_or_is_not_there(tmp_path: Path) -> None:
    absent, file = {"HOME": "/proc/nobody"}, {"HOME": str(tmp_path / "file")}
    (tmp_path / "file").touch()
    indexed = run_app("index", "--workspace", tmp_path / "w", "-n", "12", environment=absent)
    assert indexed.returncode == 0, indexed.stderr
    found = run_app("search", "a dog", "--workspace", tmp_path / "w", environment=file)
    assert found.returncode == 0, found.stderr
    assert "error" not in indexed.stderr + found.stderr


def test_no_file_handles_are_a_sentence(toy_workspace: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from crossmodal.errors import CrossmodalError
from crossmodal.index.embedded.store import EmbeddedStore
with EmbeddedStore.open_reader(Path(sys.argv[1])) as store:
    ids = list(store.ids("image"))
store = EmbeddedStore.open_reader(Path(sys.argv[1]))
store.close()
store = EmbeddedStore.open_reader(Path(sys.argv[1]))
held = store.ids("image")
next(held)  # The one idle connection is taken.
files = []
try:
    while True:
        files.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
try:
    store.thumbnail(ids[0])
except (CrossmodalError, OSError) as error:
    print(type(error).__name__)
for file in files:
    os.close(file)
print(len(store.thumbnail(ids[0])) > 0, len(list(held)) == len(ids) - 1)
held.close()
store.close()
"""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))\n"
    done = run_python("-c", limit + code, toy_workspace)
    assert done.returncode == 0, done.stderr
    told, after = done.stdout.splitlines()
    assert told.startswith("Store")
    assert after == "True True"
