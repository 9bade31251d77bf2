"""The small parent of the serving processes: holds the sockets, starts them, and starts them again.

It loads no model and opens no index. A worker that ends unasked, be it killed by the kernel when memory is
short, is forked again: connections under way are closed, new ones wait in the socket's queue meanwhile.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from crossmodal.errors import ServiceError
from crossmodal.hosts import is_loopback
from crossmodal.processes import exit_words
from crossmodal.server.worker import WorkerOrder, run_worker
from crossmodal.settings import Settings

if TYPE_CHECKING:
    from crossmodal.engine.engine import Engine

__all__ = ["supervise"]

# So many ends that nobody asked for within this many seconds, and the server gives up.
_MOST_RESTARTS = 5
_RESTART_WINDOW_SECONDS = 60.0

# Before the second, third ... start after an end; the first comes at once.
_BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0)

# A little longer than a worker gives its last requests.
_STOP_SECONDS = 8.0

# What a worker that refuses to serve, and has said why, ends with.
_REFUSED = 1

_CHECK_SECONDS = 0.5


class _Beside(Protocol):
    """A process beside the workers that ends with this one, such as the one that speaks gRPC."""

    def poll(self) -> int | None: ...
    def stop(self) -> None: ...


def supervise(
    settings: Settings,
    open_engine: Callable[[], Engine],
    *,
    index_only: bool = False,
    start_beside: Callable[[], _Beside] | None = None,
) -> int:
    """Serves until SIGINT or SIGTERM; returns the exit code.

    ``open_engine`` is called in each worker. ``start_beside`` starts another process once the workers
    answer. Returns 0 where a signal ended it, 1 where a worker refused to serve (it has said why). Raises
    ServiceError where the port cannot be listened on, and where workers, or the process beside them, end too
    often or, in the layout pods, at all.
    """
    with ExitStack() as held:
        listening = held.enter_context(_listen(settings.host, settings.port))
        signals = held.enter_context(_Signals())
        workers = held.enter_context(_Workers(settings, open_engine, listening, index_only))
        workers.start()
        announced = False
        beside: _Beside | None = None
        while not workers.wait(_CHECK_SECONDS, signals):
            if workers.check():
                return _REFUSED
            if not announced and workers.answering:
                if start_beside is not None:
                    beside = start_beside()
                    held.callback(beside.stop)
                _announce(settings, workers.model, index_only)
                announced = True
            if beside is not None and (code := beside.poll()) is not None:
                raise ServiceError(
                    f"The process that answers gRPC on port {settings.grpc_port} ended unexpectedly "
                    f"({exit_words(code)}). Everything acknowledged is safe; start again."
                )
    return 0


class _Signals:
    """SIGINT and SIGTERM, noted; a second one ends everything at once."""

    def __init__(self) -> None:
        self.stopping = False
        self._previous: dict[int, Any] = {}
        # Wakes whoever waits on it: a signal that comes just before a wait would be slept over.
        self.wake, self._written = os.pipe()
        os.set_blocking(self._written, False)

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self.wake)
        os.close(self._written)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.stopping:
            raise KeyboardInterrupt
        self.stopping = True
        os.write(self._written, b"s")


@dataclass(slots=True)
class _Worker:
    """One place for a serving process, and the process in it."""

    number: int
    pid: int = 0
    # Where the process says that it answers; -1 where it has.
    started: int = -1
    answering: bool = False
    ends: deque[float] = field(default_factory=deque)


class _Workers:
    """The serving processes, which are ended with the context."""

    def __init__(
        self,
        settings: Settings,
        open_engine: Callable[[], Engine],
        listening: socket.socket,
        index_only: bool,
    ) -> None:
        self._settings = settings
        self._open_engine = open_engine
        self._listening = listening
        self._index_only = index_only
        self._workers = [_Worker(number) for number in range(1 if index_only else settings.workers)]
        # Closes with this process, however it ends; nothing is ever written into it.
        self._alive, self._kept_open = os.pipe()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._writer: socket.socket | None = None
        self.model = ""

    @property
    def answering(self) -> bool:
        """Whether all of them answer."""
        return all(worker.answering for worker in self._workers)

    def __enter__(self) -> _Workers:
        if len(self._workers) > 1:
            self._folder = tempfile.TemporaryDirectory(prefix="crossmodal-", ignore_cleanup_errors=True)
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
            if self._folder is not None:
                self._folder.cleanup()

    @property
    def _writer_path(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "writer.sock"

    def start(self) -> None:
        """Forks all of them."""
        for worker in self._workers:
            self._fork(worker)

    def wait(self, seconds: float, signals: _Signals) -> bool:
        """Waits until a worker says that it answers or ends, a signal comes, or the time is over.

        Returns whether a signal has come.
        """
        saying = {worker.started: worker for worker in self._workers if worker.started >= 0}
        ready, _, _ = select.select([signals.wake, *saying], [], [], seconds)
        for descriptor in ready:
            if (worker := saying.get(descriptor)) is not None:
                self._hear(worker)
        return signals.stopping

    def check(self) -> bool:
        """Starts again what has ended; True where a worker refuses to serve.

        Raises ServiceError where one ends too often, or where jina's processes would have to be restarted.
        """
        for worker in self._workers:
            ended, status = os.waitpid(worker.pid, os.WNOHANG)
            if not ended:
                continue
            worker.pid = 0
            was_answering, worker.answering = worker.answering, False
            self._close_started(worker)
            code = os.waitstatus_to_exitcode(status)
            never_answered = not self.model and code > 0
            if never_answered or (
                code == _REFUSED and (not was_answering or self._settings.layout == "pods")
            ):
                return True
            self._restart(worker, code)
        return False

    def _restart(self, worker: _Worker, code: int) -> None:
        how = f"The server process ended unexpectedly ({exit_words(code)}). Everything acknowledged is safe"
        if self._settings.layout == "pods":
            raise ServiceError(f"{how}; start again.")
        now = time.monotonic()
        worker.ends.append(now)
        while worker.ends[0] < now - _RESTART_WINDOW_SECONDS:
            worker.ends.popleft()
        number = len(worker.ends)
        if number > _MOST_RESTARTS:
            raise ServiceError(
                f"{how}, but that was the end number {number} within a minute; it is not started again."
            )
        print(
            f"error: {how}; it is started again ({number} of {_MOST_RESTARTS}).", file=sys.stderr, flush=True
        )
        time.sleep(_BACKOFF_SECONDS[number - 1])
        self._fork(worker)

    def _hear(self, worker: _Worker) -> None:
        said = os.read(worker.started, 4096)
        self._close_started(worker)
        if said:
            self.model = json.loads(said)["model"]
            worker.answering = True

    def _close_started(self, worker: _Worker) -> None:
        if worker.started >= 0:
            os.close(worker.started)
            worker.started = -1

    def _fork(self, worker: _Worker) -> None:
        hear, say = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            os.close(say)
            worker.pid, worker.started = pid, hear
            return
        # In the worker. Whatever happens, it must not come back into the parent's code.
        code = 70
        try:
            # The terminal's Ctrl-C is for the parent, which then ends this one in good order.
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
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


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens at ``host`` and ``port``; raises ServiceError where that is impossible."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            # A port whose last connections are still winding down can be listened on again.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(2048)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise ServiceError(
            f"Port {port} on {host} cannot be listened on ({error.strerror or error}); "
            "end what uses it, or choose another with --port."
        ) from None
    with listening:
        yield listening


def _announce(settings: Settings, model: str, index_only: bool) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{settings.port}"
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
