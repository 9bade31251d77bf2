"""A running Flow: started in either layout, watched, and ended without leaving a process behind."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Any, Literal

from crossmodal.errors import ServiceError
from crossmodal.settings import Settings, export
from flows.topology import FLOW_FILES, read_topology

__all__ = ["FlowKind", "FlowService", "Writing", "require_free_port", "stop_on_signals"]

FlowKind = Literal["index", "query"]

LOCAL = "127.0.0.1"

# Shutting down takes well under a second, unless a client keeps a request open; jina itself waits a minute
# for a process that is already dead, and `docker stop` kills after ten seconds.
_CLOSE_SECONDS = 6.0
_PARENT_CHECK_SECONDS = 1.0

# gRPC lets several servers share a port otherwise, and two Flows would get each other's requests.
_EXCLUSIVE_PORT = {"grpc.so_reuseport": 0}

# A large model on a slow disk takes a minute at most.
_START_SECONDS = 300.0
_START_CHECK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Writing:
    """Whether the gateway may write to the index; ``reason`` says why not.

    ``channel`` is where the gateway of the query Flow asks for an index Flow (see ``index_on_demand``).
    """

    allowed: bool = False
    reason: str = ""
    channel: str | None = None


class FlowService:
    """One of the two Flows, running until the ``with`` block ends.

    With ``http`` it is served on ``settings.host``: over HTTP on ``settings.port``, and the query Flow over
    gRPC on ``settings.served_grpc_port`` as well. Without, it listens on a free local port for gRPC. Raises
    ServiceError where a port is taken or a process does not start.
    """

    def __init__(self, kind: FlowKind, settings: Settings, *, http: Writing | None = None) -> None:
        self.kind = kind
        self._settings = settings
        self._http = http
        self.topology = read_topology(FLOW_FILES[kind], settings.flow_environment())
        self._flow: Any = None
        self._processes: list[BaseProcess] = []
        self._foreign: list[BaseProcess] = []
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @property
    def port(self) -> int:
        """The port that the Flow's gateway listens on."""
        return int(self._flow.port)

    def __enter__(self) -> FlowService:
        if self._http is not None:
            require_free_port(self._settings.host, self._settings.port, option="--port")
            if self._grpc_port == self._settings.port:
                raise ServiceError(
                    f"--port and --grpc-port are both {self._grpc_port}; HTTP and gRPC need one each."
                )
            if self._grpc_port:
                require_free_port(self._settings.host, self._grpc_port, option="--grpc-port")
        variables = self._settings.flow_environment()
        export(variables)
        _require_literal(variables)
        _use_quick_event_loops()
        _detach_children()
        self._flow = self._build(variables)
        self._foreign = multiprocessing.active_children()
        self._temporary = tempfile.TemporaryDirectory(prefix="crossmodal-flow-", ignore_cleanup_errors=True)
        try:
            with _temporary_files_in(self._temporary.name):
                self._start()
        except BaseException:
            self._kill()
            self._temporary.cleanup()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, ServiceError):
                self._kill()
            else:
                self._close()
        finally:
            if self._temporary is not None:
                self._temporary.cleanup()

    def check(self) -> None:
        """Raises ServiceError where a process of the Flow has ended; jina would never start it again."""
        for process in self._processes:
            if not process.is_alive():
                raise ServiceError(
                    f"The process {process.name} of the {self.kind} Flow ended unexpectedly "
                    f"({_exit_words(process.exitcode)}). Everything acknowledged is safe; start again."
                )

    @property
    def _grpc_port(self) -> int:
        """The port beside HTTP, 0 for none: only searches are open to whoever speaks jina's protocol."""
        return self._settings.served_grpc_port if self.kind == "query" else 0

    def _start(self) -> None:
        with _Starting(self.kind) as starting:
            try:
                self._flow.start()
            except KeyboardInterrupt:
                starting.raise_failure()
                raise
            except asyncio.CancelledError:
                starting.let_tasks_end()
                starting.raise_failure()
                raise KeyboardInterrupt from None
            except Exception as error:
                starting.raise_failure()
                raise ServiceError(
                    f"The {self.kind} Flow could not be started ({type(error).__name__}); "
                    "what its processes said stands above."
                ) from error
            # jina has bare excepts that swallow what a signal handler raises.
            starting.raise_failure()
            starting.raise_interrupt()
            self._processes = starting.processes()

    def _build(self, variables: dict[str, str]) -> Any:
        from jina import Flow

        path = FLOW_FILES[self.kind]
        if self._settings.layout == "pods":
            flow = Flow.load_config(str(path))
        else:
            from flows.fused import FusedFlow

            flow = Flow().add(
                name=path.stem.replace("-", "_"),
                uses=FusedFlow,
                uses_with={"flow": str(path), "variables": variables},
                allow_concurrent=True,
                host=LOCAL,
                grpc_server_options=_EXCLUSIVE_PORT,
            )
        if self._http is None:
            return flow.config_gateway(protocol="grpc", host=LOCAL, grpc_server_options=_EXCLUSIVE_PORT)
        from flows.gateway import SearchGateway

        return flow.config_gateway(
            uses=SearchGateway,
            uses_with={
                "kind": self.kind,
                "variables": variables,
                "grpc_port": self._grpc_port,
                "options": {
                    "writing_allowed": self._http.allowed,
                    "writing_reason": self._http.reason,
                    "writer_channel": self._http.channel,
                    "layout": self._settings.layout,
                    "shards": self._settings.shards or 1,
                    "model_cache": str(self._settings.model_cache),
                    "host": self._settings.host,
                },
            },
            protocol="http",
            host=self._settings.host,
            port=self._settings.port,
        )

    def _close(self) -> None:
        closing = threading.Thread(target=self._flow.close, daemon=True)
        closing.start()
        try:
            closing.join(_CLOSE_SECONDS)
        finally:
            self._kill()

    def _kill(self) -> None:
        # Before the start is over, those that it has left so far; other Flows may have been started since.
        for process in self._processes or _children_beside(self._foreign):
            process.kill()
            process.join(_CLOSE_SECONDS)


