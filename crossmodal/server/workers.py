"""The serving processes as their parent sees them: forked, watched, and forked again."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.access.shared_table import SharedState
from crossmodal.errors import ServiceError
from crossmodal.hosts import is_loopback
from crossmodal.processes import STOP_SIGNALS, StopSignals, exit_words
from crossmodal.server.restarts import Restarts
from crossmodal.server.silence import SILENT_SECONDS, Silence
from crossmodal.server.worker import WorkerOrder, run_worker
from crossmodal.settings import Settings

if TYPE_CHECKING:
    from crossmodal.engine.engine import Engine

__all__ = ["Workers"]

# What a worker that refuses to serve, and has said why, ends with: see ``exit_code_of``.
_REFUSED = (1, 2)

# A little longer than a worker gives its last requests.
_STOP_SECONDS = 8.0

# While it starts, what a worker loads may keep it from reporting for a while.
_SILENT_START_SECONDS = 120.0


@dataclass(slots=True)
class _Worker:
    """One place for a serving process, and the process in it."""

    number: int
    pid: int = 0
    # The pipe on which the process reports; -1 where there is none.
    started: int = -1
    answering: bool = False
    # Since it was forked or last reported, and what it said there of a step that will not come back.
    silence: Silence = field(default_factory=Silence)
    stuck: str | None = None
    restarts: Restarts = field(default_factory=lambda: Restarts("The server process"))


class Workers:
    """The serving processes, which are ended with the context."""

    def __init__(
        self,
        settings: Settings,
        open_engine: Callable[[], Engine],
        listening: socket.socket,
        index_only: bool,
        signals: StopSignals,
        folder: Path | None,
    ) -> None:
        self._settings = settings
        self._open_engine = open_engine
        self._listening = listening
        self._index_only = index_only
        self._signals = signals
        self._workers = [_Worker(number) for number in range(1 if index_only else settings.workers)]
        # Closes with this process, however it ends; nothing is ever written into it.
        self._alive, self._kept_open = os.pipe()
        self._folder = folder
        self._writer: socket.socket | None = None
        self._shared = SharedState()
        self.model = ""

    @property
    def answering(self) -> bool:
        """Whether all of them answer."""
        return all(worker.answering for worker in self._workers)

    def __enter__(self) -> Workers:
        if len(self._workers) > 1:
            self._writer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._writer.bind(str(self._writer_path))
            self._writer.listen(128)
        return self

    def __exit__(self, *raised: object) -> None:
        try:
            self._stop()
        finally:
            os.close(self._alive)
            os.close(self._kept_open)
            if self._writer is not None:
                self._writer.close()

    @property
    def _writer_path(self) -> Path:
        assert self._folder is not None
        return self._folder / "writer.sock"

    @property
    def due(self) -> float:
        """When the next of them is to be started; infinite where all run."""
        return min(worker.restarts.due for worker in self._workers)

    @property
    def starting(self) -> list[int]:
        """The pipes on which they report that they start, that they answer, and that they still do."""
        return [worker.started for worker in self._workers if worker.started >= 0]

    def _kill_stuck(self) -> None:
        """Kills those that have not been heard of for too long, and those that say that a step is stuck."""
        for worker in self._workers:
            if not worker.pid:
                continue
            patience = SILENT_SECONDS if worker.answering else _SILENT_START_SECONDS
            stuck = worker.silence.why_stuck(worker.pid, worker.stuck, patience)
            if stuck is None:
                worker.stuck = None
                continue
            print(f"error: The server process is killed. {stuck}", file=sys.stderr, flush=True)
            os.kill(worker.pid, signal.SIGKILL)
            # Its end is still to be seen; until then there is nothing else to do about it.
            worker.answering, worker.stuck = False, None
            worker.silence.end()

    def hear(self, ready: Collection[int]) -> None:
        """Reads the reports; ``ready`` can be read from."""
        for worker in self._workers:
            if worker.started in ready:
                report = os.read(worker.started, 1 << 16)
                if not report:
                    self._close_started(worker)
                    continue
                worker.silence.end()
                # Shorter than a pipe writes at once, so that none is cut.
                for said in map(json.loads, report.splitlines()):
                    if "model" in said:
                        self.model = said["model"]
                        worker.answering, worker.stuck = True, None
                    else:
                        worker.stuck = said["stuck"]

    def check(self) -> int | None:
        """Starts what is due, at first and after an end; the exit code where a worker refuses to serve.

        Raises ServiceError where one ends too often, or where jina's processes would have to be restarted.
        """
        self._kill_stuck()
        for worker in self._workers:
            if worker.pid and (code := self._end_of(worker)) is not None:
                was_answering, worker.answering = worker.answering, False
                never_answered = not self.model and code > 0
                if never_answered or (
                    code in _REFUSED and (not was_answering or self._settings.layout == "pods")
                ):
                    return code if code in _REFUSED else _REFUSED[0]
                if self._settings.layout == "pods":
                    raise ServiceError(
                        f"The server process ended unexpectedly ({exit_words(code)}). "
                        "Start again; crossmodal verify tells whether the index is whole."
                    )
                worker.restarts.note_end(code)
            if not worker.pid and not self._signals.stopping and worker.restarts.take():
                self._fork(worker)
        return None

    def _end_of(self, worker: _Worker) -> int | None:
        """The exit code of one that has ended."""
        ended, status = os.waitpid(worker.pid, os.WNOHANG)
        if not ended:
            return None
        worker.pid = 0
        self._close_started(worker)
        return os.waitstatus_to_exitcode(status)

    def _close_started(self, worker: _Worker) -> None:
        if worker.started >= 0:
            os.close(worker.started)
            worker.started = -1

    def _fork(self, worker: _Worker) -> None:
        hear, say = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        # Held back until each process has its own way with them: the worker would take one for the parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        pid = os.fork()
        if pid:
            os.close(say)
            worker.pid, worker.started = pid, hear
            worker.silence, worker.stuck = Silence(), None
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            return
        # In the worker. Whatever happens, it must not come back into the parent's code.
        code = 70
        try:
            # The terminal's Ctrl-C is for the parent, which then ends this one in good order.
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # There is nothing to finish before it serves.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            os.close(hear)
            os.close(self._kept_open)
            code = run_worker(self._order(worker, say))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:  # noqa: BLE001  the process ends here
            import traceback

            traceback.print_exc()
        finally:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _order(self, worker: _Worker, say: int) -> WorkerOrder:
        sockets = [self._listening]
        writer: str | None = None
        if self._writer is not None:
            if worker.number == 0:
                sockets.append(self._writer)
            else:
                writer = str(self._writer_path)
        return WorkerOrder(
            self._settings,
            self._open_engine,
            tuple(sockets),
            parent=self._alive,
            started=say,
            index_only=self._index_only,
            writing_reason=None if self._index_only else _why_not_writing(self._settings),
            writer=writer,
            metrics_folder=self._folder,
            shared=self._shared,
        )

    def _stop(self) -> None:
        for worker in self._workers:
            self._close_started(worker)
            if worker.pid:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        try:
            while any(worker.pid for worker in self._workers) and time.monotonic() < deadline:
                self._reap(os.WNOHANG)
                time.sleep(0.01)
        finally:
            for worker in self._workers:
                if worker.pid:
                    os.kill(worker.pid, signal.SIGKILL)
            self._reap(0)

    def _reap(self, options: int) -> None:
        for worker in self._workers:
            if worker.pid and os.waitpid(worker.pid, options)[0]:
                worker.pid = 0


def _why_not_writing(settings: Settings) -> str | None:
    """The sentence that says why documents cannot be added and deleted here; None where they can."""
    if settings.writing == "off":
        return "Writing is switched off on this server; --writing on allows it."
    if settings.writing == "auto" and not is_loopback(settings.host):
        return (
            f"This server listens on {settings.host}, where other machines could change the index; "
            "--writing on allows it."
        )
    return None
