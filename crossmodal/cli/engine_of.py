"""The engine of a command, with its Flows in the layout that ``--layout`` says."""

from __future__ import annotations

from typing import Any

from crossmodal.engine.engine import Engine
from crossmodal.engine.opening import OpenFlow, local_flows
from crossmodal.settings import Settings

__all__ = ["engine_for", "flows_for"]


def engine_for(settings: Settings, **options: Any) -> Engine:
    """The engine over the index of ``settings``; ``options`` are further arguments of ``Engine``.

    Raises ServiceError where ``--layout pods`` is asked for without jina.
    """
    return Engine(settings, open_flow=flows_for(settings), **options)


def flows_for(settings: Settings) -> OpenFlow:
    """What opens the two Flows, in this process or in jina's; those of one process share the model."""
    if settings.layout == "pods":
        # Only now: it imports jina, which takes a second or two.
        from crossmodal.jina.pods import open_pods

        return open_pods
    return local_flows()
