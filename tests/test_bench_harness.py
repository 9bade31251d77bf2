"""Contenders take turns, and ratios come from values that were measured next to each other."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from conftest import REPOSITORY

from bench.harness import Options, Rounds, at_least, at_most, compared, in_turns, latency, repeated


class Clock:
    """A clock that moves only when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.now += seconds

        return call


def test_contenders_take_turns_after_a_round_that_does_not_count() -> None:
    turns: list[str] = []
    values = count()

    def contender(name: str) -> Callable[[], float]:
        def measure() -> float:
            turns.append(name)
            return float(next(values))

        return measure

    rounds = in_turns({"a": contender("a"), "b": contender("b")}, rounds=3)
    assert "".join(turns) == "abababab"
    assert rounds == {"a": Rounds((2, 4, 6)), "b": Rounds((3, 5, 7))}


def test_no_round_begins_that_would_end_too_late() -> None:
    clock = Clock()

    def measure() -> float:
        clock.now += 10
        return clock.now

    # The rounds end at 10 (which isn't counted), 20, 30 ...
    assert in_turns({"a": measure}, rounds=9, until=45, clock=clock)["a"].values == (20, 30, 40)
    # Where there is time for nothing, the first round is better than none.
    assert in_turns({"a": measure}, rounds=9, until=0, clock=clock)["a"].values == (50,)
    assert len(in_turns({"a": measure}, rounds=9, until=None, clock=clock)["a"].values) == 9


def test_median_and_quartiles() -> None:
    rounds = Rounds((9, 1, 5, 3, 7))
    assert (rounds.median, rounds.spread) == (5, (3, 7))
    assert Rounds((4,)).spread == (4, 4)
    assert Rounds((2, 4)).rate() == Rounds((0.5, 0.25))
    assert Rounds((2, 4)).times(1000) == Rounds((2000, 4000))


def test_a_slow_round_slows_both_and_not_their_ratio() -> None:
    ours, theirs = Rounds((1, 50, 1, 1, 1)), Rounds((2, 100, 2, 2, 2))
    assert ours.over(theirs) == Rounds((0.5,) * 5)
    with pytest.raises(ValueError):
        ours.over(Rounds((1,)))


def test_a_short_call_is_repeated_until_the_clock_can_tell() -> None:
    clock = Clock()
    assert repeated(clock.work(2), 4, shortest=5, clock=clock)() == 0.5
    assert clock.now == 6
    assert repeated(clock.work(100), 4, shortest=5, clock=clock)() == 25


def test_latency_is_the_median_of_calls_with_input_after_input() -> None:
    clock = Clock()
    seen: list[int] = []

    def call(seconds: int) -> None:
        seen.append(seconds)
        clock.now += seconds

    measure = latency(call, [1, 2, 30, 4], 3, clock=clock)
    assert [measure(), measure()] == [2, 2]
    assert seen == [1, 2, 30, 4, 1, 2]


@pytest.mark.parametrize(
    ("goal", "ok"),
    [
        (at_least(2), True),
        (at_least(2.1), False),
        (at_most(2), True),
        (at_most(1.9), False),
        (at_most(1.9, judged=False), None),
        (None, None),
    ],
)
def test_a_goal_is_a_bound_of_the_ratio(goal: object, ok: bool | None) -> None:
    result = compared("x", "images/s", Rounds((20.0,) * 5), "y", Rounds((10.0,) * 5), goal=goal)  # type: ignore[arg-type]
    assert (result.value, result.reference_value, result.ratio, result.ok) == (20, 10, 2, ok)
    assert result.goal == (None if goal is None else str(goal))


def test_times_faster_is_the_inverse_of_a_latency() -> None:
    result = compared(
        "x", "ms", Rounds((2.0,) * 5), "y", Rounds((10.0,) * 5), inverted=True, goal=at_least(5)
    )
    assert (result.value, result.ratio, result.spread, result.ok) == (2, 5, (5, 5), True)


def test_a_goal_needs_its_further_condition_and_five_rounds() -> None:
    five, four = Rounds((1.0,) * 5), Rounds((1.0,) * 4)
    assert compared("x", "ms", five, "y", five, goal=at_least(1), also=False).ok is False
    assert compared("x", "ms", four, "y", four, goal=at_least(1)).ok is None
    assert compared("x", "ms", four, "y", four, goal=at_least(1), rounds_wanted=1).ok is True


def test_a_deadline_is_shared_out() -> None:
    assert Options(False, None, REPOSITORY).until() is None
    past = Options(True, None, REPOSITORY, deadline=0.0)
    first, second = past.until(0.5), past.until()
    assert first is not None
    assert second is not None
    assert first <= second
