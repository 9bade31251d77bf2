"""The small parent of the serving processes: holds the sockets, and starts and restarts the processes.

It loads no model and opens no index. A worker that ends unasked, be it killed by the kernel when memory is
short, is forked again: connections under way are closed, new ones wait in the socket's queue meanwhile.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from crossmodal.access.shared_table import SharedState
from crossmodal.errors import ServiceError
from crossmodal.hosts import in_url, is_loopback, listen
from crossmodal.images.budget import process_budget
from crossmodal.images.limits import MEGABYTE
from crossmodal.processes import STOP_SIGNALS, StopSignals, exit_words
from crossmodal.server.silence import CHECK_SECONDS, SILENT_SECONDS, Silence
from crossmodal.server.worker import WorkerOrder, metrics_variables, run_worker
from crossmodal.settings import Settings, exported

if TYPE_CHECKING:
    from crossmodal.engine.engine import Engine

__all__ = ["supervise"]

# After so many unasked ends within this many seconds the server gives up.
_MOST_RESTARTS = 5
_RESTART_WINDOW_SECONDS = 60.0

# Before the second, third ... start after an end; the first comes at once.
_BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0)

# A little longer than a worker gives its last requests.
_STOP_SECONDS = 8.0

# What a worker that refuses to serve, and has said why, ends with.
_REFUSED = 1

# While it starts, what a worker loads may keep it from reporting for a while.
_SILENT_START_SECONDS = 120.0


class BesideProcess(Protocol):
    """A process beside the workers that ends with this one, such as the one that speaks gRPC."""

    @property
    def pid(self) -> int: ...
    def fileno(self) -> int: ...
    def heard(self) -> float: ...
    def is_ready(self) -> bool: ...
    def poll(self) -> int | None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


def supervise(
    settings: Settings,
    open_engine: Callable[[], Engine],
    *,
    index_only: bool = False,
    start_beside: Callable[[], BesideProcess] | None = None,
) -> int:
    """Serves until SIGINT or SIGTERM; returns the exit code.

    ``open_engine`` is called in each worker. ``start_beside`` starts another process once the workers answer,
    and again where it ends unasked; it returns without waiting until that is ready. Returns 0 where a signal
    ended it, 1 where a worker refused to serve (it has said why). Raises ServiceError where the port cannot
    be listened on, where workers or the process beside them end too often, where that one says why it
    cannot serve, and where a worker of the layout pods ends at all.
    """
    with ExitStack() as held:
        listening = held.enter_context(listen(settings.host, settings.port, option="--port"))
        signals = held.enter_context(StopSignals())
        # All workers, and what is started beside them, decode within one budget.
        budget = process_budget((settings.decode_memory or 0) * MEGABYTE)
        held.enter_context(exported(budget.variables))
        alone = start_beside is None and (index_only or settings.workers == 1)
        folder = None if alone else Path(held.enter_context(_private_folder()))
        workers = held.enter_context(_Workers(settings, open_engine, listening, index_only, signals, folder))
        beside = held.enter_context(_Beside(settings, start_beside, folder))
        announced = False
        while not signals.stopping:
            if workers.check():
                return _REFUSED
            if announced or workers.answering:
                beside.check()
            if not announced and workers.answering and beside.answering:
                _announce(settings, workers.model, index_only)
                announced = True
            if not signals.stopping:
                _wait(workers, beside, signals)
    return 0


def _private_folder() -> tempfile.TemporaryDirectory[str]:
    """What the processes of one server share: their metrics, and the socket of the one that writes."""
    return tempfile.TemporaryDirectory(prefix="crossmodal-", ignore_cleanup_errors=True)


def _wait(workers: _Workers, beside: _Beside, signals: StopSignals) -> None:
    """Waits until a process reports that it answers, is due to start, or a signal comes; at most a moment."""
    due = min(workers.due, beside.due) - time.monotonic()
    ready, _, _ = select.select(
        [signals.wake, *workers.starting, *beside.starting], [], [], min(max(due, 0.0), CHECK_SECONDS)
    )
    workers.hear(ready)


class _Restarts:
    """When a process is started, and again where it ends unasked: ``due`` is the time of the next start."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ends: deque[float] = deque()
        # At once; infinite while it runs.
        self.due = 0.0

    def take(self) -> bool:
        """Whether it is to be started now."""
        if self.due > time.monotonic():
            return False
        self.due = math.inf
        return True

    def note_end(self, code: int) -> None:
        """Notes an end and sets the next start; raises ServiceError where it has ended too often."""
        now = time.monotonic()
        self._ends.append(now)
        while self._ends[0] < now - _RESTART_WINDOW_SECONDS:
            self._ends.popleft()
        number = len(self._ends)
        how = f"{self._name} ended unexpectedly ({exit_words(code)})"
        if number > _MOST_RESTARTS:
            raise ServiceError(
                f"{how}. That was the end number {number} within a minute; it is not started again. "
                "crossmodal verify tells whether the index is whole."
            )
        print(
            f"error: {how}; it is started again ({number} of {_MOST_RESTARTS}).", file=sys.stderr, flush=True
        )
        self.due = now + _BACKOFF_SECONDS[number - 1]


