"""Somebody sets the machine's clock an hour forward and back while a server and an index run go on."""

from __future__ import annotations

import json
import mmap
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import REPOSITORY, Server, children_of, clean_environment, copy_index, start_server
from preloaded import compile_library

from crossmodal.access.keys import KeyFile
from crossmodal.workspace import Workspace

HOUR = 3600
NDJSON = {"Content-Type": "application/x-ndjson"}

# Longer than two beats of a worker and two looks of its parent, within which a jump would show.
SETTLED_SECONDS = 1.5

SHOWS_BOTH_CLOCKS = "import time; print(time.time(), time.monotonic())"


class Clock:
    """The clock of processes that are started with its ``environment``; ``jump`` sets it."""

    def __init__(self, library: Path, folder: Path) -> None:
        path = folder / "offset"
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._offset = mmap.mmap(file.fileno(), 8)
        self.environment = {"LD_PRELOAD": str(library), "JUMPING_CLOCK": str(path)}

    def jump(self, seconds: int) -> None:
        """Sets it to so many seconds from the right time."""
        self._offset[:] = struct.pack("=q", seconds)

    def close(self) -> None:
        self._offset.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library("jumping_clock", tmp_path_factory.mktemp("clock"))


@pytest.fixture
def clock(library: Path, tmp_path: Path) -> Iterator[Clock]:
    clock = Clock(library, tmp_path)
    yield clock
    clock.close()


def test_the_clock_of_these_tests_does_jump(clock: Clock) -> None:
    clock.jump(-HOUR)
    shown = subprocess.run(
        [sys.executable, "-c", SHOWS_BOTH_CLOCKS],
        env={**clean_environment(), **clock.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    told, monotonic = map(float, shown.stdout.split())
    assert told == pytest.approx(time.time() - HOUR, abs=60)
    assert monotonic == pytest.approx(time.monotonic(), abs=60)


def worker_of(server: Server) -> int:
    (worker,) = children_of(server.process.pid)
    return worker


def test_a_server_goes_on(clock: Clock, toy_workspace: Path, tmp_path: Path) -> None:
    workspace = copy_index(toy_workspace, tmp_path / "workspace")
    key = KeyFile(workspace).add("me", "write")
    limited = KeyFile(workspace).add("limited", "read")
    server = start_server(
        *("query_restful", "--workspace", workspace, "--rate-limit", "40"), environment=clock.environment
    )
    worker = worker_of(server)
    bearer = {"Authorization": f"Bearer {key}"}
    try:
        with httpx2.Client(base_url=server.url, timeout=30) as page:
            assert page.post("/login", data={"key": key}).status_code in (200, 303)
            written = []
            for number, offset in enumerate((0, HOUR, -HOUR, 0)):
                clock.jump(offset)
                time.sleep(SETTLED_SECONDS)
                assert page.get("/v1/models").status_code == 200, "the session"
                assert worker_of(server) == worker, "the heartbeat"
                assert page.get("/readyz").status_code == 200
                timed = {**bearer, "Request-Timeout": "20"}
                found = httpx2.post(f"{server.url}/v1/search", json={"text": "a cat"}, headers=timed)
                assert found.status_code == 200, "the key and the deadline"
                line = json.dumps({"id": f"at-{number}", "text": f"sentence {number}"})
                added = httpx2.post(
                    f"{server.url}/v1/documents", content=line, headers={**bearer, **NDJSON}, timeout=60
                )
                assert added.json()["added"] == 1, "the writer's lock"
                written.append(f"at-{number}")
            assert_rate_limit_holds(server, clock, limited)
        assert server.stop() == 0
    finally:
        server.stop(9)
    assert "Traceback" not in server.output()
    assert "error:" not in server.output()
    with Workspace(workspace) as opened:
        assert set(opened.records(written, "text")) == set(written)


def assert_rate_limit_holds(server: Server, clock: Clock, key: str) -> None:
    """A jump neither frees somebody who asked too often nor locks him out for an hour."""

    def ask() -> Any:
        return httpx2.get(f"{server.url}/v1/models", headers={"Authorization": f"Bearer {key}"})

    assert any(ask().status_code == 429 for _ in range(200))
    for offset in (HOUR, -HOUR):
        clock.jump(offset)
        refused = [answer for answer in (ask() for _ in range(8)) if answer.status_code == 429]
        assert len(refused) >= 4
        assert all(1 <= int(answer.headers["Retry-After"]) <= 60 for answer in refused)


def test_an_index_run_goes_on(clock: Clock, tmp_path: Path) -> None:
    workspace, done = tmp_path / "workspace", threading.Event()

    def keep_jumping() -> None:
        offsets = (HOUR, -HOUR)
        while not done.wait(0.05):
            clock.jump(offsets[0])
            offsets = (offsets[1], offsets[0])

    jumping = threading.Thread(target=keep_jumping)
    jumping.start()
    try:
        ran = subprocess.run(
            [
                *(sys.executable, "app.py", "-t", "index", "-d", "toy-data", "-m", "vse"),
                *("--request-size", "4", "--workspace", str(workspace), "--json"),
            ],
            cwd=REPOSITORY,
            env={**clean_environment(), **clock.environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        done.set()
        jumping.join()
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert 0 < report["seconds"] < 120
    with Workspace(workspace) as opened:
        held = opened.status()["modalities"]
    assert (held["image"]["documents"], held["image"]["vectors"]) == (15, 15)
    assert held["text"]["documents"] == held["text"]["vectors"] > 15
