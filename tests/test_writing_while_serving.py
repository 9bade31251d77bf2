"""The index Flow inside a serving process: opened by the first write, shared, and closed again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, children_of, copy_index, run_app, start_server

from crossmodal.engine.engine import Engine
from crossmodal.errors import StoreLocked
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import TEXT, Record
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def workspace(toy_workspace: Path, tmp_path: Path) -> Path:
    return copy_index(toy_workspace, tmp_path / "index")


@pytest.fixture
def server(workspace: Path) -> Iterator[Server]:
    started = start_server("query_restful", "--workspace", workspace)
    yield started
    started.stop()


def write(server: Server, id: str, text: str) -> tuple[int, Any]:
    line = json.dumps({"id": id, "text": text}).encode()
    return server.request("/v1/documents", line, headers=NDJSON, timeout=60)


def outcome(answer: tuple[int, Any]) -> str | None:
    status, body = answer
    assert status == 200, body
    (result,) = body["results"]
    assert result["error"] is None
    found: str | None = result["outcome"]
    return found


def state(server: Server) -> str:
    status, body = server.request("/v1/status")
    assert status == 200
    assert body["writing"]["allowed"] is True
    found: str = body["writing"]["state"]
    return found


def test_all_that_is_written_shares_one_flow_and_is_found_at_once(server: Server, workspace: Path) -> None:
    assert state(server) == "idle"
    processes = children_of(server.process.pid)
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda n: outcome(write(server, f"n{n}", f"sentence {n}")), range(6)))
    assert found == ["added"] * 6
    assert state(server) == "running"
    # No process was started for it.
    assert children_of(server.process.pid) == processes
    with Workspace(workspace) as opened:
        written = [opened.get(f"n{n}", TEXT) for n in range(6)]
    assert [record and record.text for record in written] == [f"sentence {n}" for n in range(6)]
    sentence = "A purple submarine sings to the moon ."
    assert outcome(write(server, "new", sentence)) == "added"
    search = {"text": sentence, "modality": "text", "top_k": 1}
    assert server.request("/v1/search", search)[1]["results"][0]["matches"][0]["id"] == "new"
    assert outcome(write(server, "new", "Another sentence .")) == "replaced"
    assert outcome(write(server, "new", "Another sentence .")) == "unchanged"


def test_another_writer_is_named_and_asking_again_helps(server: Server, workspace: Path) -> None:
    with EmbeddedStore.open_writer(workspace):
        status, body = write(server, "late", "another process writes")
        assert status == 409
        assert str(os.getpid()) in body["detail"]
        assert state(server) == "idle"
    assert outcome(write(server, "late", "another process writes")) == "added"
    refused = run_app("-t", "index", "--workspace", workspace)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert refused.stderr.count("\n") == 1


def metrics_of(server: Server) -> str:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


SHORT_GRACE = """
import sys
from crossmodal.cli import main
from crossmodal.server import worker
worker._GRACE_SECONDS = 0.3
sys.exit(main(sys.argv[1:]))
"""


def test_an_upload_that_is_still_open_is_answered_when_the_server_ends(workspace: Path) -> None:
    server = start_server("query_restful", "--workspace", workspace, program=("-c", SHORT_GRACE))
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as upload:
        head = f"POST /v1/documents HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-ndjson\r\n"
        upload.sendall(f'{head}Content-Length: 1000\r\n\r\n{{"text": "a dog"}}\n'.encode())
        while not re.search(r'writing requests\.held"} 1', metrics_of(server)):
            time.sleep(0.05)
        assert server.stop() == 0
        answer = b""
        while part := upload.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"This server is being ended" in answer
    assert "Traceback" not in server.output()
    assert "CancelledError" not in server.output()


@pytest.mark.parametrize("pause", [0.0, 0.3, None], ids=["asking", "writing", "written"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_ends_everything_cleanly(workspace: Path, pause: float | None, number: int) -> None:
    server = start_server("query_restful", "--workspace", workspace)
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(write(server, "x", "on its way"))
        except OSError as error:
            answers.append(error)

    writing = threading.Thread(target=ask)
    writing.start()
    if pause is None:
        writing.join()
    else:
        time.sleep(pause)
    assert server.stop(number) == 0
    writing.join()
    assert len(answers) == 1
    assert "Traceback" not in server.output()
    assert "error:" not in server.output()
    # What was acknowledged is there, and nothing holds the lock.
    with EmbeddedStore.open_writer(workspace) as store:
        if isinstance(answers[0], tuple) and answers[0][0] == 200:
            assert store.get(["x"], TEXT)[0] is not None


def test_writing_that_is_switched_off_is_refused_with_the_reason(workspace: Path) -> None:
    server = start_server("query_restful", "--workspace", workspace, "--writing", "off")
    try:
        writing = server.request("/v1/status")[1]["writing"]
        assert writing["allowed"] is False
        assert "switched off" in writing["reason"]
        assert "--writing on" in writing["reason"]
        status, body = write(server, "x", "no")
        assert status == 403
        assert "switched off" in body["detail"]
    finally:
        server.stop()


def test_it_ends_when_nothing_is_written_and_leaves_the_lock_to_others(workspace: Path) -> None:
    def free() -> bool:
        try:
            EmbeddedStore.open_writer(workspace).close()
        except StoreLocked:
            return False
        return True

    def index(engine: Engine, count: int, prefix: str) -> list[str | None]:
        records = [Record(f"{prefix}{n}", TEXT, text=f"{prefix} {n}") for n in range(count)]
        return [getattr(one, "outcome", None) for one in engine.index(records)]

    with Engine(Settings(workspace=workspace), writer_idle_seconds=2.0) as engine:
        assert (engine.writer_state, free()) == ("idle", True)
        assert index(engine, 3, "few") == ["added"] * 3
        assert (engine.writer_state, free()) == ("running", False)
        # Longer than the Flow stays open when it has nothing to do.
        started = time.monotonic()
        rounds = 0
        while time.monotonic() < started + 3.0:
            assert set(index(engine, 100, f"many{rounds}-")) == {"added"}
            assert engine.writer_state == "running"
            rounds += 1
        assert engine.delete(["few0", "few1", "never"]) == ["few0", "few1"]
        deadline = time.monotonic() + 20
        while not free() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (engine.writer_state, free()) == ("idle", True)
        assert index(engine, 1, "again") == ["added"]
    assert free()


def test_what_is_written_after_the_index_was_replaced_is_in_the_new_one(
    toy_workspace: Path, tmp_path: Path
) -> None:
    workspace = copy_index(toy_workspace, tmp_path / "index")

    def add(engine: Engine, id: str) -> str | None:
        (indexed,) = engine.index([Record(id, TEXT, text=f"sentence {id}")])
        return getattr(indexed, "outcome", None)

    with Engine(Settings(workspace=workspace), writer_idle_seconds=60) as engine:
        assert add(engine, "old") == "added"
        shutil.rmtree(workspace)
        copy_index(toy_workspace, workspace)
        assert add(engine, "new") == "added"
        assert engine.workspace.find("old") is None
        assert engine.workspace.find("new") is not None
    with Workspace(workspace) as opened:
        assert opened.find("new") is not None


def test_an_engine_closes_after_what_is_being_written(toy_workspace: Path, tmp_path: Path) -> None:
    workspace = copy_index(toy_workspace, tmp_path / "index")
    engine = Engine(Settings(workspace=workspace))
    written = engine.index([Record(f"n{number}", TEXT, text=f"sentence {number}") for number in range(300)])
    first = next(written)
    engine.close()
    outcomes = [getattr(one, "outcome", None) for one in [first, *written]]
    assert outcomes == ["added"] * 300
    # Nothing holds the writer's lock any more.
    EmbeddedStore.open_writer(workspace).close()
