"""The small parent of the serving processes: what ends unasked is started again, and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, children_of, copy_index, is_running, start_server

from crossmodal import PhotoIndex
from crossmodal.workspace import Workspace

NDJSON = {"Content-Type": "application/x-ndjson"}

TEN_MINUTES_BETWEEN = """
import sys
from crossmodal.cli import main
from crossmodal.server import restarts
restarts._BACKOFF_SECONDS = (600.0,) * 5
sys.exit(main(sys.argv[1:]))
"""

# Otherwise it waits for 7.5 seconds in all.
WITHOUT_PAUSES = TEN_MINUTES_BETWEEN.replace("600.0", "0.0")


@contextmanager
def serving(workspace: Path, *options: str) -> Iterator[Server]:
    server = start_server("query_restful", "--workspace", workspace, *options)
    try:
        yield server
    finally:
        server.stop()


def worker_of(server: Server) -> int:
    (worker,) = children_of(server.process.pid)
    return worker


def search(server: Server, sentence: str = "a cat") -> list[str]:
    status, answer = server.request("/v1/search", {"text": sentence, "top_k": 3}, timeout=60)
    assert status == 200, answer
    return [match["id"] for match in answer["results"][0]["matches"]]


def write(server: Server, id: str) -> tuple[int, Any]:
    line = json.dumps({"id": id, "text": f"sentence {id}"}).encode()
    return server.request("/v1/documents", line, headers=NDJSON, timeout=60)


def wait_for_another(server: Server, before: int) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [pid for pid in children_of(server.process.pid) if pid != before and is_running(pid)]
        if found:
            return found[0]
        time.sleep(0.02)
    pytest.fail(f"no worker was started again: {server.output()}")


def test_a_killed_worker_is_started_again_and_new_connections_wait(toy_workspace: Path) -> None:
    with serving(toy_workspace) as server:
        expected = search(server)
        for count, number in enumerate((signal.SIGKILL, signal.SIGSEGV), start=1):
            killed = worker_of(server)
            os.kill(killed, number)
            # Sent at once, while nobody answers: the socket's queue keeps it.
            assert search(server) == expected
            assert wait_for_another(server, killed) != killed
            assert f"ended unexpectedly (killed by {number.name})" in server.output()
            assert f"it is started again ({count} of 5)" in server.output()
        assert server.stop() == 0
        assert "Traceback" not in server.output()


def test_nothing_acknowledged_is_lost_when_workers_are_killed(toy_workspace: Path, tmp_path: Path) -> None:
    workspace = copy_index(toy_workspace, tmp_path / "index")
    acknowledged: list[str] = []
    with serving(workspace) as server:
        stop = threading.Event()

        def keep_writing(prefix: int) -> None:
            number = 0
            while not stop.is_set():
                id = f"w{prefix}-{number}"
                try:
                    status, body = write(server, id)
                except OSError:
                    # The connection was closed with its worker; whether it was written is not known.
                    continue
                finally:
                    number += 1
                if status == 200 and body["results"][0]["outcome"] == "added":
                    acknowledged.append(id)

        with ThreadPoolExecutor(3) as threads:
            writing = [threads.submit(keep_writing, prefix) for prefix in range(3)]
            for count in range(3):
                while len(acknowledged) < 5 * (count + 1):
                    assert server.process.poll() is None
                    time.sleep(0.02)
                os.kill(worker_of(server), signal.SIGKILL)
                wait_for_another(server, 0)
            # The last of them writes as well.
            before = len(acknowledged)
            deadline = time.monotonic() + 60
            while len(acknowledged) < before + 5 and time.monotonic() < deadline:
                assert server.process.poll() is None
                time.sleep(0.02)
            stop.set()
            for one in writing:
                one.result(timeout=90)
    assert len(acknowledged) > 15
    with Workspace(workspace) as opened:
        assert [id for id in acknowledged if opened.find(id) is None] == []
    with PhotoIndex(workspace) as index:
        found = index.search_text(f"sentence {acknowledged[-1]}", 1, modality="text")
        assert found[0].text == f"sentence {acknowledged[-1]}"


def test_too_many_ends_in_a_minute_end_the_server(toy_workspace: Path) -> None:
    server = start_server("query_restful", "--workspace", toy_workspace, program=("-c", WITHOUT_PAUSES))
    try:
        deadline = time.monotonic() + 120
        killed = 0
        while server.process.poll() is None and time.monotonic() < deadline:
            for worker in children_of(server.process.pid):
                if worker != killed:
                    os.kill(worker, signal.SIGKILL)
                    killed = worker
            time.sleep(0.02)
        assert server.process.wait(10) == 1
        said = server.output()
        assert re.findall(r"started again \((\d) of 5\)", said) == list("12345")
        assert "That was the end number 6 within a minute" in said
        assert "Traceback" not in said
    finally:
        server.stop(signal.SIGKILL)


def test_ctrl_c_ends_a_server_that_waits_before_it_starts_a_worker_again(toy_workspace: Path) -> None:
    server = start_server("query_restful", "--workspace", toy_workspace, program=("-c", TEN_MINUTES_BETWEEN))
    try:
        os.kill(worker_of(server), signal.SIGKILL)
        deadline = time.monotonic() + 60
        while "started again (1 of 5)" not in server.output() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert children_of(server.process.pid) == []
        assert server.stop(signal.SIGINT, timeout=30) == 0
        said = server.output()
        assert said.endswith("stopped\n")
        assert "Traceback" not in said
    finally:
        server.stop(signal.SIGKILL)


def test_the_parent_stays_small_and_nothing_outlives_it(toy_workspace: Path) -> None:
    server = start_server("query_restful", "--workspace", toy_workspace, program=("app.py",))
    try:
        search(server)
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        resident_kb = int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]
        assert resident_kb < 40_000
        worker = worker_of(server)
        server.process.kill()
        server.process.wait()
        deadline = time.monotonic() + 20
        while is_running(worker) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_running(worker)
    finally:
        server.stop(signal.SIGKILL)


def test_several_workers_answer_alike_and_one_of_them_writes(toy_workspace: Path, tmp_path: Path) -> None:
    workspace = copy_index(toy_workspace, tmp_path / "index")
    with serving(workspace, "--workers", "3") as server:
        workers = children_of(server.process.pid)
        assert len(workers) == 3
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda _: tuple(search(server)), range(24)))
            assert len(set(found)) == 1
            # Each request is a connection of its own, which any worker may take.
            written = list(threads.map(lambda number: write(server, f"n{number}"), range(24)))
        assert {status for status, _ in written} == {200}
        assert {body["results"][0]["outcome"] for _, body in written} == {"added"}
        body = {"text": "sentence n7", "modality": "text", "top_k": 1}
        for _ in range(6):
            match = server.request("/v1/search", body)[1]["results"][0]["matches"][0]
            assert match["text"] == "sentence n7"
        assert [server.request("/v1/documents/n7")[0] for _ in range(6)] == [200] * 6
        photo = (Path(__file__).parents[1] / "data" / "toy-data" / "images" / "cat.jpg").read_bytes()
        assert_upload_and_delete(server, photo)
        os.kill(workers[0], signal.SIGKILL)
        # The one that writes: what is sent meanwhile waits for it, or is told to come again.
        deadline = time.monotonic() + 60
        while (status := write(server, "again")[0]) == 503 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert status == 200


def assert_upload_and_delete(server: Server, photo: bytes) -> None:
    for number in range(6):
        boundary = "b0undary"
        body = (
            (
                f"--{boundary}\r\n"
                f'Content-Disposition: form-data; name="file"; filename="cat{number}.jpg"\r\n\r\n'
            ).encode()
            + photo
            + f"\r\n--{boundary}--\r\n".encode()
        )
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        status, answer = server.request("/v1/documents", body, headers=headers)
        assert (status, answer["results"][0]["error"]) == (200, None)
    status, refused = server.request("/v1/documents", b"x", headers={"Content-Type": "text/plain"})
    assert (status, refused["status"]) == (415, 415)
    # Guards see the client's own headers behind the forwarding as well.
    status, refused = server.request(
        "/v1/documents", b"{}", headers={**NDJSON, "Origin": "http://evil.example"}
    )
    assert status == 403
