"""The memory that all decoding of a tree of processes shares: taken before it is allocated, waited for."""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from crossmodal.deadlines import check_deadline
from crossmodal.errors import ImageError
from crossmodal.images.limits import MEGABYTE, default_decode_memory

__all__ = ["BudgetStatus", "MemoryBudget", "Reservation", "process_budget"]

# Names the ledger for the processes that this one starts.
_VARIABLE = "CROSSMODAL_DECODE_LEDGER"
_NAME = "crossmodal-decode-ledger"

# The budget is divided into so many parts. A part is a byte of the ledger, and who locks it has it.
_PARTS = 512
# The byte behind them: who waits for parts holds it, so that those who come later don't overtake.
_TURN = _PARTS

# How often those that wait for another process look again.
_POLL_SECONDS = 0.005

# struct flock of Linux, with 64-bit offsets.
_FLOCK = struct.Struct("hhqqi0q")


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget at a moment: its ``limit``, what is ``used`` of it, both in bytes, and who ``waits``.

    ``used`` counts all processes that share it; ``waiting`` are the decodes of this one that wait.
    """

    limit: int
    used: int
    waiting: int


class MemoryBudget:
    """So many bytes, of which several processes take parts and give them back. Safe across threads.

    The ledger is a file in memory in which each part of the budget is a byte. A part belongs to the process
    that has locked its byte, so that the kernel gives back what a process held that ended, however it did.
    """

    def __init__(self, limit: int, *, ledger: Path | None = None) -> None:
        if ledger is None:
            self._file = os.memfd_create(_NAME, os.MFD_CLOEXEC)
            os.pwrite(self._file, struct.pack("q", limit), 0)
        else:
            self._file = os.open(ledger, os.O_RDWR | os.O_CLOEXEC)
            (limit,) = struct.unpack("q", os.pread(self._file, 8, 0))
        self.limit = limit
        self._part = -(-limit // _PARTS)
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._held: set[int] = set()
        self._queue: deque[object] = deque()

    @property
    def variables(self) -> dict[str, str]:
        """What the environment of another process must hold, so that it shares this budget."""
        return {_VARIABLE: f"/proc/{os.getpid()}/fd/{self._file}"}

    def reserve(self, wanted: int) -> Reservation:
        """Takes ``wanted`` bytes, or all there are; waits until they are free. Give them back by ``with``."""
        return Reservation(self, min(wanted, self.limit))

    def status(self) -> BudgetStatus:
        """How much of it is used, by whom ever."""
        with self._changed:
            self._after_fork()
            parts = len(self._held) + self._held_by_others()
            waiting = len(self._queue)
        return BudgetStatus(self.limit, min(parts * self._part, self.limit), waiting)

    def require(self, wanted: int) -> None:
        """Raises ImageError where there will never be ``wanted`` bytes."""
        if wanted > self.limit:
            raise ImageError(
                f"Decoding this photo takes {-(-wanted // MEGABYTE):,} MB of memory; all photos together may "
                f"take {self.limit // MEGABYTE:,} MB. Make it smaller first, or allow more with "
                "--decode-memory."
            )

    def take(self, wanted: int) -> frozenset[int]:
        """The parts that make ``wanted`` bytes, once they are free; first come, first served.

        Raises DeadlinePassed where nobody waits for the photo any more.
        """
        count = min(-(-wanted // self._part), _PARTS)
        with self._changed:
            self._after_fork()
            ticket = object()
            self._queue.append(ticket)
            taken: list[int] = []
            turn = False
            try:
                while True:
                    if self._queue[0] is ticket:
                        turn = turn or self._lock(_TURN)
                        if turn:
                            self._take_free(taken, count)
                            if len(taken) == count:
                                self._held.update(taken)
                                return frozenset(taken)
                    check_deadline()
                    self._changed.wait(_POLL_SECONDS)
            except BaseException:
                self._unlock(taken)
                raise
            finally:
                self._queue.remove(ticket)
                if turn:
                    self._unlock([_TURN])
                self._changed.notify_all()

    def give_back(self, parts: frozenset[int]) -> None:
        """Frees what ``take`` took."""
        with self._changed:
            if self._process == os.getpid():
                self._held -= parts
                self._unlock(parts)
                self._changed.notify_all()

    def close(self) -> None:
        """Lets go of the ledger, and of all that this process holds."""
        os.close(self._file)

    def _take_free(self, taken: list[int], count: int) -> None:
        for part in range(_PARTS):
            if len(taken) == count:
                return
            if part not in self._held and part not in taken and self._lock(part):
                taken.append(part)

    def _lock(self, place: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            return False
        return True

    def _unlock(self, places: frozenset[int] | list[int]) -> None:
        for place in places:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)

    def _held_by_others(self) -> int:
        """How many parts other processes have locked."""
        held = start = 0
        while start < _PARTS:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, _PARTS - start, 0)
            kind, _, first, length, _ = _FLOCK.unpack(fcntl.fcntl(self._file, fcntl.F_GETLK, asked))
            if kind == fcntl.F_UNLCK:
                break
            end = min(first + length, _PARTS) if length else _PARTS
            held += end - max(first, start)
            start = end
        return held

    def _after_fork(self) -> None:
        """A child that was forked holds nothing of what its parent does."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._held.clear()
            self._queue.clear()


class Reservation:
    """A part of a budget, given back at the end of the context."""

    def __init__(self, budget: MemoryBudget, wanted: int) -> None:
        self._budget = budget
        self.size = wanted
        self._parts = budget.take(wanted)

    def grow(self, wanted: int, beside: int = 0) -> None:
        """Makes it ``wanted`` bytes where it is less; raises ImageError where there will never be as many.

        What is in memory ``beside`` them is counted as far as the budget goes: who has all of it is alone.

        What it has is given back before more is waited for: two that wait for each other would wait for ever.
        So nothing may have been allocated yet.
        """
        self._budget.require(wanted)
        wanted = min(wanted + beside, self._budget.limit)
        if wanted <= self.size:
            return
        self.release()
        self._parts, self.size = self._budget.take(wanted), wanted

    def release(self) -> None:
        """Gives it back."""
        self._budget.give_back(self._parts)
        self._parts, self.size = frozenset(), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


_lock = threading.Lock()
_budget: MemoryBudget | None = None


def process_budget(limit: int = 0, environment: Mapping[str, str] = os.environ) -> MemoryBudget:
    """The budget of this process: that of the process which started it, or a new one.

    ``limit`` is in bytes; 0 takes what there is, or by default a share of the machine's memory. A process
    that has a budget of another size gets a new one; what is under way keeps to the old one.
    """
    global _budget
    with _lock:
        if _budget is None:
            _budget = _inherited(environment)
        if _budget is None or (limit and limit != _budget.limit):
            _budget = MemoryBudget(limit or default_decode_memory())
        return _budget


def _inherited(environment: Mapping[str, str]) -> MemoryBudget | None:
    """The budget that the environment names; None where there is none, or its process has ended."""
    ledger = Path(environment.get(_VARIABLE, ""))
    try:
        if _NAME in str(ledger.readlink()):
            return MemoryBudget(0, ledger=ledger)
    except OSError:
        pass
    return None
