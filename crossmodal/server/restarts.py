"""When a process that ended unasked is started again, and when no more."""

from __future__ import annotations

import math
import sys
import time
from collections import deque

from crossmodal.errors import ServiceError
from crossmodal.processes import exit_words

__all__ = ["Restarts"]

# After so many unasked ends within this many seconds the server gives up.
_MOST_RESTARTS = 5
_RESTART_WINDOW_SECONDS = 60.0

# Before the second, third ... start after an end; the first comes at once.
_BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0)


class Restarts:
    """When a process is started, and again where it ends unasked: ``due`` is the time of the next start."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ends: deque[float] = deque()
        # At once; infinite while it runs.
        self.due = 0.0

    def take(self) -> bool:
        """Whether it is to be started now."""
        if self.due > time.monotonic():
            return False
        self.due = math.inf
        return True

    def note_end(self, code: int) -> None:
        """Notes an end and sets the next start; raises ServiceError where it has ended too often."""
        now = time.monotonic()
        self._ends.append(now)
        while self._ends[0] < now - _RESTART_WINDOW_SECONDS:
            self._ends.popleft()
        number = len(self._ends)
        how = f"{self._name} ended unexpectedly ({exit_words(code)})"
        if number > _MOST_RESTARTS:
            raise ServiceError(
                f"{how}. That was the end number {number} within a minute; it is not started again. "
                "crossmodal verify tells whether the index is whole."
            )
        print(
            f"error: {how}; it is started again ({number} of {_MOST_RESTARTS}).", file=sys.stderr, flush=True
        )
        self.due = now + _BACKOFF_SECONDS[number - 1]
