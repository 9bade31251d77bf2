"""Contenders measured in turns, so that whatever else the machine does slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Self

__all__ = ["ROUNDS", "Clock", "Contender", "Rounds", "in_turns", "latency", "repeated", "timed"]

ROUNDS = 5

Clock = Callable[[], float]

# Does its work once and returns what it measured, such as seconds for one item.
Contender = Callable[[], float]

# So few calls of a very short function that the clock's own cost would show are repeated this long.
_SHORTEST_SECONDS = 0.05


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
    following = _endless(inputs)

    def measure() -> float:
        return median(timed(lambda: call(next(following)), clock=clock) for _ in range(count))

    return measure


def _endless(inputs: Sequence[Any]) -> Iterator[Any]:
    while True:
        yield from inputs
