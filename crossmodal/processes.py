"""How processes end, in words."""

from __future__ import annotations

import contextlib
import signal

__all__ = ["exit_words"]


def exit_words(code: int | None) -> str:
    """How a process ended, of its exit code: killed by which signal, or the number."""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
