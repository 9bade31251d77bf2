"""``app.py`` as a user runs it: each command a process, in a workspace of its own, ended with its block."""

from __future__ import annotations

import http.client
import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bench import inputs
from bench.harness import REPOSITORY, Options
from crossmodal.errors import ServiceError

__all__ = [
    "Server",
    "anonymous_bytes",
    "ask",
    "index",
    "index_seconds",
    "python",
    "resident_bytes",
    "run_peak",
    "serving",
    "small_workspace",
    "start_bare_model",
]

_START_SECONDS = 120.0
_END_SECONDS = 20.0

# The runtime and the model, and nothing else: what no server can start without.
_BARE_MODEL = """
from crossmodal.models import DEFAULT_MODEL, load_image_encoder, load_text_encoder
from crossmodal.settings import Settings
cache = Settings().model_cache
load_image_encoder(DEFAULT_MODEL, cache=cache)
load_text_encoder(DEFAULT_MODEL, cache=cache).encode(["ready"])
print("ready", flush=True)
"""


@dataclass(frozen=True)
class Server:
    """A running ``-t query_restful``; ``seconds`` is how long it took until it answered a sentence."""

    port: int
    seconds: float
    pid: int

    def connect(self) -> http.client.HTTPConnection:
        """A connection that stays open from request to request."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)


def index(data: Path, workspace: Path, *arguments: str | Path) -> dict[str, Any]:
    """Runs ``-t index``, without the reading of text in photos; the report that it prints.

    Raises ServiceError where it fails.
    """
    command = ("app.py", "-t", "index", "-d", data, "--workspace", workspace, "--ocr", "off", "--json")
    output = _output(*command, *arguments)
    report: dict[str, Any] = json.loads(output)
    return report


def index_seconds(data: Path, workspace: Path, *arguments: str | Path) -> float:
    """The seconds for one document through ``-t index`` into a new ``workspace``, deleted afterwards."""
    report = index(data, workspace, *arguments)
    shutil.rmtree(workspace)
    return float(report["seconds"]) / sum(int(report[kind]["added"]) for kind in ("photos", "captions"))


def python(module: str, *arguments: str | Path) -> Any:
    """Runs ``python -m module``, which prints JSON as its last line, in a process of its own; the JSON."""
    return json.loads(_output("-m", module, *arguments).splitlines()[-1])


def ask(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> None:
    """Posts ``body`` as JSON and reads the answer. Raises ServiceError where that isn't 200."""
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != http.client.OK:
        raise ServiceError(f"{path} answered {answer.status}: {content.decode(errors='replace')[:200]}")


@contextmanager
def small_workspace(options: Options) -> Iterator[Path]:
    """A workspace with 16 photos, made for the block."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        workspace = Path(name) / "workspace"
        index(inputs.photo_set(Path(name) / "photos", inputs.photo_files(options), 16), workspace)
        yield workspace


@contextmanager
def serving(workspace: Path) -> Iterator[Server]:
    """A query server over ``workspace``, from its first answer to a sentence until the block ends."""
    port = _free_port()
    command = ("-t", "query_restful", "--workspace", workspace, "--port", str(port), "--writing", "off")
    with (
        tempfile.TemporaryFile() as log,
        _started("app.py", *command, stdout=log, stderr=subprocess.STDOUT) as process,
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
    with _started("-c", _BARE_MODEL, stdout=subprocess.PIPE) as process:
        started = time.perf_counter()
        assert process.stdout is not None
        if process.stdout.readline().strip() != b"ready":
            raise ServiceError("The model cannot be read.")
        return time.perf_counter() - started


def resident_bytes(pid: int) -> int:
    """The resident memory of a process and all of its descendants; what they share counts for each."""
    return sum(_status_bytes(one, "VmRSS") for one in _family(pid))


def anonymous_bytes(pid: int | str) -> int:
    """The memory of a process that is not a mapped file; 0 once it has gone."""
    return _status_bytes(pid, "RssAnon")


def run_peak(*arguments: str | Path) -> int:
    """Runs ``app.py`` to its end: the largest sum of its processes' anonymous memory, sampled every 50 ms."""
    # Into a file, as a pipe would stop the process once it is full.
    with (
        tempfile.TemporaryFile() as log,
        _started("app.py", *arguments, stdout=subprocess.DEVNULL, stderr=log) as process,
    ):
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(anonymous_bytes, _family(process.pid))))
            time.sleep(0.05)
        if process.returncode:
            log.seek(0)
            raise ServiceError(
                f"app.py ended with {process.returncode}: {log.read().decode(errors='replace')}"
            )
        return peak


def _output(*arguments: str | Path) -> str:
    """What Python prints with ``arguments``. Raises ServiceError where it fails."""
    with _started(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        output, errors = (stream.decode(errors="replace") for stream in process.communicate())
    if process.returncode:
        command = " ".join(map(str, arguments[:3]))
        raise ServiceError(f"{command} ended with {process.returncode}: {errors or output}")
    return output


@contextmanager
def _started(
    *arguments: str | Path, stdout: int | IO[bytes] | None = None, stderr: int | IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Python with ``arguments`` in the repository; ended, and with it all of its own, with the block."""
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=stdout, stderr=stderr)
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


def _free_port() -> int:
    """A port that nothing listens on, below those that Linux gives to connections."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        ask(connection, "/v1/search", {"text": "ready"})
    except (OSError, http.client.HTTPException, ServiceError):
        return False
    finally:
        connection.close()
    return True


def _status_bytes(pid: int | str, name: str) -> int:
    """A value of /proc/PID/status in bytes; 0 once the process has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


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
