"""/readyz says ready only where a search would succeed, and /v1/status whether the disk takes anything."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import copy_index, start_server

from crossmodal.engine.engine import Engine
from crossmodal.errors import ServiceError, StoreError, StoreMissing
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.settings import Settings

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def read_only_workspace(toy_workspace: Path, tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounting.returncode != 0:
        pytest.skip("mounting a file system is not allowed here")
    copy_index(toy_workspace, disk / "workspace")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    yield disk / "workspace"
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_read_only_disk_is_searched_and_said_not_to_be_writable(read_only_workspace: Path) -> None:
    server = start_server("query_restful", "--workspace", read_only_workspace)
    try:
        assert server.request("/readyz")[0] == 200
        writing = server.request("/v1/status")[1]["writing"]
        assert writing["allowed"] is False
        assert "read-only" in writing["reason"]
        assert str(read_only_workspace) not in writing["reason"]
        assert server.request("/v1/documents", b'{"text": "a dog"}', headers=NDJSON)[0] == 507
    finally:
        assert server.stop() == 0


def test_ready_ends_where_searching_fails(toy_workspace: Path, tmp_path: Path) -> None:
    workspace = copy_index(toy_workspace, tmp_path / "workspace")
    server = start_server("query_restful", "--workspace", workspace)
    try:
        assert server.request("/readyz")[0] == 200
        (workspace / "index.sqlite").rename(workspace / "away")
        # Each answer holds for a moment.
        time.sleep(1.5)
        status, problem = server.request("/readyz")
        assert status == 503, problem
        assert server.request("/healthz")[0] == 200
        (workspace / "away").rename(workspace / "index.sqlite")
        time.sleep(1.5)
        assert server.request("/readyz")[0] == 200
    finally:
        assert server.stop() == 0


def test_a_shard_that_cannot_be_searched_and_a_lost_lock_show(toy_workspace: Path, tmp_path: Path) -> None:
    workspace = copy_index(toy_workspace, tmp_path / "workspace")
    with Engine(Settings(workspace=workspace)) as engine:
        engine.check_search()
        engine.check_writer()
        with engine.writing():
            engine.check_writer()
            (workspace / "writer.lock").unlink()
            with pytest.raises(ServiceError, match="deleted or replaced"):
                engine.check_writer()
            # The next write has the lock again.
            assert engine.delete(["nothing"]) == []
            engine.check_writer()
            with pytest.raises(StoreError, match="is being written"):
                EmbeddedStore.open_writer(workspace)
    with Engine(Settings(workspace=tmp_path / "nothing")) as engine, pytest.raises(StoreMissing):
        engine.check_search()


def test_sixty_four_kilobytes_of_shared_memory_are_enough(toy_workspace: Path, tmp_path: Path) -> None:
    """As containers have them."""
    command = (
        "mount -t tmpfs -o size=64k tmpfs /dev/shm && exec {python} app.py {command} --workspace {workspace}"
    )
    for words in ("index -d toy-data -m vse -n 12", "search 'a dog' -k 1"):
        done = subprocess.run(
            [
                "unshare",
                "--mount",
                "sh",
                "-c",
                command.format(python=sys.executable, command=words, workspace=tmp_path / "workspace"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if "Operation not permitted" in done.stderr:
            pytest.skip("mounting a file system is not allowed here")
        assert done.returncode == 0, done.stderr
