"""A running Flow: started in either layout, watched, and ended without leaving a process behind."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Any, Literal

from crossmodal.errors import ServiceError
from crossmodal.settings import Settings, export
from flows.child_processes import (
    children_beside,
    detach_children,
    exit_words,
    temporary_files_in,
    use_quick_event_loops,
)
from flows.starting import Starting
from crossmodal.flow.topology import FLOW_FILES, read_topology

__all__ = ["FlowKind", "FlowService", "Writing", "require_free_port", "stop_on_signals"]

FlowKind = Literal["index", "query"]

LOCAL = "127.0.0.1"

# Shutting down takes well under a second, unless a client keeps a request open; jina itself waits a minute
# for a process that is already dead, and `docker stop` kills after ten seconds.
_CLOSE_SECONDS = 6.0

# gRPC lets several servers share a port otherwise, and two Flows would get each other's requests.
_EXCLUSIVE_PORT = {"grpc.so_reuseport": 0}


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
        use_quick_event_loops()
        detach_children()
        self._flow = self._build(variables)
        self._foreign = multiprocessing.active_children()
        self._temporary = tempfile.TemporaryDirectory(prefix="crossmodal-flow-", ignore_cleanup_errors=True)
        try:
            with temporary_files_in(self._temporary.name):
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
                    f"({exit_words(process.exitcode)}). Everything acknowledged is safe; start again."
                )

    @property
    def _grpc_port(self) -> int:
        """The port beside HTTP, 0 for none: only searches are open to whoever speaks jina's protocol."""
        return self._settings.served_grpc_port if self.kind == "query" else 0

    def _start(self) -> None:
        with Starting(self.kind) as starting:
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
                starting.raise_interrupt()
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
        from crossmodal.server import SearchGateway

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
        for process in self._processes or children_beside(self._foreign):
            process.kill()
            process.join(_CLOSE_SECONDS)


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
