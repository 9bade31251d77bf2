"""``app.py`` as a user runs it: each command a process, in a workspace of its own, surely ended."""

from __future__ import annotations

import http.client
import json
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.options import REPOSITORY
from crossmodal.errors import ServiceError

__all__ = [
    "Server",
    "anonymous_bytes",
    "ask",
    "free_port",
    "index",
    "python",
    "resident_bytes",
    "run_peak",
    "serving",
    "start_bare_model",
]

_START_SECONDS = 120.0
_END_SECONDS = 20.0


@dataclass(frozen=True)
class Server:
    """A running ``-t query_restful``; ``seconds`` is how long it took until it answered a sentence."""

    port: int
    seconds: float
    pid: int

    def connect(self) -> http.client.HTTPConnection:
        """A connection that is kept open from request to request."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)


def index(data: Path, workspace: Path, *arguments: str | Path) -> dict[str, Any]:
    """Runs ``-t index``; the report that it prints. Raises ServiceError where it fails."""
    with _ended(
        subprocess.Popen(
            _app("index", "-d", data, "--workspace", workspace, "--json", *arguments),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    ) as process:
        printed, told = process.communicate()
    if process.returncode:
        raise ServiceError(f"app.py -t index ended with {process.returncode}: {told or printed}")
    report: dict[str, Any] = json.loads(printed)
    return report


def ask(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> None:
    """Posts ``body`` as JSON and reads the answer. Raises ServiceError where that isn't 200."""
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != http.client.OK:
        raise ServiceError(f"{path} answered {answer.status}: {said.decode(errors='replace')[:200]}")


@contextmanager
def serving(workspace: Path, *arguments: str | Path) -> Iterator[Server]:
    """A query server over ``workspace``, from its first answer to a sentence until the block ends."""
    port = free_port()
    with (
        tempfile.TemporaryFile() as log,
        _ended(
            subprocess.Popen(
                _app(
                    "query_restful",
                    *("--workspace", workspace, "--port", str(port), "--writing", "off"),
                    *arguments,
                ),
                cwd=REPOSITORY,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        ) as process,
    ):
        started = time.perf_counter()
        while not _answers(port):
            if process.poll() is not None or time.perf_counter() - started > _START_SECONDS:
                log.seek(0)
                raise ServiceError(f"The server doesn't answer: {log.read().decode(errors='replace')}")
            time.sleep(0.01)
        yield Server(port, time.perf_counter() - started, process.pid)


def start_bare_model() -> float:
    """The seconds until a process that only imports the runtime and reads the model has encoded a word."""
    with _ended(
        subprocess.Popen(
            [sys.executable, "-m", "bench.bare_model"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
    ) as process:
        started = time.perf_counter()
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise ServiceError("The model cannot be read.")
        return time.perf_counter() - started


def resident_bytes(pid: int) -> int:
    """The resident memory of a process and all of its descendants; what they share counts for each."""
    total = 0
    for one in _family(pid):
        lines = Path(f"/proc/{one}/status").read_text(encoding="utf-8").splitlines()
        total += next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)
    return total


def run_peak(arguments: Sequence[str | Path]) -> int:
    """Runs ``app.py`` to its end: the largest sum of its processes' anonymous memory, sampled every 50 ms."""
    with (
        tempfile.TemporaryFile() as log,
        _ended(
            subprocess.Popen(
                [sys.executable, "app.py", *map(str, arguments)],
                cwd=REPOSITORY,
                stdout=subprocess.DEVNULL,
                # A pipe that nobody reads meanwhile would stop it once it is full.
                stderr=log,
            )
        ) as process,
    ):
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(anonymous_bytes, _family(process.pid))))
            time.sleep(0.05)
        if process.returncode:
            log.seek(0)
            said = log.read().decode(errors="replace")
            raise ServiceError(f"app.py ended with {process.returncode}: {said}")
        return peak


def python(module: str, *arguments: str | Path) -> Any:
    """Runs ``python -m module``, which prints JSON as its last line, in a process of its own; the JSON."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServiceError(f"{module} ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def anonymous_bytes(pid: int | str) -> int:
    """The memory of a process that is not a mapped file; 0 once it has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def free_port() -> int:
    """A port that nothing listens on, below those that Linux gives to connections."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _app(task: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "app.py", "-t", task, *map(str, arguments)]


@contextmanager
def _ended(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """Ends the process, and with it all of its own, however the block ends."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        ask(connection, "/v1/search", {"text": "ready"})
    except (OSError, http.client.HTTPException, ServiceError):
        return False
    finally:
        connection.close()
    return True


def _family(pid: int) -> Iterator[int]:
    """A process and all of its descendants that are there at the moment."""
    yield pid
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = tasks.read_text(encoding="utf-8").split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield from _family(int(child))
