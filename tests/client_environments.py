"""Environments of their own for clients that others wrote, each made once and kept in a cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import REPOSITORY, clean_environment

__all__ = ["ClientEnvironment", "client_environment"]

# A few hundred megabytes; whoever wants them back deletes the folder.
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossmodal-tests"


@dataclass(frozen=True)
class ClientEnvironment:
    """A virtual environment; ``folder`` holds it."""

    folder: Path

    def run(
        self, script: str, *arguments: str, timeout: float = 120, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a Python script in it, and fails with what it said where it fails."""
        return self.call("python", "-c", script, *arguments, timeout=timeout, check=check, **variables)

    def call(
        self, program: str, *arguments: str, timeout: float = 120, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs one of its programs."""
        done = subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=self.folder,
            env={**clean_environment(), "PYTHONPATH": "", **variables},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stdout[-3000:] + done.stderr[-3000:]
        return done


def client_environment(
    *packages: str, python: str = "3.11", first: Sequence[str] = (), options: Sequence[str] = ()
) -> ClientEnvironment:
    """An environment of that Python with ``packages``, pinned as pip writes them, made at the first use.

    ``first`` are packages that the others need to be built, ``options`` more options of pip. Skips the test
    with pip's reason where a package or the Python can't be had; under CI it fails.
    """
    key = hashlib.sha256(repr((packages, python, first, options)).encode()).hexdigest()[:16]
    folder = _CACHE / f"{packages[0].partition('=')[0]}-{python}-{key}"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / f"{key}.lock").open("w") as lock:
        # Processes that test at the same time wait for the one that makes it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _make(folder, packages, python, first, options)
            (folder / "complete").touch()
    return ClientEnvironment(folder)


def _make(
    folder: Path, packages: Sequence[str], python: str, first: Sequence[str], options: Sequence[str]
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    found = subprocess.run(
        [str(REPOSITORY / ".ci" / "find-python"), python], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        _unavailable(f"this machine has no Python {python}")
    made = str(folder / "bin" / "python")
    # Another Python's pip may be too new for this one, or too old to install for it.
    is_this = python == f"{sys.version_info.major}.{sys.version_info.minor}"
    without = ["--without-pip"] if is_this else []
    pip = [sys.executable, "-m", "pip", "--python", made] if is_this else [made, "-m", "pip"]
    subprocess.run([found.stdout.strip(), "-m", "venv", *without, str(folder)], check=True)
    for named in (first, packages):
        if named:
            # Most of what is installed is never imported, and the rest is compiled when it is.
            done = subprocess.run(
                [*pip, "install", "--quiet", "--no-compile", *options, *named],
                env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "JINA_PIP_INSTALL_CORE": "1"},
                capture_output=True,
                text=True,
                timeout=500,
                check=False,
            )
            if done.returncode != 0:
                _unavailable(f"pip could not install {', '.join(named)}: {done.stderr[-500:]}")


def _unavailable(reason: str) -> None:
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(reason)
    pytest.skip(reason)
