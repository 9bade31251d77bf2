"""A process of this project's own beside this one: ``Child`` where it is started, ``Parent`` inside of it.

They share two pipes. The child says on its stdout, in lines of JSON, that it is ready, that it still runs, or
that it has failed; its stdin ends when its parent does.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from crossmodal.errors import ServiceError
from crossmodal.processes import exit_words

__all__ = ["CLOSE_SECONDS", "Child", "Parent"]

# Shutting down takes well under a second, unless a request under way takes longer; `docker stop` kills
# after ten.
CLOSE_SECONDS = 6.0

# What a child writes while it starts becomes part of an error; its end says why.
_MOST_SAID = 2000

# A large model on a slow disk takes a minute at most.
_START_SECONDS = 300.0

_CHECK_SECONDS = 0.5


class Child:
    """``python -m MODULE ARGUMENTS`` in a session of its own, so that the terminal's Ctrl-C doesn't reach it.

    ``name`` is what messages call it; it has ``start_seconds`` to get ready. With ``hold_stderr``, what it
    writes to stderr while it starts is held for the error that ``wait_ready`` raises, and passed on only when
    it is ready. That takes a thread; without it there is none, and this process may fork.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        name: str,
        start_seconds: float = _START_SECONDS,
        environment: Mapping[str, str] | None = None,
        hold_stderr: bool = False,
    ) -> None:
        self._name = name
        self._start_seconds = start_seconds
        self._deadline = time.monotonic() + start_seconds
        self._ready: str | None = None
        self._failure: str | None = None
        self._heard = time.monotonic()
        self._said: list[str] = []
        # One thread at a time reads the stdout of the process, until that has ended.
        self._reading = threading.Lock()
        self._unread = b""
        self._speaking = True
        self._process = subprocess.Popen(
            # -P: a file of the folder that one happens to be in is no module.
            [sys.executable, "-P", "-m", module, *arguments],
            env=_with_package({**os.environ, **(environment or {})}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if hold_stderr else None,
            start_new_session=True,
        )
        self._hearing: threading.Thread | None = None
        if hold_stderr:
            self._hearing = threading.Thread(target=self._hear, name=f"hear-{module}", daemon=True)
            self._hearing.start()

    @property
    def pid(self) -> int:
        """Its process id, which is that of its process group as well."""
        return self._process.pid

    def fileno(self) -> int:
        """What can be read from when ``is_ready`` may have changed."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def heard(self) -> float:
        """When it last said something, of ``time.monotonic``."""
        self._read(0)
        return self._heard

    def is_ready(self) -> bool:
        """Whether it has said that it is; doesn't wait.

        Raises ServiceError where it has said why it fails, or has taken longer than it has.
        """
        self._read(0)
        if self._failure is not None:
            raise ServiceError(self._with_what_it_said(self._failure))
        if self._ready is None and time.monotonic() > self._deadline:
            raise ServiceError(f"{self._name} did not start within {self._start_seconds:.0f} seconds.")
        return self._ready is not None

    def wait_ready(self) -> str:
        """What it says when it is ready; raises ServiceError where it fails, ends or takes too long.

        Whatever keeps it from getting ready, an interrupt too, ends it at once.
        """
        try:
            while True:
                # Asked first: all that it has said before its end can be read then.
                code = self.poll()
                if self.is_ready():
                    assert self._ready is not None
                    return self._ready
                if code is not None:
                    failure = f"{self._name} ended while starting ({exit_words(code)})."
                    raise ServiceError(self._with_what_it_said(failure))
                self._read(_CHECK_SECONDS)
        except BaseException:
            self.kill()
            raise

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Raises ServiceError where it has failed or ended."""
        code = self.poll()
        self._read(0)
        if self._failure is not None:
            raise ServiceError(self._failure)
        if code is not None:
            raise ServiceError(
                f"{self._name} ended unexpectedly ({exit_words(code)}). "
                "Start again; crossmodal verify tells whether the index is whole."
            )

    def wait_ended(self, seconds: float) -> None:
        """Waits until it has ended, at most so long."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def stop(self) -> None:
        """Ends it after what is under way, and kills it where that takes too long."""
        try:
            assert self._process.stdin is not None
            # Or it has ended, or been asked to, before.
            with suppress(OSError, ValueError):
                # Closing alone would not do: a process forked from this one may hold the pipe as well.
                self._process.stdin.write(b"stop\n")
                self._process.stdin.close()
            self.wait_ended(CLOSE_SECONDS + 1)
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends it and all that it has started at once."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        self._read(0)
        with self._reading:
            self._speaking = False
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
        if self._hearing is not None and self._process.stderr is not None:
            self._hearing.join(1)
            # What it started may still hold the other end, for a moment, and the thread read from it.
            if not self._hearing.is_alive():
                self._process.stderr.close()

    def _read(self, seconds: float) -> None:
        """Takes in what it has said on its stdout; waits for that at most so long."""
        with self._reading:
            if not self._speaking:
                return
            poll = select.poll()
            poll.register(self, select.POLLIN)
            while poll.poll(seconds * 1000):
                said = os.read(self.fileno(), 1 << 16)
                if not said:
                    self._speaking = False
                    break
                self._heard = time.monotonic()
                *lines, self._unread = (self._unread + said).split(b"\n")
                for line in map(json.loads, lines):
                    self._ready = line.get("ready", self._ready)
                    self._failure = line.get("failed", self._failure)
                seconds = 0

    def _hear(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line.decode(errors="replace"))
            if self._ready is not None:
                self._pass_on()

    def _pass_on(self) -> None:
        held, self._said = self._said, []
        with suppress(OSError, ValueError):
            sys.stderr.write("".join(held))
            sys.stderr.flush()

    def _with_what_it_said(self, failure: str) -> str:
        # It ends by itself after it has failed; by then all that it had to say has come.
        self.wait_ended(CLOSE_SECONDS)
        self.kill()
        said = "".join(self._said).strip()[-_MOST_SAID:]
        return f"{failure} It said: {said}" if said else failure


class Parent:
    """The process that started this one, as a ``Child``; ``on_end`` is called in a thread when it ends.

    Nothing else reaches its stdout from here on: results of the command line belong there.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._line = os.fdopen(os.dup(1), "w", encoding="utf-8")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        self._on_end = on_end
        threading.Thread(target=self._wait, name="watch-parent", daemon=True).start()

    def say_ready(self, what: str = "") -> None:
        """Says that this process is ready, and ``what`` one needs to use it."""
        self._say({"ready": what})

    def say_running(self) -> None:
        """Says that this process still runs; to be called twice a second once it is ready."""
        os.set_blocking(self._line.fileno(), False)
        # Nobody has read for minutes.
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._line.fileno(), b'{"running": ""}\n')

    def say_failed(self, sentence: str) -> None:
        """Says why this process cannot go on."""
        self._say({"failed": sentence})

    def _say(self, said: Mapping[str, str]) -> None:
        with suppress(OSError):
            print(json.dumps(said), file=self._line, flush=True)

    def _wait(self) -> None:
        # Not by sys.stdin, whose lock a forked process would find taken for ever.
        os.read(0, 1)
        self._on_end()


def _with_package(environment: dict[str, str]) -> dict[str, str]:
    """``environment`` in which a process finds this package, wherever it was imported from."""
    package = str(Path(__file__).resolve().parents[2])
    before = environment.get("PYTHONPATH")
    return {**environment, "PYTHONPATH": f"{package}{os.pathsep}{before}" if before else package}
