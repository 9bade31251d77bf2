"""A signal ends a starting Flow without breaking into gRPC, which could not end any more."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from conftest import run_python

# jina asks each process whether it is ready, in an event loop of the main thread. Here it never is.
SCRIPT = """
import asyncio, os, sys, time
from pathlib import Path
from jina.serve.runtimes.servers import grpc
from crossmodal.cli.opening import open_for_writing
from crossmodal.settings import read_settings
from crossmodal.workspace import Workspace
from flows.service import FlowService

main = os.getpid()
answer = grpc.send_health_check_async

async def ask(*args, **options):
    if os.getpid() != main:
        return await answer(*args, **options)
    print("asked", flush=True, file=sys.stderr)
    try:
        os.kill(main, int(sys.argv[2]))
        # What the signal's handler raises, it raises here.
        time.sleep(0.1)
        await asyncio.sleep(60)
    except BaseException as error:
        print(f"ended by {type(error).__name__}", flush=True, file=sys.stderr)
        # Closing a connection takes its time.
        await asyncio.sleep(0.5)
        print("closed", flush=True, file=sys.stderr)
        raise

grpc.send_health_check_async = ask
settings = read_settings(["-t", "index", "--workspace", sys.argv[1]], {})
START
try:
    with FlowService("index", open_for_writing(settings, Workspace(settings.workspace))):
        print("started", flush=True, file=sys.stderr)
except KeyboardInterrupt:
    print("interrupted", flush=True, file=sys.stderr)
"""

# Python can only print what is raised in such a callback.
WEAK = """
import weakref
from jina import Flow

class Dying:
    pass

def die(_):
    print("died", flush=True, file=sys.stderr)
    os.kill(main, int(sys.argv[2]))
    time.sleep(0.1)

def start(flow):
    dying = Dying()
    held = weakref.ref(dying, die)
    del dying
    time.sleep(60)

Flow.start = start
"""

# jina, leaving what has begun to start, waits for a process that it has made, and that nobody ends.
BORN = """
from jina.orchestrate.deployments import Deployment

begin = Deployment._ReplicaSet.__enter__

def enter(processes):
    begin(processes)
    print("born", flush=True, file=sys.stderr)
    os.kill(main, int(sys.argv[2]))
    return processes

Deployment._ReplicaSet.__enter__ = enter
"""


def said(script: str, workspace: Path, number: int) -> list[str]:
    """The lines on stderr of a script that ends as it should."""
    ran = run_python("-c", script, workspace, str(int(number)))
    assert ran.returncode == 0, ran.stderr
    return ran.stderr.splitlines()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_what_asks_whether_a_process_is_ready_is_cancelled_and_may_end(tmp_path: Path, number: int) -> None:
    told = said(SCRIPT.replace("START", ""), tmp_path / "index", number)
    assert told == ["asked", "ended by CancelledError", "closed", "interrupted"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_where_nothing_can_be_raised_comes_again(tmp_path: Path, number: int) -> None:
    assert said(SCRIPT.replace("START", WEAK), tmp_path / "index", number) == ["died", "interrupted"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_process_that_has_just_been_made_is_not_waited_for(tmp_path: Path, number: int) -> None:
    assert said(SCRIPT.replace("START", BORN), tmp_path / "index", number) == ["born", "interrupted"]
