"""A call of somebody else's client, given up after some seconds, whatever that client does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from crossmodal.errors import BackendUnavailable, StoreError

__all__ = ["in_time"]

_Result = TypeVar("_Result")


def in_time(
    seconds: float, who: str, work: Callable[[], _Result], *, late: type[StoreError] = BackendUnavailable
) -> _Result:
    """What ``work`` returns, or raises, within ``seconds``; else raises ``late``, which says ``who`` it was.

    It goes on in a thread of its own, which doesn't keep the process from ending. A thread costs a tenth of a
    millisecond.
    """
    answer: Future[_Result] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001  # the caller raises it
            answer.set_exception(error)

    threading.Thread(target=run, name=f"ask {who}", daemon=True).start()
    # Not by result(seconds): what ``work`` raises may be a TimeoutError too.
    if not wait([answer], seconds).done:
        raise late(
            f"{who} gave no answer within {seconds:.3g} seconds. It is tried again; nothing is lost "
            "meanwhile."
        )
    return answer.result()
