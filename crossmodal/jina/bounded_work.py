"""Work for the calls of a gRPC server: bounded in number, and only as long as somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]

from crossmodal.models.runtimes.forms import available_cores

__all__ = ["MAX_REQUESTS", "BoundedWork"]

# Requests that are worked on or wait for that. A search takes some milliseconds, so the last of them waits
# for about a second.
MAX_REQUESTS = 32

# For a client that sets no deadline.
_ANSWER_SECONDS = 120.0

_Result = TypeVar("_Result")


class BoundedWork:
    """Does the work of requests in as many threads as there are cores; more than MAX_REQUESTS are refused."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(available_cores(), thread_name_prefix="answer")
        self._under_way = 0

    async def do(self, work: Callable[[], _Result], context: Any) -> _Result:
        """What ``work`` returns; ends the call where there is no place for it, or its deadline passes.

        Work that has not begun by then never does; what has begun keeps its place until its end.
        """
        remaining = context.time_remaining()
        seconds = _ANSWER_SECONDS if remaining is None else min(remaining, _ANSWER_SECONDS)
        if seconds <= 0:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "The deadline of the call has passed.")
        if self._under_way >= MAX_REQUESTS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{MAX_REQUESTS} requests are under way, which is the limit; try again in a moment.",
            )
        self._under_way += 1
        future = self._threads.submit(work)
        future.add_done_callback(partial(self._leave, asyncio.get_running_loop()))
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            await context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"There was no answer within {seconds:.1f} seconds."
            )
            raise

    def _leave(self, loop: asyncio.AbstractEventLoop, future: Future[Any]) -> None:
        # The loop may have ended before the last thread.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._leave_now)

    def _leave_now(self) -> None:
        self._under_way -= 1
