"""What the tests share: the repository, the real command line, and one toy index made once."""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from warm_start import WarmProcess, run_warm

# The threads of OpenMP (torch, faiss) wait for work by running unless they are told to sleep, before they are
# loaded. Where other processes want the cores, that takes many times what they compute.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
TOY_DATA = REPOSITORY / "data" / "toy-data"
TOY_IMAGES = TOY_DATA / "images"

# What /proc says of a process or thread that has ended since it was listed.
_ENDED = (FileNotFoundError, ProcessLookupError)

# On a busy machine any example may take a second; Hypothesis itself goes by this only where CI is set.
_ANY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", _ANY_MACHINE, max_examples=25)
# What `make slow` asks for.
settings.register_profile("thorough", _ANY_MACHINE, max_examples=400)
settings.load_profile("quick")


# Where servers write what they say; gone with the session.
_logs = tempfile.TemporaryDirectory(prefix="crossmodal-tests-", ignore_cleanup_errors=True)
atexit.register(_logs.cleanup)


def pytest_collection_finish() -> None:
    """What the tests have imported stays: no test looks through it for garbage."""
    gc.collect()
    gc.freeze()


def run_app(
    *arguments: str | Path, timeout: float = 120, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs ``python app.py`` as a person would, from the repository, and waits for it.

    With no variables but those of this process and the project's own, it begins after its imports.
    """
    if may_be_warm(environment):
        variables = {**_AT_THE_START, **(environment or {})}
        done = run_warm(list(map(str, arguments)), variables, timeout)
        out, err = (said.decode().replace("\r\n", "\n") for said in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)
    return run_python("app.py", *arguments, timeout=timeout, environment=environment)


def run_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What ``python app.py`` does, in this process: where no process of its own is promised, and models that
    a test has loaded are not loaded again."""
    from crossmodal.cli import main

    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        patch.setenv("CROSSMODAL_OCR", "off")
        code = main(list(map(str, arguments)))
    said = []
    for stream in streams:
        stream.seek(0)
        said.append(stream.read())
    return subprocess.CompletedProcess(["app.py", *map(str, arguments)], code, *said)


def run_python(
    *arguments: str | Path, timeout: float = 120, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs this Python with ``arguments`` from the repository, without any of our variables, to its end."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**clean_environment(), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def clean_environment() -> dict[str, str]:
    """The environment without the variables that the settings read, but no text in photos is read.

    That takes seconds, and is asked for where it is tested.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("JINA_", "CROSSMODAL_"))
    }
    return {**kept, "CROSSMODAL_OCR": "off"}


# Before any test has set a variable.
_AT_THE_START = clean_environment()


def may_be_warm(environment: dict[str, str] | None) -> bool:
    """Whether imports don't depend on what is added to the variables, or has been set meanwhile."""
    own = all(name.startswith(("JINA_", "CROSSMODAL_")) for name in environment or ())
    return own and clean_environment() == _AT_THE_START


def free_port() -> int:
    """A port that nothing listens on at the moment.

    It lies below those that Linux gives to connections (32768 to 60999): one of these may be taken by any
    client before the server is there.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Server:
    """A real server process: ``python app.py -t query_restful`` or ``index_restful``."""

    process: subprocess.Popen[bytes] | WarmProcess
    url: str
    log: Path

    def output(self) -> str:
        """All that the server has written so far, stdout and stderr together."""
        return self.log.read_text(encoding="utf-8")

    def request(
        self, path: str, body: Any = None, *, headers: dict[str, str] | None = None, timeout: float = 30
    ) -> tuple[int, Any]:
        """Posts ``body`` as JSON (or bytes as they are), or GETs where there is none; status and JSON."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data=data, headers={"Content-Type": "application/json", **(headers or {})}
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20) -> int:
        """Sends a signal and waits for the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout)


def start_server(
    task: str,
    *arguments: str | Path,
    port: int | None = None,
    timeout: float = 90,
    program: Sequence[str] | None = None,
    python: str | None = None,
    environment: dict[str, str] | None = None,
) -> Server:
    """Starts a server and waits until it answers; fails with what it said where it ends before that.

    ``program`` is what runs instead of ``app.py``, ``python`` runs it instead of this one, ``environment`` is
    added to the variables. Without any of them, or with ``-c`` and code alone, it begins after its imports.
    """
    port = port or free_port()
    log = Path(_logs.name) / f"{port}.log"
    process: subprocess.Popen[bytes] | WarmProcess
    asked = ["-t", task, "--port", str(port), *map(str, arguments)]
    variables = {**clean_environment(), **(environment or {})}
    with log.open("wb") as held:
        code = program[1] if program is not None and len(program) == 2 and program[0] == "-c" else None
        if (program is None or code) and python is None and may_be_warm(environment):
            with Path(os.devnull).open("rb") as nothing:
                process = WarmProcess(asked, variables, nothing, held, held, code=code)
        else:
            process = subprocess.Popen(
                [python or sys.executable, *(program or ("app.py",)), *asked],
                cwd=REPOSITORY,
                env=variables,
                stdout=held,
                stderr=subprocess.STDOUT,
            )
    server = Server(process, f"http://127.0.0.1:{port}", log)
    atexit.register(process.kill)
    deadline = time.monotonic() + timeout
    while not re.search("^serving ", server.output(), re.MULTILINE):
        if process.poll() is not None:
            pytest.fail(f"the server ended with {process.returncode}: {server.output()}")
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the server was not up within {timeout} s: {server.output()}")
        time.sleep(0.05)
    return server


@pytest.fixture(scope="session")
def toy_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy data indexed once by the real command line with the default model."""
    workspace = tmp_path_factory.mktemp("toy") / "workspace"
    done = run_app("-t", "index", "-d", "toy-data", "--workspace", workspace, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    return workspace


@pytest.fixture(scope="session")
def toy_server(toy_workspace: Path) -> Iterator[Server]:
    """The query server over the toy index, shared by tests that only read."""
    server = start_server("query_restful", "--workspace", toy_workspace)
    yield server
    server.stop()


def copy_index(workspace: Path, copy: Path) -> Path:
    """Copies an index and returns ``copy``.

    Another process does it: closing a file of an index gives up this process's locks on it, which indexes
    that tests hold open need.
    """
    subprocess.run(["cp", "-R", workspace, copy], check=True)
    return copy


@contextmanager
def server_over_copy(workspace: Path, folder: Path) -> Iterator[Server]:
    """A query server over a copy of an index, made in ``folder``, that tests may write to."""
    copy = copy_index(workspace, folder / "workspace")
    server = start_server("query_restful", "--workspace", copy)
    yield server
    server.stop()


def children_of(pid: int) -> Sequence[int]:
    """The process ids of all descendants of a process but its decoders, which come and go."""
    decoders = set(decoders_of(pid))
    return [child for child in _descendants(pid) if child not in decoders]


def decoders_of(pid: int) -> Sequence[int]:
    """The process ids of those descendants that decode photos."""
    found = []
    for child in _descendants(pid):
        with suppress(*_ENDED):
            if b"crossmodal.images.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def _descendants(pid: int) -> Sequence[int]:
    found: list[int] = []
    for child in _children(pid):
        found += [child, *_descendants(child)]
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    # Processes and their threads may end while they are looked at.
    with suppress(*_ENDED):
        for thread in list(Path(f"/proc/{pid}/task").iterdir()):
            with suppress(*_ENDED):
                found += map(int, (thread / "children").read_text().split())
    return found


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except _ENDED:
        return False


@pytest.fixture(scope="module")
def encoders_loaded_once() -> Iterator[None]:
    """The real encoders, but one loading in this process for all the indexes that tests open in it."""
    from crossmodal.models import registry

    with pytest.MonkeyPatch.context() as patch:
        for name in ("load_image_encoder", "load_text_encoder"):
            patch.setattr(registry, name, _loading_once(name))
        yield


@cache
def _loading_once(name: str) -> Callable[..., Any]:
    from crossmodal.models import registry

    return cache(getattr(registry, name))


@pytest.fixture
def without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that computes in float32 only, on which vectors are the reference's to five digits."""
    from crossmodal.models.runtimes.forms import Form

    unusable = Form.unusable
    monkeypatch.setattr(
        Form, "unusable", lambda form: "it is not to be used" if form.precision == "bf16" else unusable(form)
    )
