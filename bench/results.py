"""One figure of a benchmark: what was measured, against what, and whether that reaches its goal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.harness import ROUNDS, Rounds
from crossmodal.errors import DataError

__all__ = ["Goal", "Result", "at_least", "at_most", "compared", "measured", "read_results", "write_results"]


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
    judge it. ``note`` is what a reader has to know beside it. ``machine`` is as ``machine.facts`` gives it.
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
    theirs: Rounds,
    *,
    goal: Goal | None = None,
    inverted: bool = False,
    also: bool = True,
    rounds_wanted: int = ROUNDS,
    note: str = "",
) -> Result:
    """The ratio of ``ours`` to ``theirs``, both in ``unit``; the reverse where ``inverted``.

    A latency is inverted where the goal says how many times faster it is to be. ``also`` is a further
    condition of the goal, such as a recall that has to be reached. Fewer than ``rounds_wanted`` rounds judge
    nothing.
    """
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


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Writes a JSON list with an object for each result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n", encoding="utf-8")


def read_results(path: Path) -> list[Result]:
    """The reverse of ``write_results``. Raises DataError where the file is no list of results."""
    try:
        return [
            Result(**{**values, "spread": values.get("spread") and tuple(values["spread"])})
            for values in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} holds no results of a benchmark ({error}).") from error