class _Beside:
    """The process beside the workers, where there is one; ended with the context."""

    def __init__(
        self, settings: Settings, start: Callable[[], BesideProcess] | None, folder: Path | None
    ) -> None:
        self._name = f"The process that answers gRPC on port {settings.grpc_port}"
        self._start = start
        self._folder = folder
        self._process: BesideProcess | None = None
        self._restarts = _Restarts(self._name)
        self._answered = False
        self._silence = Silence()
        self.answering = start is None

    def __enter__(self) -> _Beside:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._process is not None:
            self._process.stop()

    @property
    def due(self) -> float:
        """When it is to be started again; infinite where it runs, or has never been started."""
        return self._restarts.due if self._answered else math.inf

    @property
    def starting(self) -> list[int]:
        """The pipe on which it reports while it starts."""
        return [] if self._process is None or self.answering else [self._process.fileno()]

    def check(self) -> None:
        """Starts it where it has ended, or never was, and kills it where it is stuck.

        Raises ServiceError where it cannot serve.
        """
        if self._start is None:
            return
        if self._process is None:
            if self._restarts.take():
                with exported(metrics_variables(self._folder)):
                    self._process = self._start()
            return
        if self.answering:
            self._kill_stuck(self._process)
        # Polled first: then all that it has reported before its end can be read.
        code = self._process.poll()
        if not self.answering:
            self.answering = self._process.is_ready()
            self._answered |= self.answering
            # It reports from then on.
            self._silence = Silence()
        if code is not None:
            self.answering = False
            self._process.stop()
            self._process = None
            if not self._answered:
                raise ServiceError(f"{self._name} ended while starting ({exit_words(code)}).")
            self._restarts.note_end(code)

    def _kill_stuck(self, process: BesideProcess) -> None:
        self._silence.end(process.heard())
        if (why := self._silence.why_stuck(process.pid)) is not None:
            print(f"error: {self._name} is killed. {why}", file=sys.stderr, flush=True)
            process.kill()


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
    restarts: _Restarts = field(default_factory=lambda: _Restarts("The server process"))


class _Workers:
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

    def __enter__(self) -> _Workers:
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

    def check(self) -> bool:
        """Starts what is due, at first and after an end; True where a worker refuses to serve.

        Raises ServiceError where one ends too often, or where jina's processes would have to be restarted.
        """
        self._kill_stuck()
        for worker in self._workers:
            if worker.pid and (code := self._end_of(worker)) is not None:
                was_answering, worker.answering = worker.answering, False
                never_answered = not self.model and code > 0
                if never_answered or (
                    code == _REFUSED and (not was_answering or self._settings.layout == "pods")
                ):
                    return True
                if self._settings.layout == "pods":
                    raise ServiceError(
                        f"The server process ended unexpectedly ({exit_words(code)}). "
                        "Start again; crossmodal verify tells whether the index is whole."
                    )
                worker.restarts.note_end(code)
            if not worker.pid and not self._signals.stopping and worker.restarts.take():
                self._fork(worker)
        return False

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


def _announce(settings: Settings, model: str, index_only: bool) -> None:
    scheme = "http" if settings.tls_cert is None else "https"
    address = f"{scheme}://{in_url(settings.host)}:{settings.port}"
    where = f"POST to {address}/v1/documents" if index_only else f"open {address} or POST to /v1/search"
    grpc = f", gRPC on {settings.grpc_port}" if settings.grpc_port and not index_only else ""
    print(
        f"serving {'index' if index_only else 'query'} Flow with {model} from {settings.workspace}: "
        f"{where}{grpc} (Ctrl-C ends it)",
        file=sys.stderr,
        flush=True,
    )


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
