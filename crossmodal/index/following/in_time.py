"""A call of somebody else's client, given up after some seconds, whatever that client does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from crossmodal.errors import BackendUnavailable

__all__ = ["in_time"]

_Result = TypeVar("_Result")


class _Call(Generic[_Result]):
    def __init__(self, work: Callable[[], _Result]) -> None:
        self._work = work
        self.done = threading.Event()
        self.result: list[_Result] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result.append(self._work())
        except BaseException as error:  # noqa: BLE001  # the caller raises it
            self.error = error
        finally:
            self.done.set()


def in_time(seconds: float, where: str, work: Callable[[], _Result]) -> _Result:
    """What ``work`` returns, or raises, within ``seconds``; else raises ``BackendUnavailable``.

    It goes on in a thread of its own, which doesn't keep the process from ending. A thread costs a tenth of a
    millisecond.
    """
    call = _Call(work)
    threading.Thread(target=call.run, name=f"ask {where}", daemon=True).start()
    if not call.done.wait(seconds):
        raise BackendUnavailable(
            f"{where}, which --backend names, gave no answer within {seconds:g} seconds. It is tried again; "
            "nothing is lost meanwhile."
        )
    if call.error is not None:
        raise call.error
    return call.result[0]
