"""Sends hostile inputs, and says what became of each."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossmodal.errors import CrossmodalError

from .http_inputs import HttpInput

__all__ = ["HANG_SECONDS", "Report", "call_grpc", "run_command", "send", "send_all", "try_call"]

# An answer that takes longer is a hang.
HANG_SECONDS = 10.0

# What ``PhotoIndex`` raises of its own accord, and what Python itself says of a wrong type or value.
_DOCUMENTED = (CrossmodalError, TypeError, ValueError)

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Report:
    """What became of the inputs of one kind of attack, by outcome, and those that count as a failure."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def total(self) -> int:
        """How many inputs were tried."""
        return self.outcomes.total()

    def add(self, name: str, outcome: str, seconds: float, *, failed: bool) -> None:
        """Notes one input."""
        self.slowest = max(self.slowest, seconds)
        hung = seconds > HANG_SECONDS
        self.outcomes[outcome] += 1
        if failed or hung:
            self.failures.append(f"{name}: {outcome} after {seconds:.1f} s")


def send(port: int, content: bytes, timeout: float = HANG_SECONDS) -> int | None:
    """The status that the server answers to some bytes; None where it closes without an answer.

    Raises TimeoutError where nothing comes.
    """
    answer = bytearray()
    deadline = time.monotonic() + timeout
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as client:
        try:
            client.sendall(content)
            while not (head := re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)):
                client.settimeout(max(deadline - time.monotonic(), 0.001))
                piece = client.recv(65536)
                if not piece:
                    return None
                answer += piece
        except ConnectionError:
            # It may refuse before it has read all; what it said until then counts.
            head = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    return int(head[1]) if head else None


def send_all(port: int, inputs: Iterable[HttpInput], report: Report) -> None:
    """Sends inputs one after the other: an answer of 500 or more, no answer, or a late one is a failure."""
    for given in inputs:
        started = time.monotonic()
        failed = False
        try:
            status = send(port, given.content)
        except TimeoutError:
            # A request that doesn't end may be waited for.
            outcome, failed = "no answer in time", not given.broken
            started = started if failed else time.monotonic()
        else:
            outcome = "closed" if status is None else f"{status // 100}xx"
            failed = (status is None and not given.broken) or (status or 0) >= 500
            outcome = str(status) if (status or 0) >= 500 else outcome
        report.add(f"{given.kind}: {given.name}", outcome, time.monotonic() - started, failed=failed)


def try_call(name: str, call: Callable[[], Any], report: Report) -> None:
    """Calls Python: anything but an answer or a documented error is a failure."""
    started = time.monotonic()
    outcome, failed = "answered", False
    try:
        call()
    except _DOCUMENTED as error:
        outcome = type(error).__name__
    except Exception as error:  # noqa: BLE001  this is what is looked for
        outcome, failed = f"{type(error).__name__}: {error}"[:80], True
    report.add(name, outcome, time.monotonic() - started, failed=failed)


def run_command(arguments: list[str], report: Report, folder: Path) -> None:
    """Runs one command line in a fork: a traceback, a signal or another code than 0, 1, 2 is a failure."""
    started = time.monotonic()
    said = folder / "said.txt"
    pid = os.fork()
    if not pid:
        _run_in_child(arguments, said)
    pidfd = os.pidfd_open(pid)
    try:
        # Models load slowly on a busy machine; what is told apart is an end and none.
        ended = select.select([pidfd], [], [], 4 * HANG_SECONDS)[0]
        if not ended:
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(pidfd)
    traceback = b"Traceback" in said.read_bytes()
    outcome = f"ended with {code}" + (" and a traceback" if traceback else "")
    seconds = time.monotonic() - started if not ended else 0.0
    report.add(f"{arguments!a}"[:200], outcome, seconds, failed=traceback or code not in (0, 1, 2))


def _run_in_child(arguments: list[str], said: Path) -> None:
    code = 70
    try:
        os.chdir(REPOSITORY)
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, output), (2, output)):
            os.dup2(source, target)
        sys.stdin, sys.stdout = os.fdopen(0, "r"), os.fdopen(1, "w")
        # As Python opens it.
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace")
        from crossmodal.cli import main

        code = main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  the child ends here
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# jina's client in a process of its own: each line of stdin is a call, each of stdout what came of it.
_GRPC_CLIENT = """
import json, sys
from docarray import DocList
from jina import Client
from crossmodal.jina.documents import MediaDocument

client = Client(host="127.0.0.1", port=int(sys.argv[1]), protocol="grpc")
for line in sys.stdin:
    endpoint, docs, parameters = json.loads(line)
    try:
        for doc in docs:
            if "blob" in doc:
                doc["blob"] = doc["blob"].encode("latin-1")
        sent = DocList[MediaDocument]([MediaDocument(**doc) for doc in docs])
    except Exception:
        print("not a document", flush=True)
        continue
    try:
        client.post(endpoint, sent, parameters=parameters, return_type=DocList[MediaDocument])
        print("answered", flush=True)
    except Exception as error:
        print(f"{type(error).__name__}: {error}".replace("\\n", " ")[:200], flush=True)
"""


def call_grpc(port: int, calls: Iterable[tuple[str, str, list[Any], dict[str, Any]]], report: Report) -> None:
    """Calls the gRPC server: an error that names a failure of the server is a failure, and no answer."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "JINA_OPTOUT_TELEMETRY": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", _GRPC_CLIENT, str(port)],
        cwd=REPOSITORY,
        env={**environment, "JINA_LOG_LEVEL": "CRITICAL"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        for name, endpoint, docs, parameters in calls:
            started = time.monotonic()
            print(json.dumps([endpoint, docs, parameters]), file=client.stdin, flush=True)
            said = client.stdout.readline().strip()
            failed = not said or "failed on this request" in said or "unexpectedly" in said
            outcome = said if failed else said.partition(":")[0]
            report.add(f"grpc {name}", outcome, time.monotonic() - started, failed=failed)
        client.stdin.close()
