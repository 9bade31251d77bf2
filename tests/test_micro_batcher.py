"""What concurrent callers ask for, done together: answers, errors and cancellations stay their own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmodal.server.micro_batcher import Sharing


class Doubling:
    """Doubles numbers when it is let; remembers in which groups it was asked."""

    def __init__(self, refused: frozenset[int] = frozenset()) -> None:
        self.groups: list[tuple[str, list[int]]] = []
        self.let = asyncio.Event()
        self._refused = refused

    async def __call__(self, key: str, numbers: list[int]) -> Sequence[int]:
        self.groups.append((key, numbers))
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
        sharing = Sharing(work, most=4, at_once=2)
        callers = []
        for numbers in ([1], [2], [3], [4, 5], [6], [7, 8]):
            callers.append(asyncio.create_task(sharing("a", numbers)))
            await settle()
        assert [numbers for _, numbers in work.groups] == [[1], [2]]
        work.let.set()
        assert await asyncio.gather(*callers) == [[2], [4], [6], [8, 10], [12], [14, 16]]
        # At most four together, and nobody's items are divided.
        assert [numbers for _, numbers in work.groups] == [[1], [2], [3, 4, 5, 6], [7, 8]]

    asyncio.run(run())


def test_who_asks_for_more_than_goes_together_goes_alone() -> None:
    async def run() -> None:
        work = Doubling()
        sharing = Sharing(work, most=2)
        callers = [asyncio.create_task(sharing("a", [n] * n)) for n in (1, 5, 1)]
        await settle()
        work.let.set()
        assert await asyncio.gather(*callers) == [[2], [10] * 5, [2]]
        assert [len(numbers) for _, numbers in work.groups] == [1, 5, 1]

    asyncio.run(run())


def test_other_keys_neither_mix_nor_wait() -> None:
    async def run() -> None:
        work = Doubling()
        sharing = Sharing(work, most=8)
        callers = [
            asyncio.create_task(sharing(key, [number]))
            for number, key in enumerate(["a", "b", "a", "b", "a"])
        ]
        await settle()
        assert work.groups == [("a", [0]), ("b", [1])]
        work.let.set()
        assert await asyncio.gather(*callers) == [[0], [2], [4], [6], [8]]
        assert work.groups[2:] == [("a", [2, 4]), ("b", [3])]

    asyncio.run(run())


def test_an_error_is_only_its_own_callers() -> None:
    async def run() -> None:
        work = Doubling(refused=frozenset({3}))
        sharing = Sharing(work, most=8)
        callers = [asyncio.create_task(sharing("a", [number])) for number in range(5)]
        await settle()
        work.let.set()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        assert [answers[n] for n in (0, 1, 2, 4)] == [[0], [2], [4], [8]]
        assert isinstance(answers[3], ValueError)
        assert str(answers[3]) == "not [3]"
        # What failed is forgotten: the next one is answered.
        assert await sharing("a", [7]) == [14]

    asyncio.run(run())


def test_a_cancelled_caller_leaves_the_others_their_answers() -> None:
    async def run() -> None:
        work = Doubling()
        sharing = Sharing(work, most=8)
        first, waiting, gone, last = (asyncio.create_task(sharing("a", [number])) for number in range(4))
        await settle()
        # One whose items are being worked on, and one that still waits.
        first.cancel()
        gone.cancel()
        await settle()
        work.let.set()
        assert await waiting == [2]
        assert await last == [6]
        assert [numbers for _, numbers in work.groups] == [[0], [1, 3]]
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(run())


def test_work_that_is_cancelled_leaves_nobody_waiting() -> None:
    """As gRPC does with its calls when the gateway ends."""

    async def run() -> None:
        async def work(key: str, numbers: list[int]) -> Sequence[int]:
            await asyncio.sleep(0)
            raise asyncio.CancelledError

        sharing = Sharing(work, most=8)
        callers = [asyncio.create_task(sharing("a", [number])) for number in range(3)]
        await settle()
        assert [caller.cancelled() for caller in callers] == [True] * 3

    asyncio.run(run())


@given(
    callers=st.lists(
        st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 9), max_size=4)), min_size=1, max_size=12
    ),
    refused=st.frozensets(st.integers(0, 9), max_size=2),
    most=st.integers(1, 5),
    at_once=st.integers(1, 3),
)
@settings(deadline=None, max_examples=60)
def test_every_caller_gets_what_it_would_get_alone(
    callers: list[tuple[str, list[int]]], refused: frozenset[int], most: int, at_once: int
) -> None:
    async def run() -> None:
        work = Doubling(refused)
        work.let.set()
        sharing = Sharing(work, most=most, at_once=at_once)
        answers = await asyncio.gather(
            *(sharing(key, numbers) for key, numbers in callers), return_exceptions=True
        )
        for (_, numbers), answer in zip(callers, answers, strict=True):
            if refused & set(numbers):
                assert isinstance(answer, ValueError)
                assert str(answer) == f"not {sorted(refused & set(numbers))}"
            else:
                assert answer == [2 * number for number in numbers]

    asyncio.run(run())
