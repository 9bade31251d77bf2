"""What concurrent callers want of the same kind, done together.

Nobody waits where nothing is under way. While as much is under way as should be, what comes gathers and is
done together afterwards: the wait is then what the work before takes, and the busier it is, the larger are
the groups, without any time that somebody would have to set.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from crossmodal.errors import ServiceError

__all__ = ["Sharing"]

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Caller(Generic[Item, Answer]):
    items: Sequence[Item]
    answers: asyncio.Future[list[Answer]]


@dataclass(slots=True)
class _Line(Generic[Item, Answer]):
    waiting: deque[_Caller[Item, Answer]] = field(default_factory=deque)
    under_way: int = 0


class Sharing(Generic[Key, Item, Answer]):
    """Calls ``work`` with a key and the items of all callers that gave it; one answer an item, in order.

    ``most`` items go in one call, unless a single caller has more, and ``at_once`` calls of one key are under
    way. For use in one event loop.
    """

    def __init__(
        self,
        work: Callable[[Key, list[Item]], Awaitable[Sequence[Answer]]],
        *,
        most: int,
        at_once: int = 1,
    ) -> None:
        self._work = work
        self._most = most
        self._at_once = at_once
        self._lines: dict[Key, _Line[Item, Answer]] = {}
        # The event loop itself keeps no task alive.
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, key: Key, items: Sequence[Item]) -> list[Answer]:
        """The answers to ``items``; raises what ``work`` raised for these items alone.

        A caller that is cancelled leaves the others their answers.
        """
        caller: _Caller[Item, Answer] = _Caller(items, asyncio.get_running_loop().create_future())
        line = self._lines.setdefault(key, _Line())
        line.waiting.append(caller)
        self._start(key, line)
        return await caller.answers

    def _start(self, key: Key, line: _Line[Item, Answer]) -> None:
        while line.under_way < self._at_once and (group := self._next_group(line)):
            line.under_way += 1
            task = asyncio.create_task(self._run(key, line, group))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if not line.under_way:
            del self._lines[key]

    def _next_group(self, line: _Line[Item, Answer]) -> list[_Caller[Item, Answer]]:
        group: list[_Caller[Item, Answer]] = []
        number = 0
        while line.waiting:
            number += len(line.waiting[0].items)
            if group and number > self._most:
                break
            caller = line.waiting.popleft()
            if caller.answers.done():
                # Cancelled while it waited.
                number -= len(caller.items)
            else:
                group.append(caller)
        return group

    async def _run(self, key: Key, line: _Line[Item, Answer], group: list[_Caller[Item, Answer]]) -> None:
        try:
            await self._answer(key, group)
        finally:
            line.under_way -= 1
            self._start(key, line)

    async def _answer(self, key: Key, group: list[_Caller[Item, Answer]]) -> None:
        items = [item for caller in group for item in caller.items]
        try:
            found = await self._work(key, items)
            if len(found) != len(items):
                raise ServiceError(f"{len(items)} queries got {len(found)} answers.")
        except asyncio.CancelledError:
            # gRPC cancels its calls when it ends; without this the callers would wait for ever.
            for caller in group:
                caller.answers.cancel()
            raise
        except Exception as error:  # noqa: BLE001  whatever it is belongs to the callers
            if len(group) > 1:
                # One caller's items may be what the work fails on; the others get their answers.
                await asyncio.gather(*(self._answer(key, [caller]) for caller in group))
            elif not group[0].answers.done():
                group[0].answers.set_exception(error)
            return
        answers = iter(found)
        for caller in group:
            own = [next(answers) for _ in caller.items]
            if not caller.answers.done():
                caller.answers.set_result(own)
