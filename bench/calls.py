"""How many functions of this project one piece of work calls, in all threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import crossmodal

__all__ = ["count_calls"]

_PACKAGE = str(Path(crossmodal.__file__).parent)


def count_calls(work: Callable[[], object]) -> int:
    """The calls of functions, comprehensions and generators of the package while ``work`` runs.

    Threads count that are started meanwhile, and the one that calls.
    """
    counted = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal counted
        if event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
            counted += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return counted
