"""What each task of the command line does: one module a task."""

from __future__ import annotations

from importlib import import_module

from crossmodal.errors import SettingsError
from crossmodal.settings import Settings

_MODULES = {
    "index": "index",
    "index_restful": "serve",
    "query": "query",
    "query_restful": "serve",
    "evaluate": "evaluate",
    "train": "train",
    "status": "status",
    "models": "models",
    "plot": "plot",
}

# The tasks that make vectors with the model as it is asked for.
_ENCODING = ("index", "index_restful", "query", "query_restful", "evaluate")

# Options that say something to these tasks only, and would be passed over in silence by the others.
_BELONG_TO = {
    "dim": _ENCODING,
    "centering": _ENCODING,
    "query": ("query",),
    "filter": ("query",),
    "url": ("query",),
}


def run_task(settings: Settings) -> int:
    """Runs the task that ``settings`` names and returns the exit code; imports only what it needs.

    Raises SettingsError where an option is given that has no meaning for the task.
    """
    for option, tasks in _BELONG_TO.items():
        if getattr(settings, option) is not None and settings.task not in tasks:
            raise SettingsError(
                f"--{option} has no meaning for -t {settings.task}; it belongs to -t {', '.join(tasks)}."
            )
    run = import_module(f"crossmodal.cli.{_MODULES[settings.task]}").run
    return int(run(settings))
