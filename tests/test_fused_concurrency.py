"""The fused layout brings an executor as many requests at once as it says, and any other one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
from docarray import DocList

from crossmodal.documents import MediaDocument
from flows import fused
from flows.topology import Step


class Waiting:
    """An executor that counts who is inside; a call ends when ``expected`` are, or soon if they don't."""

    def __init__(self, expected: int) -> None:
        self.inside = self.most = 0
        self._lock = threading.Lock()
        self._together = threading.Barrier(expected)
        self.requests = {"/index": self}

    def fn(self, instance: Any, docs: DocList, parameters: Any) -> DocList:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        with contextlib.suppress(threading.BrokenBarrierError):
            self._together.wait(0.2)
        with self._lock:
            self.inside -= 1
        return docs

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize("concurrency", [None, 2])
def test_an_executor_gets_as_many_requests_as_it_says(
    monkeypatch: pytest.MonkeyPatch, concurrency: int | None
) -> None:
    executor = Waiting(expected=concurrency or 2)
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
