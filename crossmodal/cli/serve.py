"""``serve``: the engine behind HTTP until it is stopped."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from crossmodal.errors import SettingsError
from crossmodal.server.access.start import checked_access
from crossmodal.server.supervisor import supervise
from crossmodal.settings import Settings

if TYPE_CHECKING:
    from crossmodal.engine.engine import Engine

__all__ = ["run"]

# How long the index Flow, and with it the writer's lock, is held after the last write.
_WRITER_IDLE_SECONDS = 30.0


def run(settings: Settings) -> int:
    """Serves until SIGINT or SIGTERM (exit code 0); 1 where it cannot start, or ends too often."""
    index_only = settings.task == "index_restful"
    if settings.grpc_port and settings.grpc_port == settings.port:
        raise SettingsError(f"--port and --grpc-port are both {settings.port}; HTTP and gRPC need one each.")
    settings = checked_access(settings)
    start_grpc = None
    if settings.grpc_port:
        from crossmodal.jina.launch import require_grpc, start_grpc_server

        require_grpc(settings)

        start_grpc = partial(start_grpc_server, settings)

    def open_engine() -> Engine:
        # Only in the worker: the parent stays small.
        from crossmodal.cli.local_engine import engine_for

        return engine_for(settings, writer_idle_seconds=_WRITER_IDLE_SECONDS)

    code = 0
    # A second signal while it ends is raised rather than waited for.
    with suppress(KeyboardInterrupt):
        code = supervise(settings, open_engine, index_only=index_only, start_beside=start_grpc)
    if code == 0:
        print("stopped", file=sys.stderr)
    return code
