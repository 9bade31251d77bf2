"""A serving process that stands still is noticed, killed and started again; the server answers meanwhile."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from conftest import Server, children_of, is_running, start_server

STUCK_AT_ONCE = """
import sys, time
from crossmodal.cli import main
from crossmodal.engine.engine import Engine
from crossmodal.server import admission

# The sentence stands for whatever makes a model loop for ever; the limit is minutes otherwise.
admission._STUCK_SECONDS = 1.0
search = Engine.search

def search_or_loop(self, requests):
    while any(term.text == "loop for ever" for request in requests for term in request.terms):
        time.sleep(0.01)
    return search(self, requests)

Engine.search = search_or_loop
sys.exit(main(sys.argv[1:]))
"""

IMPATIENT = """
import sys
from crossmodal.cli import main
from crossmodal.server import workers

# Ten otherwise.
workers.SILENT_SECONDS = 3.0
sys.exit(main(sys.argv[1:]))
"""

STOPPED_AT_ITS_FIRST_START = """
import os, signal, sys, time
from pathlib import Path
from crossmodal.cli import main
from crossmodal.engine.engine import Engine
from crossmodal.server import workers

# Minutes otherwise.
workers._SILENT_START_SECONDS = 2.5
prepare = Engine.prepare
stopped = Path(sys.argv.pop())

def prepare_slowly(self):
    if not stopped.exists():
        stopped.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    # Longer than the limit, but it runs.
    time.sleep(4)
    prepare(self)

Engine.prepare = prepare_slowly
sys.exit(main(sys.argv[1:]))
"""


def worker_of(server: Server) -> int:
    (worker,) = children_of(server.process.pid)
    return worker


def wait_until_gone(pid: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while is_running(pid):
        assert time.monotonic() < deadline, "nobody killed it"
        time.sleep(0.05)


def test_a_stopped_worker_is_killed_where_its_parent_goes_on(toy_workspace: Path) -> None:
    server = start_server("query_restful", "--workspace", toy_workspace, program=("-c", IMPATIENT))
    try:
        stopped = worker_of(server)
        # As where the whole machine was suspended, or a debugger held all of it: nobody is to blame.
        for pid in (server.process.pid, stopped):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(4.5)
        os.kill(server.process.pid, signal.SIGCONT)
        time.sleep(1)
        os.kill(stopped, signal.SIGCONT)
        assert server.request("/v1/search", {"text": "a cat"})[0] == 200
        assert worker_of(server) == stopped
        assert "killed" not in server.output()
        os.kill(stopped, signal.SIGSTOP)
        # Waits in the socket's queue for the next worker.
        status, _ = server.request("/v1/search", {"text": "a cat"}, timeout=90)
        assert status == 200
        assert not is_running(stopped)
        said = server.output()
        assert re.search(r"The server process is killed\. It did not run for [3-9] seconds", said)
        assert "it is started again (1 of 5)" in said
    finally:
        server.stop()


def test_a_worker_that_is_stopped_as_it_starts_is_killed_and_a_slow_one_is_not(
    toy_workspace: Path, tmp_path: Path
) -> None:
    stopped = tmp_path / "stopped"
    server = start_server(
        "query_restful", "--workspace", toy_workspace, stopped, program=("-c", STOPPED_AT_ITS_FIRST_START)
    )
    try:
        assert not is_running(int(stopped.read_text()))
        assert server.request("/v1/search", {"text": "a cat"})[0] == 200
        said = server.output()
        assert said.count("The server process is killed. It did not run for") == 1
        assert "it is started again (1 of 5)" in said
    finally:
        server.stop()


def test_a_step_that_never_returns_ends_its_request_and_the_worker(toy_workspace: Path) -> None:
    server = start_server(
        "query_restful",
        *("--workspace", toy_workspace, "--request-timeout", "1"),
        program=("-c", STUCK_AT_ONCE),
    )
    try:
        looping = worker_of(server)
        status, problem = server.request("/v1/search", {"text": "loop for ever"})
        assert (status, problem["title"]) == (504, "The server did not answer in time")
        wait_until_gone(looping, 30)
        assert "A step is stuck" in server.output()
        assert server.request("/v1/search", {"text": "a cat"}, timeout=90)[0] == 200
        assert server.request("/healthz")[0] == 200
    finally:
        server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_in_a_debugger_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from crossmodal.server import silence

    assert not silence._is_traced(os.getpid())
    monkeypatch.setattr(Path, "read_text", lambda self: "Name:\tx\nTracerPid:\t77\n")
    assert silence._is_traced(os.getpid())
