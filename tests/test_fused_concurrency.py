"""The fused layout brings an executor as many requests at once as it says, and any other one at a time.

What they write stays in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from docarray import DocList

from crossmodal.documents import MediaDocument
from flows import fused
from crossmodal.flow.topology import Step


class Waiting:
    """An executor that counts who is inside; a call ends when ``expected`` are, or after ``seconds``."""

    def __init__(self, expected: int, seconds: float) -> None:
        self.inside = self.most = 0
        self._seconds = seconds
        self._lock = threading.Lock()
        self._together = threading.Barrier(expected)
        self.requests = {"/index": self}

    def fn(self, instance: Any, docs: DocList, parameters: Any) -> DocList:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        with contextlib.suppress(threading.BrokenBarrierError):
            self._together.wait(self._seconds)
            # Long enough for one too many to come in as well.
            time.sleep(0.05)
        with self._lock:
            self.inside -= 1
        return docs

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize("concurrency", [None, 2])
def test_an_executor_gets_as_many_requests_as_it_says(
    monkeypatch: pytest.MonkeyPatch, concurrency: int | None
) -> None:
    # One at a time waits for a second in vain; two find each other, however late one of them comes.
    executor = Waiting(expected=concurrency or 2, seconds=30 if concurrency else 0.2)
    if concurrency is not None:
        executor.concurrency = concurrency  # type: ignore[attr-defined]
    monkeypatch.setattr(fused, "_load", lambda step, shard: executor)
    running = fused._RunningStep(Step("waiting", Path("config.yml"), ("gateway",)))

    async def call_all() -> list[DocList]:
        docs = [DocList[MediaDocument]([MediaDocument(id=str(n))]) for n in range(6)]
        return await asyncio.gather(*(running.call("/index", each, {}) for each in docs))

    answers = asyncio.run(call_all())
    running.close()
    assert [answer[0].id for answer in answers] == [str(n) for n in range(6)]
    assert executor.most == (concurrency or 1)
    assert executor.inside == 0


class Slow:
    """An executor that works on three requests at once and is done with the later ones first."""

    concurrency = 3

    def __init__(self) -> None:
        self.requests = {"/index": self}
        self._later = [threading.Event() for _ in range(3)]

    def fn(self, instance: Any, docs: DocList, parameters: Any) -> DocList:
        number = int(docs[0].id)
        if number < 2:
            self._later[number + 1].wait(10)
        self._later[number].set()
        if number == parameters.get("failing"):
            raise ValueError("as told")
        return docs

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize(
    ("parameters", "expected"), [({}, [0, 1, 2]), ({"failing": 1}, [0, 2]), ({"failing": 0}, [1, 2])]
)
def test_requests_that_write_do_not_overtake_each_other(
    monkeypatch: pytest.MonkeyPatch, parameters: dict[str, int], expected: list[int]
) -> None:
    monkeypatch.setattr(fused, "_load", lambda step, shard: Slow())
    running = fused._RunningStep(Step("slow", Path("config.yml"), ("gateway",)))
    left: list[int] = []

    async def call(number: int) -> None:
        docs = DocList[MediaDocument]([MediaDocument(id=str(number))])
        with contextlib.suppress(ValueError):
            await running.call("/index", docs, parameters)
            left.append(number)

    async def call_all() -> None:
        await asyncio.gather(*map(call, range(3)))

    asyncio.run(call_all())
    running.close()
    assert left == expected
