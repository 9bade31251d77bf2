"""What each task of the command line does: one module a task."""

from __future__ import annotations

from importlib import import_module

from crossmodal.settings import Settings

_MODULES = {
    "index": "index",
    "index_restful": "serve",
    "query": "query",
    "query_restful": "serve",
    "evaluate": "evaluate",
    "train": "train",
    "status": "status",
}


def run_task(settings: Settings) -> int:
    """Runs the task that ``settings`` names and returns the exit code; imports only what it needs."""
    run = import_module(f"commands.{_MODULES[settings.task]}").run
    return int(run(settings))
