"""``-t query_restful`` and ``-t index_restful``: a Flow behind HTTP until it is told to stop."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from commands.opening import open_for_reading, open_for_writing
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

if TYPE_CHECKING:
    from flows.service import FlowKind

_CHECK_SECONDS = 0.5


def run(settings: Settings) -> int:
    """Serves until SIGINT or SIGTERM (exit code 0), or until a process of the Flow dies (ServiceError)."""
    kind: FlowKind = "query" if settings.task == "query_restful" else "index"
    workspace = Workspace(settings.workspace)
    opening = open_for_reading if kind == "query" else open_for_writing
    settings = opening(settings, workspace)
    # A signal while the Flow is starting, or a second one while it ends, is raised rather than waited for.
    with suppress(KeyboardInterrupt):
        _serve(kind, settings)
    print("stopped", file=sys.stderr)
    return 0


def _serve(kind: FlowKind, settings: Settings) -> None:
    from flows.service import FlowService, stop_on_signals

    with stop_on_signals() as stopping, FlowService(kind, settings, http=True) as service:
        endpoint = "/search" if kind == "query" else "/index"
        print(
            f"serving {kind} Flow with {settings.model} from {settings.workspace}: "
            f"POST http://{settings.host}:{settings.port}{endpoint} (Ctrl-C ends it)",
            file=sys.stderr,
            flush=True,
        )
        while not stopping.wait(_CHECK_SECONDS):
            service.check()
