"""The processes that are forked from this one: what they are given, and that none outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import cache
from multiprocessing.process import BaseProcess

__all__ = [
    "children_beside",
    "detach_children",
    "exit_words",
    "temporary_files_in",
    "use_quick_event_loops",
]

_PARENT_CHECK_SECONDS = 1.0


def children_beside(foreign: list[BaseProcess]) -> list[BaseProcess]:
    """The living children of this process that are not a caller's own or another Flow's."""
    return [process for process in multiprocessing.active_children() if process not in foreign]


@contextlib.contextmanager
def temporary_files_in(folder: str) -> Iterator[None]:
    """Lets the processes forked meanwhile have their temporary files in ``folder``.

    Each worker of jina makes a folder at its start and never removes it.
    """
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def use_quick_event_loops() -> None:
    """Lets the processes forked from here run uvloop, which jina brings along for the same end.

    jina itself chooses it in its clients only.
    """
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


# A hook cannot be taken back, so there is one however many Flows are started.
@cache
def detach_children() -> None:
    """Makes every process forked from here deaf to the terminal's Ctrl-C, and end when this one ends.

    Only this process decides when the others stop, so that documents under way are finished; and
    none of them outlives it, even where it is killed.
    """
    os.register_at_fork(after_in_child=_become_child)


def _become_child() -> None:
    os.setpgrp()
    _watch_parent()


def _watch_parent() -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def exit_words(code: int | None) -> str:
    """How a process ended, of its exit code: killed by which signal, or the number."""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
