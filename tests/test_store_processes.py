"""One writer and many readers, in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from store_samples import REPOSITORY, photo, run_python, vector_of, vectors_of

from crossmodal.errors import StoreLocked
from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.store import EmbeddedStore

READER = """
import sys
from pathlib import Path
from store_samples import vector_of
from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.store import EmbeddedStore
store = EmbeddedStore.open_reader(Path(sys.argv[1]))
index = ExactIndex(store.vector_source("image"))
for line in sys.stdin:
    name = line.strip()
    found = index.search(vector_of(name)[None], 1)[0]
    best = found[0][0] if found else "nothing"
    print(store.counts("image").documents, best, len(store.content(name) or b""), flush=True)
"""

WRITER = """
import sys
from pathlib import Path
from crossmodal.index.embedded.store import EmbeddedStore
store = EmbeddedStore.open_writer(Path(sys.argv[1]))
print("writing", flush=True)
sys.stdin.read()
"""


def start(code: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(reader: subprocess.Popen[str], name: str) -> str:
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdin.write(name + "\n")
    reader.stdin.flush()
    return reader.stdout.readline().strip()


def test_readers_in_other_processes_see_each_commit_without_opening_again(tmp_path: Path) -> None:
    with EmbeddedStore.open_writer(tmp_path) as store:
        readers = [start(READER, tmp_path) for _ in range(3)]
        try:
            for count, name in enumerate(["first", "second", "third"], start=1):
                store.put([photo(name)], vectors_of([photo(name)]))
                assert {ask(reader, name) for reader in readers} == {f"{count} {name} 1000"}
            store.delete(["second"])
            assert ask(readers[0], "second").startswith("2 ")
            assert "second" not in ask(readers[1], "second")
        finally:
            for reader in readers:
                reader.communicate(timeout=30)
    assert [reader.returncode for reader in readers] == [0, 0, 0]


def test_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    writer = start(WRITER, tmp_path)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        with pytest.raises(StoreLocked) as told:
            EmbeddedStore.open_writer(tmp_path)
        assert f"process {writer.pid} (" in str(told.value)
        assert "-c" in str(told.value)
        assert "--workspace" in str(told.value)
        with EmbeddedStore.open_reader(tmp_path) as reader:
            assert reader.counts("image").documents == 0
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    with EmbeddedStore.open_writer(tmp_path) as store:
        assert store.put([photo("a")], vectors_of([photo("a")])) == ["added"]


def test_writer_and_readers_in_one_process(tmp_path: Path) -> None:
    """As a server has them that writes as well."""
    with EmbeddedStore.open_writer(tmp_path) as store:
        early = EmbeddedStore.open_reader(tmp_path)
        with pytest.raises(StoreLocked, match=f"this very process .pid {os.getpid()}"):
            EmbeddedStore.open_writer(tmp_path)
        store.put([photo("a")], vectors_of([photo("a")]))
        with EmbeddedStore.open_reader(tmp_path) as late:
            assert early.counts("image") == late.counts("image")
            assert late.counts("image").documents == 1
    assert early.content("a") == photo("a").content
    # The reader that is still open doesn't keep the next writer out, nor miss what it does.
    with EmbeddedStore.open_writer(tmp_path) as store:
        store.put([photo("b")], vectors_of([photo("b")]))
        assert list(early.ids("image")) == ["a", "b"]
    early.close()
    assert run_python(READER, tmp_path).returncode == 0


def test_forked_child_neither_closes_nor_keeps_the_writer(tmp_path: Path) -> None:
    store = EmbeddedStore.open_writer(tmp_path)
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            store.close()
            os.write(go, b"x")
            signal.pause()
        finally:
            os._exit(0)
    try:
        os.read(ready, 1)
        with pytest.raises(StoreLocked):
            EmbeddedStore.open_writer(tmp_path)
        store.put([photo("a")])
        store.close()
        with EmbeddedStore.open_writer(tmp_path) as again:
            assert list(again.ids("image")) == ["a"]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(go)


def test_threads_share_a_store(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    with EmbeddedStore.open_writer(tmp_path) as store:
        index = ExactIndex(store.vector_source("image"))

        def work(thread: int) -> None:
            try:
                for number in range(15):
                    record = photo(f"t{thread}-{number}", size=100)
                    assert store.put([record], vectors_of([record])) == ["added"]
                    found = index.search(vector_of(record.id)[None], 1)[0]
                    assert found[0][0] == record.id
                    assert store.content(record.id) == record.content
            except BaseException as error:  # noqa: BLE001  (reported by the test below)
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert store.counts("image").documents == 90
        assert store.verify() == []


def test_store_that_was_deleted_and_replaced_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with EmbeddedStore.open_writer(path) as store:
        store.put([photo("old")], vectors_of([photo("old")]))
    reader = EmbeddedStore.open_reader(path)
    assert not reader.superseded
    for file in path.iterdir():
        if file.is_file():
            file.unlink()
    assert reader.superseded
    with EmbeddedStore.open_writer(path) as store:
        assert store.counts("image").documents == 0
        store.put([photo("new")], np.ones((1, 8), np.float32))
        assert reader.superseded
        assert list(reader.ids("image")) == ["old"], "the reader keeps what it opened until it is closed"
    reader.close()
