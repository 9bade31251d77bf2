"""The command line: ``crossmodal COMMAND``, or ``crossmodal -t TASK``; one module a task."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from crossmodal.cli.arguments import read_settings
from crossmodal.cli.output import open_streams
from crossmodal.errors import CrossmodalError, ReaderGone, exit_code_of
from crossmodal.extras import how_to_install
from crossmodal.settings import Settings

__all__ = ["main", "run_task"]

# Of each task, the module and the function that runs it.
_RUNS = {
    "index": ("index", "run"),
    "embed": ("vectors", "embed"),
    "index_restful": ("serve", "run"),
    "query": ("search", "run"),
    "query_restful": ("serve", "run"),
    "duplicates": ("duplicates", "run"),
    "evaluate": ("evaluate", "run"),
    "train": ("train", "run"),
    "status": ("without_model", "show_status"),
    "convert": ("convert", "run"),
    "backup": ("maintenance", "back_up_index"),
    "restore": ("maintenance", "restore_index"),
    "verify": ("maintenance", "verify_index"),
    "compact": ("maintenance", "compact_index"),
    "dump": ("maintenance", "dump_index"),
    "load": ("maintenance", "load_index"),
    "models": ("without_model", "list_models"),
    "plot": ("without_model", "plot_flows"),
    "export": ("export", "run"),
    "keys": ("keys", "run"),
    "watch": ("watch", "run"),
    "mcp": ("mcp", "run"),
    "roots": ("library", "roots"),
    "trash": ("library", "trash"),
}

# 128 + SIGPIPE.
READER_GONE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    0 for success, 1 after an error and 2 after one of the options, said in a sentence on stderr, 130 after
    Ctrl-C, and 141 where the reader
    of stdout has gone (``| head``), as a shell reports it of any program.
    """
    open_streams()
    try:
        try:
            settings = read_settings(arguments)
            if settings.documents is not None:
                from crossmodal.index.embedded.opening import name_documents

                name_documents(settings.workspace, settings.documents)
            return run_task(settings)
        finally:
            sys.stdout.flush()
    except ReaderGone:
        return READER_GONE
    except CrossmodalError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code_of(error)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        print(f"error: {error}: {how_to_install(package)}.", file=sys.stderr)
    except BrokenPipeError:
        # It was stderr; the interpreter would fail on it again at exit.
        sys.stderr.close()
        return READER_GONE
    except OSError as error:
        # A file that went away meanwhile, or cannot be written.
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 1


def run_task(settings: Settings) -> int:
    """Runs the task that ``settings`` name and returns the exit code; imports only what it needs."""
    if settings.decode_memory is not None:
        # Before anything decodes in this process, or in one that it starts.
        from crossmodal.images.budget import process_budget
        from crossmodal.images.limits import MEGABYTE

        process_budget(settings.decode_memory * MEGABYTE)
    module, function = _RUNS[settings.task]
    return int(getattr(import_module(f"crossmodal.cli.{module}"), function)(settings))
