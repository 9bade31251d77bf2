"""The command line: ``crossmodal COMMAND``, or ``crossmodal -t TASK``; one module a task."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from crossmodal.cli.arguments import read_settings
from crossmodal.errors import CrossmodalError
from crossmodal.extras import EXTRAS
from crossmodal.settings import Settings

__all__ = ["main", "run_task"]

_MODULES = {
    "index": "index",
    "index_restful": "serve",
    "query": "query",
    "query_restful": "serve",
    "evaluate": "evaluate",
    "train": "train",
    "status": "status",
    "convert": "convert",
    "models": "models",
    "plot": "plot",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 for success, 1 for an error said in a sentence."""
    _open_standard_streams()
    try:
        code = run_task(read_settings(arguments))
        sys.stdout.flush()
        return code
    except CrossmodalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        wanted = "crossmodal-search" if extra is None else f"crossmodal-search[{extra[0]}]"
        print(f'error: {error}: pip install "{wanted}".', file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone; the interpreter would complain at exit otherwise.
        sys.stderr.close()
        return 1
    except OSError as error:
        # Output that cannot be written (a full disk), or a file that went away meanwhile.
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def run_task(settings: Settings) -> int:
    """Runs the task that ``settings`` name and returns the exit code; imports only what it needs."""
    run = import_module(f"crossmodal.cli.{_MODULES[settings.task]}").run
    return int(run(settings))


def _open_standard_streams() -> None:
    """Makes nothing come of those that are closed (``2>&-``).

    Otherwise the next file opened, which may be the index, has their number, and libraries print into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It gets the lowest number that is free, and stays open to the end.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
