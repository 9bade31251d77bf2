"""Work for the calls of a gRPC server: bounded in number, and only as long as somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from contextvars import copy_context
from typing import Any, TypeVar

from crossmodal.deadlines import Deadline, until
from crossmodal.errors import DeadlinePassed
from crossmodal.machine import available_cores
from crossmodal.places import Places

__all__ = ["MAX_REQUESTS", "BoundedWork"]

# Requests that are worked on or wait for that. A search takes some milliseconds, so the last of them waits
# for about a second.
MAX_REQUESTS = 32

_Result = TypeVar("_Result")


class BoundedWork:
    """Does the work of requests in as many threads as there are cores; more than MAX_REQUESTS are refused.

    ``seconds`` is the longest that a request may take, where its client doesn't say less.
    """

    def __init__(self, seconds: float) -> None:
        self.places = Places("requests", MAX_REQUESTS)
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(available_cores(), thread_name_prefix="answer")

    async def do(self, work: Callable[[], _Result], context: Any) -> _Result:
        """What ``work`` returns; raises Overloaded without a place for it, DeadlinePassed when too late.

        Work that has not begun by then never does; what has begun ends at its next step, and keeps its place
        until that.
        """
        remaining = context.time_remaining()
        deadline = Deadline(self._seconds if remaining is None else min(remaining, self._seconds))
        if deadline.passed:
            raise DeadlinePassed("The deadline of the call has passed.")
        place = ExitStack()
        place.enter_context(self.places.take())
        loop = asyncio.get_running_loop()

        def leave(done: Any) -> None:
            # The loop may have ended before the last thread.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(place.close)

        with until(deadline):
            future = self._threads.submit(copy_context().run, work)
        future.add_done_callback(leave)
        try:
            async with asyncio.timeout(deadline.seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise DeadlinePassed(
                f"There was no answer within {deadline.seconds:g} seconds, and the work was given up; "
                "--request-timeout of the server is the limit."
            ) from None
        finally:
            deadline.give_up()
