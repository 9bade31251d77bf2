"""A serving process: the engine behind uvicorn, from a socket that its parent holds."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.errors import CrossmodalError, ServiceError, exit_code_of
from crossmodal.log import open_log
from crossmodal.settings import Settings, exported

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from crossmodal.access.shared_table import SharedState
    from crossmodal.engine.engine import Engine
    from crossmodal.server.serving import Serving
    from crossmodal.server.traces import Traces
    from crossmodal.url_photos import UrlPhotos

__all__ = ["WorkerOrder", "metrics_variables", "run_worker"]

# A request that takes longer is closed when the server ends; `docker stop` kills after ten seconds.
_GRACE_SECONDS = 5

_CHECK_SECONDS = 0.5
_BEAT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What a worker gets from its parent.

    ``open_engine`` gives the engine; ``sockets`` are listening; ``parent`` is a pipe's end that closes with
    the parent; the worker reports on ``started`` twice a second that it starts, then once that it answers,
    and from then on that it still does. ``index_only`` serves the index Flow,
    ``writing_reason`` says why nothing can be written (None: it can). ``writer`` is the address of the worker
    that writes, None for that one itself. ``metrics_folder`` is where several processes add up what they
    count, None where there is one. ``shared`` is what all workers know together.
    """

    settings: Settings
    open_engine: Callable[[], Engine]
    sockets: tuple[socket.socket, ...]
    parent: int
    started: int
    index_only: bool = False
    writing_reason: str | None = None
    writer: str | None = None
    metrics_folder: Path | None = None
    shared: SharedState | None = None


def run_worker(order: WorkerOrder) -> int:
    """Serves until SIGTERM, or until the parent has ended; returns the exit code.

    1 and 2 stand for errors that another start would not mend; their sentence is on stderr.
    """
    parent = _Parent(order)
    end_reports = _report_start(order.started)
    open_log(order.settings.log)
    try:
        with ExitStack() as held:
            held.enter_context(exported(metrics_variables(order.metrics_folder)))
            serving = held.enter_context(_serving(order))
            from crossmodal.server.app import create_app

            traces: Traces | None = None
            if order.settings.otlp is not None:
                from crossmodal.server.traces import Traces

                traces = Traces(order.settings.otlp)
                held.callback(traces.close)
            app = create_app(serving, writer=order.writer, shared=order.shared, traces=traces)
            _serve(app, order, serving, parent, end_reports)
    except CrossmodalError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return exit_code_of(error)
    return 0


def metrics_variables(folder: Path | None) -> dict[str, str]:
    """The variables by which processes that start with them add up in ``folder`` what they count.

    They are for prometheus_client, which reads them when it is imported; none without a folder.
    """
    return {} if folder is None else {"PROMETHEUS_MULTIPROC_DIR": str(folder)}


@contextmanager
def _serving(order: WorkerOrder) -> Iterator[Serving]:
    # Only in the worker: the parent stays small.
    from crossmodal.engine.opening import resolved_for_reading, resolved_for_writing
    from crossmodal.server.connections import Connections, raise_file_limit
    from crossmodal.server.metrics import Metrics
    from crossmodal.server.serving import Serving, Writing

    # Before the model is loaded: an unusable list of hosts is told at once.
    url_photos = _url_photos(order.settings)
    engine = order.open_engine()
    with ExitStack() as held:
        held.callback(engine.close)
        resolve = resolved_for_writing if order.index_only else resolved_for_reading
        settings = resolve(order.settings, engine.workspace)
        if order.index_only:
            held.enter_context(engine.writing())
        else:
            engine.prepare()
        serving = Serving(
            "index" if order.index_only else "query",
            engine,
            settings,
            Writing(order.writing_reason is None, order.writing_reason or ""),
            # With the parent, and what it runs beside this.
            metrics=Metrics(os.getppid(), order.metrics_folder),
            connections=Connections(raise_file_limit()),
            url_photos=url_photos,
        )
        try:
            yield serving
        finally:
            serving.close()


