"""A real Milvus server for slow tests: the package ``milvus`` in an environment of its own, no containers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

# What it needs does not go with what this project needs.
_PACKAGES = ("milvus==2.3.5", "pymilvus==2.4.9", "marshmallow<4", "setuptools<81")

# It tries its port before it starts, and takes the next one where connections of a killed server linger.
_CODE = """
import signal, socket, sys

class Reusing(socket.socket):
    def bind(self, address):
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        super().bind(address)

socket.socket = Reusing
from milvus import default_server as server
server.set_base_dir(sys.argv[1])
server.listen_port = int(sys.argv[2])
server.start()
print("started", flush=True)
signal.sigwait([signal.SIGTERM])
server.stop()
"""


def milvus_python(folder: Path) -> Path:
    """The Python of an environment with the server; skips the test where it cannot be made.

    ``$MILVUS_PYTHON`` names one that is there.
    """
    if named := os.environ.get("MILVUS_PYTHON"):
        return Path(named)
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *_PACKAGES],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"the package milvus cannot be installed: {done.stderr[-300:]}")
    return python


class MilvusServer:
    """A server with its data in ``folder``, at ``address``; its own processes and no others are killed."""

    def __init__(self, python: Path, folder: Path, port: int) -> None:
        self._python, self._folder, self._port = python, folder, port
        self.address = f"milvus+http://127.0.0.1:{port}"
        self.start()

    def start(self, seconds: float = 180) -> None:
        """Starts it, and waits until it is up."""
        log = (self._folder.parent / "milvus.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self._python, "-c", _CODE, self._folder, str(self._port)],
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        until = time.monotonic() + seconds
        while b"started" not in (self._process.stdout.read() or b""):
            assert self._process.poll() is None, "Milvus ended; see milvus.log"
            assert time.monotonic() < until, "Milvus is not up"
            time.sleep(0.2)

    def start_where_it_ended(self) -> None:
        """Starts it unless it runs."""
        if self._process.poll() is not None:
            self.start()

    def kill(self) -> None:
        """Kills it as a crash would: no process of it has time for anything."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._wait()

    def stop(self) -> None:
        """Ends it."""
        self.kill()

    def _wait(self) -> None:
        self._process.wait(timeout=60)
        if self._process.stdout is not None:
            self._process.stdout.close()


if __name__ == "__main__":
    print(milvus_python(Path(sys.argv[1])))