@contextlib.contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """Lets the processes forked meanwhile have their temporary files in ``folder``.

    Each worker of jina makes a folder at its start and never removes it.
    """
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


class _Starting:
    """While a Flow starts: no output of jina, and an end to the waiting that jina would do for ten minutes.

    SIGINT and SIGTERM raise KeyboardInterrupt here, and so do a process that dies and the deadline.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._failure: str | None = None
        self._interrupted = False
        self._postponed = False
        self._started = threading.Event()
        # jina's pods, of which each has a process.
        self._pods: list[Any] = []
        self._previous: dict[int, Any] = {}
        self._report_unraisable = sys.unraisablehook
        self._watching = threading.Thread(target=self._watch, name="watch-start", daemon=True)
        self._silence = contextlib.ExitStack()

    def __enter__(self) -> _Starting:
        # jina paints a banner on stdout, where results of the command line belong.
        nowhere = self._silence.enter_context(open(os.devnull, "w", encoding="utf-8"))
        self._silence.enter_context(contextlib.redirect_stdout(nowhere))
        self._silence.enter_context(_noting_pods(self._pods))
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._interrupt)
        sys.unraisablehook = self._unraisable
        self._watching.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._started.set()
        # Its signal must not arrive when the handlers are those of before.
        self._watching.join()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._report_unraisable
        self._silence.close()
        if kind is KeyboardInterrupt:
            # It came while jina was telling of the failure itself.
            self.raise_failure()

    def processes(self) -> list[BaseProcess]:
        """Every process of the Flow started so far, also one that has died since."""
        return [pod.worker for pod in self._pods if pod.worker.pid is not None]

    def raise_interrupt(self) -> None:
        """Raises KeyboardInterrupt where a signal has come."""
        if self._interrupted:
            raise KeyboardInterrupt

    def raise_failure(self) -> None:
        """Raises ServiceError where a dead process or the deadline ended the start, and not a person."""
        self._started.set()
        if self._failure is not None:
            raise ServiceError(self._failure) from None

    def let_tasks_end(self) -> None:
        """Lets what was cancelled close its connections: the loop ended with the first of the tasks."""
        self._started.set()

        async def wait() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*others, return_exceptions=True)

        asyncio.get_event_loop().run_until_complete(wait())

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        loop = _running_loop()
        # Neither is sure to end the start: it is asked to again then.
        self._postponed = loop is not None or _is_forking(frame)
        if loop is not None:
            # Raised in the midst of gRPC's own code, it leaves gRPC unable to end.
            loop.call_soon_threadsafe(_cancel_tasks, loop)
        elif not self._postponed:
            raise KeyboardInterrupt

    def _unraisable(self, report: sys.UnraisableHookArgs) -> None:
        """Takes what the handler raised where nothing can be, as in the callback of a weak reference."""
        if issubclass(report.exc_type, KeyboardInterrupt):
            self._postponed = True
        else:
            self._report_unraisable(report)

    def _watch(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._started.wait(_START_CHECK_SECONDS):
            if not self._interrupted:
                self._failure = self._look_for_failure(deadline)
            if self._failure and not self._interrupted:
                self._say_that_the_dead_have_ended()
            if (self._failure and not self._interrupted) or self._postponed:
                os.kill(os.getpid(), signal.SIGTERM)

    def _say_that_the_dead_have_ended(self) -> None:
        """jina waits a minute for each process that dies before it has told of anything."""
        for pod in list(self._pods):
            if pod.worker.pid is not None and not pod.worker.is_alive():
                pod.is_shutdown.set()

    def _look_for_failure(self, deadline: float) -> str | None:
        dead = next((process for process in self.processes() if not process.is_alive()), None)
        if dead is not None and dead.exitcode != 0:
            return (
                f"The process {dead.name} of the {self._kind} Flow ended while starting "
                f"({_exit_words(dead.exitcode)})."
            )
        if dead is not None:
            return (
                f"The process {dead.name} of the {self._kind} Flow could not start; "
                "what it said stands above."
            )
        if time.monotonic() > deadline:
            return f"The {self._kind} Flow did not start within {_START_SECONDS:.0f} seconds."
        return None


@contextlib.contextmanager
def _noting_pods(noted: list[Any]) -> Iterator[None]:
    """Adds every pod of jina that is started meanwhile to ``noted``.

    multiprocessing forgets a dead process as soon as another is started or it is asked for the living ones.
    """
    from jina.orchestrate.pods import Pod

    start = Pod.start

    def note_and_start(pod: Any) -> Any:
        noted.append(pod)
        return start(pod)

    Pod.start = note_and_start
    try:
        yield
    finally:
        Pod.start = start


def _is_forking(frame: FrameType | None) -> bool:
    """Whether a process is being forked in ``frame``: Python only prints what is raised in a hook of that."""
    while frame is not None:
        if frame.f_code.co_name == "_launch":
            return True
        frame = frame.f_back
    return False


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        # Once: what is closing its connection must not be cancelled at that.
        if not task.cancelling():
            task.cancel()


def _children_beside(foreign: list[BaseProcess]) -> list[BaseProcess]:
    """The living children of this process that are not a caller's own or another Flow's."""
    return [process for process in multiprocessing.active_children() if process not in foreign]


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets, so that work ends at a place of its own choosing.

    A second signal raises KeyboardInterrupt.
    """
    export({})
    # When it is first imported, jina takes SIGINT for itself.
    import jina  # noqa: F401

    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def require_free_port(host: str, port: int, *, option: str) -> None:
    """Raises ServiceError, naming the ``option`` that chooses another, where ``port`` is not to be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # A port whose last connections are still winding down can be listened on again.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ServiceError(
            f"Port {port} on {host} cannot be listened on ({error.strerror or error}); "
            f"end what uses it, or choose another with {option}."
        ) from None


def _require_literal(variables: Mapping[str, str]) -> None:
    """Raises ServiceError where jina, which expands all text that it passes on, would make another of it."""
    for value in variables.values():
        if os.path.expandvars(value) != value or "${{" in value:
            raise ServiceError(
                f"{value} cannot be used, because jina takes a part of it for the name of a variable; choose "
                "a path without a dollar sign."
            )


def _use_quick_event_loops() -> None:
    """Lets the processes forked from here run uvloop, which jina brings along for the same end.

    jina itself chooses it in its clients only.
    """
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


# A hook cannot be taken back, so there is one however many Flows are started.
@cache
def _detach_children() -> None:
    """Makes every process forked from here deaf to the terminal's Ctrl-C, and end when this one ends.

    Only this process decides when the others stop, so that documents under way are finished; and
    none of them outlives it, even where it is killed.
    """
    os.register_at_fork(after_in_child=_become_child)


def _become_child() -> None:
    os.setpgrp()
    _watch_parent()


def _watch_parent() -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def _exit_words(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
