"""Concurrent requests of the same kind, done together.

A request starts at once while fewer than ``at_once`` calls are under way. Otherwise it waits for one of them
to end, and what has gathered meanwhile is done together: the busier the server, the larger the batches,
without a delay to configure.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from crossmodal.errors import ServiceError

__all__ = ["MicroBatcher"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Request(Generic[Item, Answer]):
    items: Sequence[Item]
    answers: asyncio.Future[list[Answer]]


class MicroBatcher(Generic[Item, Answer]):
    """Calls ``work`` with the items of all requests that wait; one answer an item, in order.

    ``most`` items go in one call, unless a single request has more, and ``at_once`` calls are under way. For
    use in one event loop.
    """

    def __init__(
        self, work: Callable[[list[Item]], Awaitable[Sequence[Answer]]], *, most: int, at_once: int = 1
    ) -> None:
        self._work = work
        self._most = most
        self._at_once = at_once
        self._waiting: deque[_Request[Item, Answer]] = deque()
        self._under_way = 0
        # The event loop itself keeps no task alive.
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, items: Sequence[Item]) -> list[Answer]:
        """The answers to ``items``; raises what ``work`` raised for these items alone.

        A request that is cancelled leaves the others their answers.
        """
        request: _Request[Item, Answer] = _Request(items, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._start()
        return await request.answers

    def status(self) -> dict[str, float]:
        """How many items wait, and how many calls are under way."""
        waiting = sum(len(request.items) for request in self._waiting)
        return {"waiting": waiting, "under_way": self._under_way}

    def _start(self) -> None:
        while self._under_way < self._at_once and (batch := self._next_batch()):
            self._under_way += 1
            task = asyncio.create_task(self._run(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next_batch(self) -> list[_Request[Item, Answer]]:
        batch: list[_Request[Item, Answer]] = []
        number = 0
        while self._waiting:
            number += len(self._waiting[0].items)
            if batch and number > self._most:
                break
            request = self._waiting.popleft()
            if request.answers.done():
                # Cancelled while it waited.
                number -= len(request.items)
            else:
                batch.append(request)
        return batch

    async def _run(self, batch: list[_Request[Item, Answer]]) -> None:
        try:
            await self._answer(batch)
        finally:
            self._under_way -= 1
            self._start()

    async def _answer(self, batch: list[_Request[Item, Answer]]) -> None:
        items = [item for request in batch for item in request.items]
        try:
            found = await self._work(items)
            if len(found) != len(items):
                raise ServiceError(f"{len(items)} queries got {len(found)} answers.")
        except asyncio.CancelledError:
            # Without this the requests would wait for ever.
            for request in batch:
                request.answers.cancel()
            raise
        except Exception as error:  # noqa: BLE001  whatever it is belongs to the requests
            if len(batch) > 1:
                # One request's items may be what the work fails on; the others get their answers.
                await asyncio.gather(*(self._answer([request]) for request in batch))
            elif not batch[0].answers.done():
                batch[0].answers.set_exception(error)
            return
        answers = iter(found)
        for request in batch:
            own = [next(answers) for _ in request.items]
            if not request.answers.done():
                request.answers.set_result(own)
