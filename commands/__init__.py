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


def run_task(settings: Settings) -> int:
    """Runs the task that ``settings`` names and returns the exit code; imports only what it needs.

    Raises SettingsError where ``--dim`` or ``--centering`` is given to a task that makes no vectors.
    """
    for option in ("dim", "centering"):
        if getattr(settings, option) is not None and settings.task not in _ENCODING:
            raise SettingsError(
                f"--{option} has no meaning for -t {settings.task}; it belongs to -t {', '.join(_ENCODING)}."
            )
    run = import_module(f"commands.{_MODULES[settings.task]}").run
    return int(run(settings))
