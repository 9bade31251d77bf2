"""Processes of the command line that begin after its imports, which cost more than most commands.

One process a session imports what the commands import, and no more; each command is a fork of it with an
environment, output, end and process id of its own. Where imports matter, tests start an interpreter.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

__all__ = ["WarmProcess", "run_warm"]

_REPOSITORY = Path(__file__).resolve().parents[1]
# None of them starts a thread when it is imported but numpy, whose own end and begin again around a fork.
_IMPORTED = (
    *("numpy", "faiss", "openvino", "orjson", "rich.console", "rich.table", "tokenizers", "xxhash", "yaml"),
    *("crossmodal.cli", "crossmodal.cli.local_engine", "crossmodal.cli.questions", "crossmodal.cli.search"),
    *("crossmodal.engine.engine", "crossmodal.index.embedded.vector_index", "crossmodal.workspace"),
    # Of servers, all but what counts: prometheus_client reads variables when it is imported.
    *("PIL.Image", "httpx2", "starlette.applications", "uvicorn.protocols.http.auto", "crossmodal.cli.index"),
    *("crossmodal.cli.serve", "crossmodal.server.access.gate", "crossmodal.server.routes"),
    *("crossmodal.http_shapes.legacy.answers", "crossmodal.http_shapes.v1.answers", "crossmodal.url_photos"),
)
_LONGEST = 1 << 20


class WarmProcess:
    """``python app.py ARGUMENTS`` as subprocess.Popen would start it, with files as its first three.

    Where there is ``code``, it is ``python -c CODE ARGUMENTS``.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *files: IO[bytes],
        code: str | None = None,
    ) -> None:
        self._arguments = list(arguments)
        self._asked = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asked.connect(_server())
        asked = {
            "arguments": self._arguments,
            "code": code,
            "environment": dict(environment),
            "umask": _umask(),
        }
        told = json.dumps(asked).encode()
        socket.send_fds(self._asked, [told], [file.fileno() for file in files])
        self.pid = int(self._asked.recv(_LONGEST))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code once it has ended; raises subprocess.TimeoutExpired where it hasn't by then."""
        if self.returncode is None:
            if not select.select([self._asked], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self._arguments, timeout or 0)
            self.returncode = int(self._asked.recv(_LONGEST))
            self._asked.close()
        return self.returncode

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run_warm(
    arguments: Sequence[str], environment: Mapping[str, str], timeout: float, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Runs ``python app.py ARGUMENTS`` to its end, or raises subprocess.TimeoutExpired."""
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        asked.write(stdin)
        asked.seek(0)
        process = WarmProcess(arguments, environment, asked, out, err)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read())
    return subprocess.CompletedProcess(["app.py", *arguments], code, *said)


def _umask() -> int:
    """This process's, which can only be read by setting it."""
    held = os.umask(0o077)
    os.umask(held)
    return held


_started: list[str] = []
_starting = threading.Lock()


def _server() -> str:
    """The address of the process that forks, which is started at the first call and ends with this one."""
    with _starting:
        if not _started:
            folder = tempfile.TemporaryDirectory(prefix="crossmodal-warm-", ignore_cleanup_errors=True)
            address = f"{folder.name}/socket"
            process = subprocess.Popen(
                [sys.executable, __file__, address],
                cwd=_REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            for end in (folder.cleanup, process.wait, process.stdout.close, process.stdin.close):
                atexit.register(end)
            _started.append(address)
    return _started[0]


def _serve(address: str) -> str | None:
    """Forks at each request; returns in each child, where ``sys.argv`` says what it is to run, and the code
    that it runs instead of ``app.py``."""
    for name in _IMPORTED:
        import_module(name)
    # Each child would go through all of it again, and so get a copy of its own, at its end at the latest.
    gc.collect()
    gc.freeze()
    running: dict[int, socket.socket] = {}
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    # Ctrl-C ends the tests, and with them this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen(16)
        print("ready", flush=True)
        while True:
            ready = select.select([0, woken, listening], [], [])[0]
            if 0 in ready:
                # Whoever started this process has ended.
                os._exit(0)
            if woken in ready:
                os.read(woken, 1000)
                for pid in list(running):
                    ended, status = os.waitpid(pid, os.WNOHANG)
                    if ended:
                        with running.pop(pid) as asked:
                            asked.send(b"%d" % os.waitstatus_to_exitcode(status))
            if listening in ready:
                asked, _ = listening.accept()
                held, descriptors, _, _ = socket.recv_fds(asked, _LONGEST, 3)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    signal.signal(signal.SIGINT, signal.default_int_handler)
                    for other in (asked, *running.values()):
                        other.close()
                    os.close(woken)
                    os.close(wakes)
                    told = json.loads(held)
                    _become(told, descriptors)
                    return str(told["code"]) if told["code"] else None
                for descriptor in descriptors:
                    os.close(descriptor)
                running[pid] = asked
                asked.send(b"%d" % pid)


def _become(told: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Makes this child the process that was asked for."""
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(told["environment"])
    os.umask(told["umask"])
    sys.argv = ["-c" if told["code"] else "app.py", *told["arguments"]]


if __name__ == "__main__":
    # Instead of this file's own folder.
    sys.path[0] = str(_REPOSITORY)
    code = _serve(sys.argv[1])
    if code is None:
        runpy.run_path("app.py", run_name="__main__")
    else:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
