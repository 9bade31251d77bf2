"""A PostgreSQL server of its own, as Debian installs it, with one database for each test that asks."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
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
    """Listens on 127.0.0.1; it lies in ``folder`` and runs as another user than root."""

    def __init__(self, folder: Path) -> None:
        self._programs = require_postgres()
        self._folder = folder / "data"
        self._folder.mkdir(mode=0o700)
        # Root may run no server.
        self._as: dict[str, str] = {}
        if os.geteuid() == 0:
            self._as = {"user": _other_user()}
            shutil.chown(self._folder, self._as["user"])
            for parent in (folder, *folder.parents):
                if parent.stat().st_uid == 0 and parent != Path("/"):
                    parent.chmod(parent.stat().st_mode | 0o011)
        self._run("initdb", "-D", self._folder, "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def _run(self, program: str, *given: object) -> None:
        subprocess.run(
            [self._programs / program, *map(str, given)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            **self._as,
        )

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        options = f"-p {self.port} -k '' -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", self._folder, "-o", options, "-l", self._folder / "log", "-w", "start")

    def stop(self) -> None:
        """Stops it, and whatever is connected to it."""
        self._run("pg_ctl", "-D", self._folder, "-m", "immediate", "-w", "stop")

    def database(self) -> str:
        """The address of a new database."""
        name = f"photos_{uuid.uuid4().hex[:8]}"
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", _USER, name)
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{name}"


def _other_user() -> str:
    known = {each.pw_name for each in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"
