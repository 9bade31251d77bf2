"""Contenders measured in turns, so that whatever else the machine does slows all of them alike."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import median, quantiles
from types import FrameType
from typing import Any, Self

import crossmodal

__all__ = [
    "REPOSITORY",
    "ROUNDS",
    "Clock",
    "Contender",
    "Goal",
    "Options",
    "Result",
    "Rounds",
    "at_least",
    "at_most",
    "compared",
    "count_calls",
    "in_turns",
    "latency",
    "measured",
    "repeated",
    "timed",
]

REPOSITORY = Path(__file__).resolve().parents[1]
_PACKAGE = str(Path(crossmodal.__file__).parent)

ROUNDS = 5

Clock = Callable[[], float]

# Does its work once and returns what it measured, such as seconds for one item.
Contender = Callable[[], float]

# So few calls of a very short function that the clock's own cost would show are repeated this long.
_SHORTEST_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Options:
    """``quick`` asks for a run of at most 45 seconds, which ``deadline`` on ``time.perf_counter`` is for.

    ``data`` is a folder with photos and captions, None for the toy data; ``workspace`` holds what is made
    once and used again, such as stores of a million vectors. ``vectors``: the sizes that ``scaling``
    measures, none for its own.
    """

    quick: bool
    data: Path | None
    workspace: Path
    deadline: float | None = None
    vectors: tuple[int, ...] = ()

    def until(self, share: float = 1.0) -> float | None:
        """When ``share`` of the time that is left will be over; None where there is no deadline."""
        if self.deadline is None:
            return None
        now = time.perf_counter()
        return now + share * max(self.deadline - now, 0.0)


@dataclass(frozen=True, slots=True)
class Rounds:
    """What one contender measured, one value a round, in order."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The first and third quartile."""
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        low, _, high = quantiles(self.values, n=4, method="inclusive")
        return low, high

    def times(self, factor: float) -> Self:
        """Each round's value in another unit."""
        return type(self)(tuple(value * factor for value in self.values))

    def plus(self, amount: float) -> Self:
        """Each round's value and ``amount`` more."""
        return type(self)(tuple(value + amount for value in self.values))

    def rate(self) -> Self:
        """Seconds for one item to items a second."""
        return type(self)(tuple(1.0 / value for value in self.values))

    def over(self, other: Rounds) -> Self:
        """The ratio in each round: values of one round were measured next to each other."""
        return type(self)(tuple(a / b for a, b in zip(self.values, other.values, strict=True)))


def in_turns(
    contenders: Mapping[str, Contender],
    *,
    rounds: int = ROUNDS,
    warm_up: int = 1,
    until: float | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, Rounds]:
    """Calls all ``contenders`` one after the other, ``rounds`` times over: A B A B.

    ``warm_up`` rounds come before and aren't counted. There are fewer rounds where another as long as the
    last would end after the time ``until`` of ``clock``; the last counts then in any case.
    """
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(warm_up + rounds):
        started = clock()
        for name, contender in contenders.items():
            measured[name].append(contender())
        if until is not None and 2 * clock() - started > until:
            break
    return {name: Rounds(tuple(values[warm_up:] or values[-1:])) for name, values in measured.items()}


def timed(call: Callable[[], object], *, clock: Clock = time.perf_counter) -> float:
    """The seconds that one call takes."""
    started = clock()
    call()
    return clock() - started


def repeated(
    call: Callable[[], object],
    items: int,
    *,
    shortest: float = _SHORTEST_SECONDS,
    clock: Clock = time.perf_counter,
) -> Contender:
    """Measures the seconds for one of the ``items`` of a call, repeating it for ``shortest`` seconds."""

    def measure() -> float:
        started = clock()
        calls = 0
        while True:
            call()
            calls += 1
            seconds = clock() - started
            if seconds >= shortest:
                return seconds / (calls * items)

    return measure


def latency(
    call: Callable[[Any], object], inputs: Sequence[Any], count: int, *, clock: Clock = time.perf_counter
) -> Contender:
    """Measures the median seconds of ``count`` calls, each with the next of ``inputs``, again from the start
    when they end."""
    following = cycle(inputs)

    def measure() -> float:
        return median(timed(lambda: call(next(following)), clock=clock) for _ in range(count))

    return measure


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


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound of a ratio; ``judged`` False where a run is too small to tell."""

    limit: float
    upper: bool
    judged: bool = True

    def __str__(self) -> str:
        return f"{'<=' if self.upper else '>='} {self.limit:.4g}"

    def met(self, ratio: float) -> bool | None:
        """Whether ``ratio`` keeps the bound; None where that can't be judged."""
        if not self.judged:
            return None
        return ratio <= self.limit if self.upper else ratio >= self.limit


def at_least(limit: float, *, judged: bool = True) -> Goal:
    """A ratio of ``limit`` or more."""
    return Goal(limit, False, judged)


def at_most(limit: float, *, judged: bool = True) -> Goal:
    """A ratio of ``limit`` or less."""
    return Goal(limit, True, judged)


@dataclass(frozen=True, slots=True)
class Result:
    """A figure: ``value`` in ``unit``, the median over ``rounds`` rounds; None where there is none.

    ``reference`` says what it was measured against, ``reference_value`` is that one's median in the same
    unit. ``ratio`` is the median of the rounds' ratios and ``spread`` their first and third quartile; None
    where there is nothing to compare with. ``ok`` is None without a goal, and where the run was too small to
    judge it. ``note`` is what a reader has to know beside it. ``machine`` is as ``report.facts`` gives it.
    """

    name: str
    value: float | None
    unit: str
    reference: str | None = None
    ratio: float | None = None
    goal: str | None = None
    ok: bool | None = None
    reference_value: float | None = None
    spread: tuple[float, float] | None = None
    rounds: int = 1
    note: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)


def compared(
    name: str,
    unit: str,
    ours: Rounds,
    reference: str,
    theirs: Rounds | float,
    *,
    goal: Goal | None = None,
    inverted: bool = False,
    also: bool = True,
    rounds_wanted: int = ROUNDS,
    note: str = "",
) -> Result:
    """The ratio of ``ours`` to ``theirs``, both in ``unit``; the reverse where ``inverted``.

    A number for ``theirs`` is a limit, the same in each round. A latency is inverted where the goal says how
    many times faster it is to be. ``also`` is a further condition of the goal, such as a recall that has to
    be reached. Fewer than ``rounds_wanted`` rounds judge nothing.
    """
    if isinstance(theirs, (int, float)):
        theirs = Rounds((float(theirs),) * len(ours.values))
    ratios = theirs.over(ours) if inverted else ours.over(theirs)
    ok = None if goal is None else goal.met(ratios.median)
    return Result(
        name=name,
        value=ours.median,
        unit=unit,
        reference=reference,
        ratio=ratios.median,
        goal=None if goal is None else str(goal),
        ok=None if ok is None or len(ours.values) < rounds_wanted else ok and also,
        reference_value=theirs.median,
        spread=ratios.spread,
        rounds=len(ours.values),
        note=note,
    )


def measured(name: str, unit: str, value: Rounds | float, *, note: str = "") -> Result:
    """A figure without a reference."""
    rounds = value if isinstance(value, Rounds) else Rounds((value,))
    return Result(name, rounds.median, unit, rounds=len(rounds.values), note=note)
