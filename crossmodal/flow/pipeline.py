"""Records in batches, and many batches through a Flow, several at once.

One is decoded while another is encoded or written.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from crossmodal.documents import Document
from crossmodal.flow.runner import Flow
from crossmodal.machine import available_cores
from crossmodal.records import IMAGE, Record
from crossmodal.request_ids import REQUEST_IDS
from crossmodal.steps.step import WRITES, Operation

__all__ = ["MAX_REQUEST_BYTES", "batched", "batched_by_modality", "run_batches"]

# A step holds one request at a time, one that encodes as many as it has cores for, so this bounds the memory,
# whatever the data set or a client sends.
MAX_REQUEST_BYTES = 8 << 20

# A caption takes a fraction of a photo's time, and the more there are of them, the more alike in length are
# those that are encoded together.
CAPTIONS_FOR_A_PHOTO = 4


def batched(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    """Groups records into lists of at most ``size``; one of several records keeps within the limit above."""
    batch = _Batch(size)
    for record in records:
        yield from batch.add(record)
    yield from batch.rest()


def batched_by_modality(records: Iterable[Record | None], size: int) -> Iterator[list[Record]]:
    """The same in lists of photos alone and of captions alone, of which one holds up to 4 * ``size``.

    A None among the records is an empty list, which has its answer at once.
    """
    photos, captions = _Batch(size), _Batch(CAPTIONS_FOR_A_PHOTO * size)
    for record in records:
        if record is None:
            yield []
            continue
        yield from (photos if record.modality == IMAGE else captions).add(record)
    yield from photos.rest()
    yield from captions.rest()


class _Batch:
    """The list that is being filled."""

    def __init__(self, size: int) -> None:
        self._size = size
        # By id: branches and shards become one again by it, so that an id stands once in a request.
        self._records: dict[str, Record] = {}
        self._held = 0

    def add(self, record: Record) -> Iterator[list[Record]]:
        """Takes ``record`` in, and yields what has become full before or with it."""
        if self._held + record.size > MAX_REQUEST_BYTES or record.id in self._records:
            yield from self.rest()
        self._records[record.id] = record
        self._held += record.size
        if len(self._records) == self._size:
            yield from self.rest()

    def rest(self) -> Iterator[list[Record]]:
        """Yields what is there, if anything is, and starts over."""
        if self._records:
            full, self._records, self._held = list(self._records.values()), {}, 0
            yield full


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
        self._request_ids = REQUEST_IDS.get()
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
        # Not the whole context: a deadline of its request ends no batch that is being written.
        REQUEST_IDS.set(self._request_ids)
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
            if not docs:
                return []
            # Under the same lock: writes keep the order in which they are read.
            ticket = self._flow.take_ticket() if self._operation in WRITES else None
        return self._flow.run(self._operation, docs, self._parameters, ticket=ticket)