def _url_photos(settings: Settings) -> UrlPhotos | None:
    if not settings.fetch_urls:
        return None
    from crossmodal.url_photos import UrlPhotos

    return UrlPhotos(max_bytes=settings.max_photo_bytes, hosts=settings.fetch_from)


def _serve(
    app: ASGIApp, order: WorkerOrder, serving: Serving, parent: _Parent, end_reports: Callable[[], None]
) -> None:
    import uvicorn
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    from crossmodal.server.connections import IDLE_SECONDS, limited_handshakes, limited_protocol

    logging.getLogger("uvicorn.error").addFilter(_is_failure)
    config = uvicorn.Config(
        app,
        http=limited_protocol(AutoHTTPProtocol, serving.connections),
        timeout_keep_alive=IDLE_SECONDS,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        # Arrivals reads those headers, and only of proxies that were listed.
        proxy_headers=False,
        server_header=False,
        ssl_certfile=order.settings.tls_cert,
        ssl_keyfile=order.settings.tls_key,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )

    class Server(uvicorn.Server):  # type: ignore[misc]  # uvicorn is not looked into
        """uvicorn with the parent in charge of signals."""

        def install_signal_handlers(self) -> None:
            """Leaves them as they are; for uvicorn before 0.29."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Leaves them as they are."""
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Listens, then reports that to the parent."""
            with limited_handshakes():
                await super().startup(sockets)
            # What is loaded stays; looking for garbage among it again and again would hold up all requests.
            gc.collect()
            gc.freeze()
            end_reports()
            _report(order.started, {"model": serving.model})
            os.set_blocking(order.started, False)
            self._beating = asyncio.create_task(self._beat())

        async def _beat(self) -> None:
            """Tells the parent again and again that the event loop runs, and whether a step is stuck."""
            while True:
                _report(order.started, {"stuck": serving.admission.stuck})
                await asyncio.sleep(_BEAT_SECONDS)

    server = Server(config)

    def stop() -> None:
        server.should_exit = True

    signal.signal(signal.SIGTERM, lambda number, frame: stop())
    parent.on_end = stop
    failed: list[ServiceError] = []

    def lose(error: ServiceError) -> None:
        failed.append(error)
        stop()

    threading.Thread(target=_watch_flow, args=(serving.engine, lose), name="watch-flow", daemon=True).start()
    server.run(sockets=list(order.sockets))
    if failed:
        raise failed[0]


def _is_failure(record: logging.LogRecord) -> bool:
    """Whether a line is to be logged: not of an answer that is cut off because the server ends."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def _report_start(started: int) -> Callable[[], None]:
    """Tells the parent that this process runs, until the returned function is called."""
    ended = threading.Event()

    def report_all() -> None:
        while not ended.wait(_BEAT_SECONDS):
            _report(started, {"stuck": None})

    thread = threading.Thread(target=report_all, name="report-start", daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join()

    return end


def _report(started: int, said: Mapping[str, str | None]) -> None:
    """Tells the parent what there is to say of this process; it may have ended, or not read for minutes."""
    with suppress(BrokenPipeError, BlockingIOError):
        os.write(started, json.dumps(said).encode() + b"\n")


def _watch_flow(engine: Engine, lose: Callable[[ServiceError], None]) -> None:
    """Ends the server where a process that it depends on has ended; in one process there is none."""
    while True:
        try:
            engine.check()
        except ServiceError as error:
            lose(error)
            return
        time.sleep(_CHECK_SECONDS)


class _Parent:
    """Ends this process with its parent, however that ends: at once, or from when it serves by ``on_end``."""

    def __init__(self, order: WorkerOrder) -> None:
        self.on_end: Callable[[], None] = lambda: os._exit(0)
        self._order = order
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        os.read(self._order.parent, 1)
        if self._order.metrics_folder is not None:
            # The parent would have removed it, with the socket that is in it.
            shutil.rmtree(self._order.metrics_folder, ignore_errors=True)
        self.on_end()
