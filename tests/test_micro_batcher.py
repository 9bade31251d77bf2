"""What concurrent callers ask for, done together: answers, errors and cancellations stay their own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmodal.server.micro_batcher import MicroBatcher


class Doubling:
    """Doubles numbers when it is let; remembers in which batches it was asked."""

    def __init__(self, refused: frozenset[int] = frozenset()) -> None:
        self.batches: list[list[int]] = []
        self.let = asyncio.Event()
        self._refused = refused

    async def __call__(self, numbers: list[int]) -> Sequence[int]:
        self.batches.append(numbers)
        await self.let.wait()
        if self._refused & set(numbers):
            raise ValueError(f"not {sorted(self._refused & set(numbers))}")
        return [2 * number for number in numbers]


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_nobody_waits_where_nothing_is_under_way_and_the_others_go_together() -> None:
    async def run() -> None:
        work = Doubling()
        batcher = MicroBatcher(work, most=4, at_once=2)
        callers = []
        for numbers in ([1], [2], [3], [4, 5], [6], [7, 8]):
            callers.append(asyncio.create_task(batcher(numbers)))
            await settle()
        assert work.batches == [[1], [2]]
        work.let.set()
        assert await asyncio.gather(*callers) == [[2], [4], [6], [8, 10], [12], [14, 16]]
        # At most four together, and nobody's items are divided.
        assert work.batches == [[1], [2], [3, 4, 5, 6], [7, 8]]

    asyncio.run(run())


def test_who_asks_for_more_than_goes_together_goes_alone() -> None:
    async def run() -> None:
        work = Doubling()
        batcher = MicroBatcher(work, most=2)
        callers = [asyncio.create_task(batcher([n] * n)) for n in (1, 5, 1)]
        await settle()
        work.let.set()
        assert await asyncio.gather(*callers) == [[2], [10] * 5, [2]]
        assert [len(numbers) for numbers in work.batches] == [1, 5, 1]

    asyncio.run(run())


def test_an_error_is_only_its_own_callers() -> None:
    async def run() -> None:
        work = Doubling(refused=frozenset({3}))
        batcher = MicroBatcher(work, most=8)
        callers = [asyncio.create_task(batcher([number])) for number in range(5)]
        await settle()
        work.let.set()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        assert [answers[n] for n in (0, 1, 2, 4)] == [[0], [2], [4], [8]]
        assert isinstance(answers[3], ValueError)
        assert str(answers[3]) == "not [3]"
        # What failed is forgotten: the next one is answered.
        assert await batcher([7]) == [14]

    asyncio.run(run())


def test_a_cancelled_caller_leaves_the_others_their_answers() -> None:
    async def run() -> None:
        work = Doubling()
        batcher = MicroBatcher(work, most=8)
        first, waiting, gone, last = (asyncio.create_task(batcher([number])) for number in range(4))
        await settle()
        # One whose items are being worked on, and one that still waits.
        first.cancel()
        gone.cancel()
        await settle()
        work.let.set()
        assert await waiting == [2]
        assert await last == [6]
        assert work.batches == [[0], [1, 3]]
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(run())


def test_work_that_is_cancelled_leaves_nobody_waiting() -> None:
    """As an event loop does with its tasks when the server ends."""

    async def run() -> None:
        async def work(numbers: list[int]) -> Sequence[int]:
            await asyncio.sleep(0)
            raise asyncio.CancelledError

        batcher = MicroBatcher(work, most=8)
        callers = [asyncio.create_task(batcher([number])) for number in range(3)]
        await settle()
        assert [caller.cancelled() for caller in callers] == [True] * 3

    asyncio.run(run())


@given(
    callers=st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=12),
    refused=st.frozensets(st.integers(0, 9), max_size=2),
    most=st.integers(1, 5),
    at_once=st.integers(1, 3),
)
@settings(deadline=None, max_examples=60)
def test_every_caller_gets_what_it_would_get_alone(
    callers: list[list[int]], refused: frozenset[int], most: int, at_once: int
) -> None:
    async def run() -> None:
        work = Doubling(refused)
        work.let.set()
        batcher = MicroBatcher(work, most=most, at_once=at_once)
        answers = await asyncio.gather(*(batcher(numbers) for numbers in callers), return_exceptions=True)
        for numbers, answer in zip(callers, answers, strict=True):
            if refused & set(numbers):
                assert isinstance(answer, ValueError)
                assert str(answer) == f"not {sorted(refused & set(numbers))}"
            else:
                assert answer == [2 * number for number in numbers]

    asyncio.run(run())
