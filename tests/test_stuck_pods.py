"""A server of the layout pods with a process that is stopped: it says so, and recovers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Server, children_of, start_server
from needs_jina import needs_jina

pytestmark = [needs_jina, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(toy_workspace: Path) -> Iterator[Server]:
    server = start_server(
        *("query_restful", "--workspace", toy_workspace, "--layout", "pods", "--shards", "2"), timeout=300
    )
    yield server
    server.stop()


def opened(pid: int) -> set[str]:
    return {os.path.realpath(link) for link in Path(f"/proc/{pid}/fd").iterdir()}


def readers_of(index: Path, server: Server) -> list[int]:
    """The processes that have the index open: each shard of both modalities, and what fetches photos."""
    return [
        pid
        for pid in children_of(server.process.pid)
        # The worker reads it as well, and leads its group.
        if os.getpgid(pid) != pid and str(index) in opened(pid)
    ]


def test_a_process_that_is_stopped_shows_and_holds_nobody_for_ever(
    server: Server, toy_workspace: Path
) -> None:
    assert server.request("/readyz")[0] == 200
    readers = readers_of(toy_workspace / "index.sqlite", server)
    assert len(readers) == 5
    for pid in readers:
        with stopped(pid):
            assert "No search was answered within 5 seconds" in not_ready(server)
        wait_ready(server)
    with stopped(*readers):
        status, problem = server.request("/v1/search", {"text": "a cat"}, timeout=120)
        assert status == 504
        assert "The query Flow did not answer within" in problem["detail"]
    wait_ready(server)
    assert server.request("/v1/search", {"text": "a cat"}, timeout=60)[0] == 200


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def not_ready(server: Server) -> str:
    """What the server says when it isn't ready any more; it tells what it found for a second."""
    deadline = time.monotonic() + 60
    while (answer := server.request("/readyz", timeout=60))[0] == 200:
        assert time.monotonic() < deadline, "it is ready all the same"
        time.sleep(0.2)
    status, problem = answer
    assert status == 503
    return str(problem["detail"])


def wait_ready(server: Server) -> None:
    deadline = time.monotonic() + 60
    while server.request("/readyz", timeout=60)[0] != 200:
        assert time.monotonic() < deadline
