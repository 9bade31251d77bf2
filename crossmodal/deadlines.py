"""When somebody stops waiting for an answer: the deadline that follows a request through its threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from crossmodal.errors import DeadlinePassed

__all__ = ["Deadline", "check_deadline", "current_deadline", "until"]


class Deadline:
    """The moment after which nobody waits, ``seconds`` from now; ``give_up`` says so before.

    For a part of a request's work, ``within`` is that of the request: it has passed where that has. Safe to
    use from several threads.
    """

    def __init__(self, seconds: float, within: Deadline | None = None) -> None:
        self.seconds = seconds
        self._within = within
        self._at = time.monotonic() + seconds

    @property
    def passed(self) -> bool:
        """Whether nobody waits any more."""
        return time.monotonic() >= self._at or (self._within is not None and self._within.passed)

    @property
    def overdue(self) -> float:
        """The seconds since then; negative before."""
        return time.monotonic() - self._at

    def give_up(self) -> None:
        """Notes that nobody waits any more, such as when a client hung up."""
        self._at = min(self._at, time.monotonic())

    def restart(self) -> None:
        """Counts the seconds from now on."""
        self._at = time.monotonic() + self.seconds


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def current_deadline() -> Deadline | None:
    """The deadline of the request that is being worked on here; None where there is none."""
    return _current.get()


@contextmanager
def until(deadline: Deadline | None) -> Iterator[None]:
    """Works under ``deadline`` as long as the context lasts."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)


def check_deadline() -> None:
    """Raises DeadlinePassed where nobody waits for the current work any more."""
    deadline = _current.get()
    if deadline is not None and deadline.passed:
        raise DeadlinePassed(f"Nobody waited any more: the deadline of {deadline.seconds:g} seconds passed.")
