"""The small parent of the serving processes: holds the sockets, and starts and restarts the processes.

It loads no model and opens no index. A worker that ends unasked, be it killed by the kernel when memory is
short, is forked again: connections under way are closed, new ones wait in the socket's queue meanwhile.
"""

from __future__ import annotations

import select
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.hosts import in_url, listen
from crossmodal.images.budget import process_budget
from crossmodal.images.limits import MEGABYTE
from crossmodal.processes import StopSignals
from crossmodal.server.beside import Beside, BesideProcess
from crossmodal.server.silence import CHECK_SECONDS
from crossmodal.server.workers import Workers
from crossmodal.settings import Settings, exported

if TYPE_CHECKING:
    from crossmodal.engine.engine import Engine

__all__ = ["supervise"]


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
    ended it, 1 or 2 where a worker refused to serve (it has said why). Raises ServiceError where the port
    cannot be listened on, where workers or the process beside them end too often, where that one says why it
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
        workers = held.enter_context(Workers(settings, open_engine, listening, index_only, signals, folder))
        beside = held.enter_context(Beside(settings, start_beside, folder))
        announced = False
        while not signals.stopping:
            if (refused := workers.check()) is not None:
                return refused
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


def _wait(workers: Workers, beside: Beside, signals: StopSignals) -> None:
    """Waits until a process reports that it answers, is due to start, or a signal comes; at most a moment."""
    due = min(workers.due, beside.due) - time.monotonic()
    ready, _, _ = select.select(
        [signals.wake, *workers.starting, *beside.starting], [], [], min(max(due, 0.0), CHECK_SECONDS)
    )
    workers.hear(ready)


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
