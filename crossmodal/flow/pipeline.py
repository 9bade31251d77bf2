"""Many batches through a Flow, several at once: one is decoded while another is encoded or written."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from crossmodal.documents import Document
from crossmodal.flow.runner import Flow
from crossmodal.models.runtimes.forms import available_cores
from crossmodal.steps.step import Operation

__all__ = ["run_batches"]


def run_batches(
    flow: Flow,
    operation: Operation,
    batches: Iterator[Sequence[Document]],
    parameters: Mapping[str, Any] | None = None,
    *,
    at_once: int | None = None,
) -> Iterator[list[Document]]:
    """What ``flow`` makes of each batch, as it is done, which is not always the order of ``batches``.

    ``at_once`` batches are under way (None: one more than there are cores), so that memory depends neither on
    the number of batches nor on how quickly they are taken. ``batches`` are read in threads, one at a time.
    Raises what reading or the Flow raises; what is under way then, or where iteration ends early, is finished
    first.
    """
    pipeline = _Pipeline(flow, operation, batches, parameters, at_once or available_cores() + 1)
    with pipeline.running():
        yield from pipeline.answers()


class _Pipeline:
    def __init__(
        self,
        flow: Flow,
        operation: Operation,
        batches: Iterator[Sequence[Document]],
        parameters: Mapping[str, Any] | None,
        at_once: int,
    ) -> None:
        self._flow = flow
        self._operation = operation
        self._batches = batches
        self._parameters = parameters
        self._reading = threading.Lock()
        self._stopped = threading.Event()
        # Released when an answer has been taken, so that a slow consumer isn't overrun.
        self._room = threading.Semaphore(2 * at_once)
        self._answers: SimpleQueue[list[Document] | BaseException | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{operation}-{number}", daemon=True)
            for number in range(at_once)
        ]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            for _ in self._threads:
                self._room.release()
            for thread in self._threads:
                thread.join()

    def answers(self) -> Iterator[list[Document]]:
        working = len(self._threads)
        while working:
            answer = self._answers.get()
            if answer is None:
                working -= 1
            elif isinstance(answer, BaseException):
                raise answer
            else:
                self._room.release()
                yield answer

    def _work(self) -> None:
        try:
            while (answer := self._next()) is not None:
                self._answers.put(answer)
        except BaseException as error:  # noqa: BLE001  raised again where the answers are taken
            self._answers.put(error)
        finally:
            self._answers.put(None)

    def _next(self) -> list[Document] | None:
        self._room.acquire()
        with self._reading:
            docs = None if self._stopped.is_set() else next(self._batches, None)
            if docs is None:
                return None
            # Under the same lock: writes keep the order in which they are read.
            ticket = self._flow.take_ticket() if self._operation in ("index", "delete") else None
        return self._flow.run(self._operation, docs, self._parameters, ticket=ticket)
