"""The index Flow that a query server starts when somebody writes: shared, watched, and gone again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    REPOSITORY,
    Server,
    children_of,
    clean_environment,
    copy_index,
    is_running,
    run_app,
    start_server,
)

from crossmodal.stores import Store
from crossmodal.workspace import TEXTS, Workspace

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def workspace(toy_workspace: Path, tmp_path: Path) -> Path:
    return copy_index(toy_workspace, tmp_path / "index")


@pytest.fixture
def server(workspace: Path) -> Iterator[Server]:
    started = start_server("query_restful", "--workspace", workspace)
    yield started
    started.stop()


def write(server: Server, id: str, text: str, *more: str) -> tuple[int, Any]:
    lines = [json.dumps({"id": id, "text": text}), *more]
    return server.request("/v1/documents", "\n".join(lines).encode(), headers=NDJSON, timeout=60)


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


def wait_until_gone(pids: list[int], seconds: float) -> list[int]:
    deadline = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [pid for pid in pids if is_running(pid)]


def test_all_that_is_written_shares_one_flow_and_is_found_at_once(server: Server, workspace: Path) -> None:
    assert state(server) == "idle"
    querying = set(children_of(server.process.pid))
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda n: outcome(write(server, f"n{n}", f"sentence {n}")), range(6)))
    assert found == ["added"] * 6
    assert state(server) == "running"
    # One executor and one gateway, and they stay for the next write.
    indexing = set(children_of(server.process.pid)) - querying
    assert len(indexing) == 2
    with Workspace(workspace) as opened:
        assert [opened.get(TEXTS, f"n{n}").text for n in range(6)] == [f"sentence {n}" for n in range(6)]
    sentence = "A purple submarine sings to the moon ."
    assert outcome(write(server, "new", sentence)) == "added"
    search = {"text": sentence, "modality": "text", "top_k": 1}
    assert server.request("/v1/search", search)[1]["results"][0]["matches"][0]["id"] == "new"
    assert outcome(write(server, "new", "Another sentence .")) == "replaced"
    assert outcome(write(server, "new", "Another sentence .")) == "unchanged"
    assert set(children_of(server.process.pid)) == querying | indexing


def test_a_dead_index_flow_is_started_again_and_the_server_lives_on(server: Server) -> None:
    querying = set(children_of(server.process.pid))
    for attempt in range(2):
        assert outcome(write(server, f"a{attempt}", "before the crash")) == "added"
        indexing = sorted(set(children_of(server.process.pid)) - querying)
        os.kill(indexing[-attempt], signal.SIGKILL)
        assert outcome(write(server, f"b{attempt}", "after the crash")) == "added"
        assert wait_until_gone(indexing, 20) == []
    assert set(children_of(server.process.pid)) > querying
    said = server.output()
    assert said.count("of the index Flow ended unexpectedly (killed by SIGKILL)") == 2
    assert "The next write starts it" in said
    assert "Traceback" not in said
    assert server.stop() == 0


def test_another_writer_is_named_and_asking_again_helps(server: Server, workspace: Path) -> None:
    path = workspace / "text_indexer" / "0-of-1"
    with Store.open_writer(path):
        status, body = write(server, "late", "somebody else writes")
        assert status == 409
        assert str(os.getpid()) in body["detail"]
        assert state(server) == "idle"
    assert outcome(write(server, "late", "somebody else writes")) == "added"
    refused = run_app("-t", "index", "--workspace", workspace)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("pause", [0.0, 0.7, None], ids=["asking", "starting", "running"])
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
    pids = children_of(server.process.pid)
    assert server.stop(number) == 0
    writing.join()
    assert len(answers) == 1
    assert wait_until_gone(pids, 20) == []
    assert "Traceback" not in server.output()
    assert "error:" not in server.output()


def test_nothing_outlives_a_killed_server(workspace: Path) -> None:
    server = start_server("query_restful", "--workspace", workspace)
    assert outcome(write(server, "x", "written")) == "added"
    pids = children_of(server.process.pid)
    assert len(pids) == 4
    server.process.kill()
    server.process.wait()
    assert wait_until_gone(pids, 20) == []


def test_a_dead_gateway_ends_the_index_flow_as_well(workspace: Path) -> None:
    server = start_server("query_restful", "--workspace", workspace)
    gateway = children_of(server.process.pid)[-1]
    assert outcome(write(server, "x", "written")) == "added"
    pids = children_of(server.process.pid)
    os.kill(gateway, signal.SIGKILL)
    assert server.process.wait(40) == 1
    assert wait_until_gone(pids, 20) == []
    assert "Traceback" not in server.output()


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
        assert len(children_of(server.process.pid)) == 2
    finally:
        server.stop()


SCRIPT = """
import asyncio, json, sys, threading, time
from pathlib import Path
from crossmodal.cli.opening import open_for_writing
from crossmodal.documents import MediaDocument
from crossmodal.errors import StoreLocked
from crossmodal.settings import read_settings
from crossmodal.stores import Store
from crossmodal.workspace import Workspace
from flows.index_on_demand import IndexClient, IndexOnDemand
from flows.service import stop_on_signals
from crossmodal.flow.topology import FLOW_FILES, read_topology

settings = read_settings(["-t", "query_restful", "--workspace", sys.argv[1]], {})
path = Path(sys.argv[1]) / "text_indexer" / "0-of-1"
said = {}


def free():
    try:
        Store.open_writer(path).close()
    except StoreLocked:
        return False
    return True


def docs(count, prefix):
    return [MediaDocument(id=f"{prefix}{n}", modality="text", text=f"{prefix} {n}") for n in range(count)]


async def write(client):
    said["at first"] = [client.state, free()]
    writing = asyncio.create_task(client.index(docs(3, "few")))
    await asyncio.sleep(0.1)
    said["starting"] = client.state
    answered = await writing
    said["few"] = [answered[f"few{n}"].outcome for n in range(3)]
    said["written"] = [client.state, free()]
    # Longer than the Flow waits when it has nothing to do.
    started = time.monotonic()
    rounds = 0
    while time.monotonic() < started + 1.5:
        many = await client.index(docs(200, f"many{rounds}-"))
        assert {doc.outcome for doc in many.values()} == {"added"}
        assert client.state == "running"
        rounds += 1
    deleted = await client.delete(docs(2, "few") + docs(1, "never"))
    said["deleted"] = {id: doc.outcome for id, doc in deleted.items()}
    deadline = time.monotonic() + 20
    while not free() and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    said["afterwards"] = [client.state, free()]
    again = await client.index(docs(1, "again"))
    said["again"] = again["again0"].outcome


def run(channel, done):
    client = IndexClient(
        channel, read_topology(FLOW_FILES["index"], settings.flow_environment()), idle_seconds=0.5
    )
    try:
        asyncio.run(write(client))
    finally:
        done.set()


with stop_on_signals(), IndexOnDemand(
    lambda: open_for_writing(settings, Workspace(settings.workspace))
) as index:
    done = threading.Event()
    threading.Thread(target=run, args=(index.channel, done)).start()
    while not done.is_set():
        index.step(0.1)
said["at last"] = free()
print(json.dumps(said))
"""


def test_it_ends_when_nothing_is_written_and_leaves_the_lock_to_others(workspace: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(workspace)],
        cwd=REPOSITORY,
        env={**clean_environment(), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "at first": ["idle", True],
        "starting": "starting",
        "few": ["added"] * 3,
        "written": ["running", False],
        "deleted": {"few0": "deleted", "few1": "deleted", "never0": None},
        "afterwards": ["idle", True],
        "again": "added",
        "at last": True,
    }
    assert done.stderr == ""
