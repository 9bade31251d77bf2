"""``-t query_restful`` and ``-t index_restful``: a Flow behind HTTP until it is told to stop."""

from __future__ import annotations

import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from crossmodal.cli.opening import open_for_reading, open_for_writing
from crossmodal.hosts import is_loopback
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

if TYPE_CHECKING:
    from flows.service import FlowKind

_CHECK_SECONDS = 0.5

# Whoever writes first waits for it, so a gateway is heard sooner than a dead process is noticed.
_STEP_SECONDS = 0.2


def run(settings: Settings) -> int:
    """Serves until SIGINT or SIGTERM (exit code 0), or until a process of the Flow dies (ServiceError)."""
    workspace = Workspace(settings.workspace)
    querying = settings.task == "query_restful"
    opened = (open_for_reading if querying else open_for_writing)(settings, workspace)
    # A signal while the Flow is starting, or a second one while it ends, is raised rather than waited for.
    with suppress(KeyboardInterrupt):
        (_serve_query if querying else _serve_index)(opened)
    print("stopped", file=sys.stderr)
    return 0


def _serve_index(settings: Settings) -> None:
    from flows.service import FlowService, Writing, stop_on_signals

    with (
        stop_on_signals() as stopping,
        FlowService("index", settings, http=Writing(allowed=True)) as service,
    ):
        _tell("index", settings, "")
        while not stopping.wait(_CHECK_SECONDS):
            service.check()


def _serve_query(settings: Settings) -> None:
    from flows.index_on_demand import IndexOnDemand
    from flows.service import FlowService, Writing, stop_on_signals

    def prepare() -> Settings:
        return open_for_writing(settings, Workspace(settings.workspace))

    reason = _why_not_writing(settings)
    with stop_on_signals() as stopping, ExitStack() as held:
        if reason is not None:
            index = None
            writing = Writing(reason=reason)
        else:
            # It outlives the gateway, so that what is being written can be finished.
            index = held.enter_context(IndexOnDemand(prepare))
            writing = Writing(allowed=True, channel=index.channel)
        service = held.enter_context(FlowService("query", settings, http=writing))
        grpc = settings.served_grpc_port
        _tell("query", settings, f", gRPC on {grpc}" if grpc else "")
        while not stopping.is_set():
            if index is None:
                stopping.wait(_CHECK_SECONDS)
            else:
                index.step(_STEP_SECONDS)
            service.check()
        if index is not None:
            index.refuse_more()


def _tell(kind: FlowKind, settings: Settings, more: str) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{settings.port}"
    where = f"open {address} or POST to /v1/search" if kind == "query" else f"POST to {address}/v1/documents"
    print(
        f"serving {kind} Flow with {settings.model} from {settings.workspace}: "
        f"{where}{more} (Ctrl-C ends it)",
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
