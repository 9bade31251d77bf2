"""A PostgreSQL server of its own, as Debian installs it, with one database for each test that asks."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest

_PLACES = (*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/local/bin"))
_USER = "crossmodal"


def require_postgres() -> Path:
    """The folder of its programs; skips the test where there is none, but under CI."""
    for place in _PLACES:
        if (place / "initdb").exists() and (place / "pg_ctl").exists():
            return place
    if os.environ.get("CI"):
        pytest.fail("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    pytest.skip("PostgreSQL is not installed")


class PostgresServer:
    """Listens on 127.0.0.1, and runs as another user than root, in a folder that this user can reach."""

    def __init__(self) -> None:
        self._programs = require_postgres()
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        # Root may run no server.
        self._as: dict[str, str] = {}
        if os.geteuid() == 0:
            self._as = {"user": _other_user()}
            shutil.chown(self._folder, self._as["user"])
        self._run("initdb", "-D", self._folder, "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def _run(self, program: str, *given: object) -> None:
        # No pipe, which the server would keep open.
        with tempfile.TemporaryFile() as log:
            done = subprocess.run(
                [self._programs / program, *map(str, given)],
                check=False,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                **self._as,
            )
            log.seek(0)
            assert done.returncode == 0, log.read().decode()

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        options = f"-p {self.port} -k '' -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", self._folder, "-o", options, "-l", self._folder / "log", "-w", "start")

    def stop(self) -> None:
        """Stops it, and whatever is connected to it."""
        self._run("pg_ctl", "-D", self._folder, "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        """Stops it for good."""
        self.stop()
        shutil.rmtree(self._folder)

    def database(self) -> str:
        """The address of a new database."""
        name = f"photos_{uuid.uuid4().hex[:8]}"
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", _USER, name)
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{name}"


def _other_user() -> str:
    known = {each.pw_name for each in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"
