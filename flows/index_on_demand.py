"""The index Flow beside a query server: started when somebody writes, ended some time after the last write.

While it runs, it holds the index's writer lock; so it ends after a while, and ``python app.py -t index``
can have it. The process that serves (``IndexOnDemand``) starts, watches and ends it; the gateway
(``IndexClient``) asks for it and writes through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from crossmodal.documents import MediaDocument
from crossmodal.errors import CrossmodalError, ServiceError
from crossmodal.settings import Settings
from flows.client import REQUESTS_IN_FLIGHT, FlowClient
from flows.requests import batched_documents
from flows.service import FlowService
from flows.topology import Topology
from flows.write_channel import Lease, LeaseServer, open_lease

__all__ = ["IndexClient", "IndexOnDemand"]

# How long the index Flow waits for the next write. Starting it takes a few seconds.
IDLE_SECONDS = 30.0

# Photos and captions in one request, as in indexing from the command line.
_REQUEST_SIZE = 32

# A process that died is noticed by those who talk to it before the process that watches it says so.
_NOTICE_SECONDS = 5.0

_TRIES = 2


class IndexOnDemand:
    """Runs the index Flow while a gateway wants it; ``step`` has to be called again and again.

    ``prepare`` is called before each start and gives the settings, or raises what makes the index unwritable.
    All of it happens in the thread that calls, which must be the main one: starting a Flow handles signals.
    """

    def __init__(self, prepare: Callable[[], Settings]) -> None:
        self._prepare = prepare
        self._leases = LeaseServer()
        self._service: FlowService | None = None

    @property
    def channel(self) -> str:
        """The address that an ``IndexClient`` needs."""
        return self._leases.address

    def step(self, seconds: float) -> None:
        """Waits at most so many seconds for a gateway; starts, checks or ends the Flow as it is needed.

        A Flow that cannot start or that loses a process is its gateway's trouble, not the caller's.
        KeyboardInterrupt comes through where a signal arrives during the start.
        """
        self._leases.wait(seconds)
        if self._service is not None:
            try:
                self._service.check()
            except ServiceError as error:
                print(f"error: {error} The next write starts it.", file=sys.stderr, flush=True)
                self._end(error)
                return
        if self._leases.waiting:
            self._grant()
        if self._service is not None and not self._leases:
            self._end()

    def refuse_more(self) -> None:
        """From now on, only what is being written is finished."""
        self._leases.stop_listening()
        self._leases.refuse(ServiceError("The server is ending; nothing more can be written."))

    def _grant(self) -> None:
        try:
            if self._service is None:
                service = FlowService("index", self._prepare())
                self._service = service.__enter__()
        except CrossmodalError as error:
            self._leases.refuse(error)
        else:
            self._leases.grant(self._service.port)

    def _end(self, error: ServiceError | None = None) -> None:
        service, self._service = self._service, None
        if service is not None:
            self._leases.end_leases()
            service.__exit__(type(error) if error else None, error, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end()
        finally:
            self._leases.close()


class IndexClient:
    """Writes through the index Flow that the ``IndexOnDemand`` at ``channel`` runs.

    Writes at the same time share one Flow, which ends ``idle_seconds`` after the last of them. For one
    event loop.
    """

    def __init__(self, channel: str, topology: Topology, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._channel = channel
        self._topology = topology
        self._idle_seconds = idle_seconds
        self._places = asyncio.Semaphore(REQUESTS_IN_FLIGHT)
        self._opening: asyncio.Task[Lease] | None = None
        self._writes = 0
        self._ending: asyncio.TimerHandle | None = None

    @property
    def state(self) -> Literal["idle", "starting", "running"]:
        """Whether the index Flow is up at this moment."""
        if self._opening is None:
            return "idle"
        if not self._opening.done():
            return "starting"
        return "running" if self._running() else "idle"

    async def index(self, docs: Sequence[MediaDocument]) -> dict[str, MediaDocument]:
        """Indexes documents; the answers, by id, have ``outcome`` or ``error``.

        Raises StoreLocked where another process writes to the index, StoreUnwritable and what else keeps the
        index Flow from starting, and ServiceError where it fails twice on a request.
        """
        return await self._write("/index", docs)

    async def delete(self, docs: Sequence[MediaDocument]) -> dict[str, MediaDocument]:
        """Deletes documents by id and modality; ``outcome`` of those that there were is "deleted".

        Raises as ``index`` does.
        """
        return await self._write("/delete", docs)

    async def _write(self, endpoint: str, docs: Sequence[MediaDocument]) -> dict[str, MediaDocument]:
        with self._under_way():
            try:
                async with asyncio.TaskGroup() as group:
                    sent = [
                        group.create_task(self._send(endpoint, batch))
                        for batch in batched_documents(docs, _REQUEST_SIZE)
                    ]
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from None
        return {str(doc.id): doc for batch in sent for doc in batch.result()}

    async def _send(self, endpoint: str, docs: list[MediaDocument]) -> list[MediaDocument]:
        async with self._places:
            for _ in range(_TRIES):
                lease = await self._lease()
                answered = await self._post(lease, endpoint, docs)
                # Writing what has been written already changes nothing, so a request can be sent again.
                if answered is not None:
                    return answered
        raise ServiceError(
            f"The index Flow ended unexpectedly, {_TRIES} times, with these {len(docs)} documents under way. "
            "Everything acknowledged is safe; send fewer at a time to find the one that ends it."
        )

    async def _post(
        self, lease: Lease, endpoint: str, docs: list[MediaDocument]
    ) -> list[MediaDocument] | None:
        """The answers, or None where the Flow ended before it gave them."""
        posting = asyncio.ensure_future(FlowClient(lease.port, self._topology).post(endpoint, docs))
        waited: set[asyncio.Future[Any]] = {posting, lease.ended}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if posting.done() and posting.exception() is not None:
                await asyncio.wait({lease.ended}, timeout=_NOTICE_SECONDS)
            if lease.ended.done() and not (posting.done() and posting.exception() is None):
                return None
            return posting.result()
        finally:
            posting.cancel()

    async def _lease(self) -> Lease:
        if self._opening is None or (self._opening.done() and not self._running()):
            self._opening = asyncio.create_task(open_lease(self._channel))
        # Who stops waiting, as a client that hangs up does, must not end the start for the others.
        return await asyncio.shield(self._opening)

    def _running(self) -> bool:
        opening = self._opening
        return (
            opening is not None
            and opening.done()
            and not opening.cancelled()
            and opening.exception() is None
            and not opening.result().ended.done()
        )

    @contextlib.contextmanager
    def _under_way(self) -> Iterator[None]:
        self._writes += 1
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        try:
            yield
        finally:
            self._writes -= 1
            if not self._writes:
                self._ending = asyncio.get_running_loop().call_later(self._idle_seconds, self._end)

    def _end(self) -> None:
        opening, self._opening = self._opening, None
        if opening is None:
            return
        if not opening.done():
            opening.cancel()
        elif not opening.cancelled() and opening.exception() is None:
            opening.result().give_back()
