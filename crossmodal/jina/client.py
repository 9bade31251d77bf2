"""Sends records and queries through a running Flow from this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from docarray import DocList

from crossmodal.documents import MediaDocument
from crossmodal.errors import ServiceError
from crossmodal.models import DEFAULT_MODEL
from crossmodal.query.request import SearchOutcome, SearchRequest
from crossmodal.records import Record
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace
from flows.delivery import deliver
from flows.service import LOCAL, FlowService
from crossmodal.flow.topology import Topology

__all__ = ["FlowClient", "index_batches", "post", "search", "search_batches"]

# Enough that every step of the Flow has a request to work on. Memory grows with this, not with the data.
REQUESTS_IN_FLIGHT = 6

_WATCH_SECONDS = 0.5


class FlowClient:
    """Sends requests to the Flow with ``topology`` whose gateway listens on the local ``port`` for gRPC."""

    def __init__(self, port: int, topology: Topology) -> None:
        from jina import Client

        self._client = Client(host=LOCAL, port=port, protocol="grpc", asyncio=True)
        self._topology = topology

    async def post(
        self, endpoint: str, docs: Sequence[MediaDocument], parameters: Mapping[str, Any] | None = None
    ) -> list[MediaDocument]:
        """The answers to one request, in the order of ``docs``, each of which has been through every step.

        Raises ServiceError where the Flow does not answer, fails on the request, or leaves out a step.
        """

        async def send(docs: list[MediaDocument]) -> list[MediaDocument]:
            return await self._send(endpoint, docs, dict(parameters or {}))

        answered = await deliver(docs, self._topology, send)
        return [answered[str(doc.id)] for doc in docs]

    async def _send(
        self, endpoint: str, docs: list[MediaDocument], parameters: dict[str, Any]
    ) -> list[MediaDocument]:
        answered: list[MediaDocument] = []
        try:
            async for response in self._client.post(
                endpoint,
                inputs=DocList[MediaDocument](docs),
                request_size=len(docs),
                parameters=parameters,
                return_type=DocList[MediaDocument],
                return_responses=True,
                continue_on_error=True,
                stream=False,
            ):
                status = response.header.status
                if status.code == status.ERROR:
                    raise ServiceError(f"The Flow failed on a request: {status.description}")
                answered.extend(response.docs)
        except ConnectionError as error:
            raise ServiceError(f"The Flow does not answer: {error}") from error
        return answered


def post(
    service: FlowService,
    endpoint: str,
    docs: Sequence[MediaDocument],
    parameters: Mapping[str, Any] | None = None,
) -> list[MediaDocument]:
    """Sends one request through a Flow that this process runs, and waits; see ``FlowClient.post``.

    Raises ServiceError as soon as a process of the Flow has died, too.
    """
    work = FlowClient(service.port, service.topology).post(endpoint, docs, parameters)
    answered: list[MediaDocument] = asyncio.run(_watched(service, work))
    return answered


def index_batches(
    service: FlowService, batches: Iterator[list[Record]]
) -> AsyncIterator[list[MediaDocument]]:
    """Sends each batch through the index Flow as one request and yields the answers as they come.

    At most ``REQUESTS_IN_FLIGHT`` requests are under way, and no batch is read before there is a place
    for it. Raises ServiceError where the Flow fails as a whole or loses a process.
    """
    documents = ([MediaDocument.from_record(record) for record in batch] for batch in batches)
    return _stream(service, "/index", documents, {})


def search_batches(
    service: FlowService, batches: Iterator[list[MediaDocument]], *, top_k: int
) -> AsyncIterator[list[MediaDocument]]:
    """Sends each batch of queries through the query Flow, as ``index_batches`` does it for records."""
    return _stream(service, "/search", batches, {"top_k": top_k})


async def _stream(
    service: FlowService, endpoint: str, batches: Iterator[list[MediaDocument]], parameters: dict[str, Any]
) -> AsyncIterator[list[MediaDocument]]:
    answers: asyncio.Queue[list[MediaDocument] | None] = asyncio.Queue(maxsize=1)
    reading = asyncio.Lock()

    async def work() -> None:
        client = FlowClient(service.port, service.topology)
        while True:
            async with reading:
                # In a thread: reading and hashing files would keep the loop from receiving answers.
                docs = await asyncio.to_thread(next, batches, None)
            if docs is None:
                return
            await answers.put(await client.post(endpoint, docs, parameters))

    async def work_all() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(REQUESTS_IN_FLIGHT):
                group.create_task(work())
        await answers.put(None)

    working = asyncio.create_task(_watched(service, work_all()))
    try:
        while True:
            receiving = asyncio.ensure_future(answers.get())
            await asyncio.wait({receiving, working}, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                receiving.cancel()
                await working
                return
            docs = receiving.result()
            if docs is None:
                return
            yield docs
    finally:
        working.cancel()


def search(
    service: FlowService, workspace: Workspace, requests: Sequence[SearchRequest], *, settings: Settings
) -> list[SearchOutcome]:
    """Answers search requests through the query Flow over ``workspace``, in the order given.

    Raises ServiceError where the Flow fails as a whole or loses a process.
    """
    from crossmodal.engine import SearchService

    async def answer() -> list[SearchOutcome]:
        client = FlowClient(service.port, service.topology)

        async def send(
            docs: list[MediaDocument], endpoint: str, parameters: dict[str, Any]
        ) -> dict[str, MediaDocument]:
            return {str(doc.id): doc for doc in await client.post(endpoint, docs, parameters)}

        searching = SearchService(
            send, workspace, model=settings.model or DEFAULT_MODEL, model_cache=settings.model_cache
        )
        outcomes, _ = await searching.search(requests)
        return outcomes

    answered: list[SearchOutcome] = asyncio.run(_watched(service, answer()))
    return answered


async def _watched(service: FlowService, work: Any) -> Any:
    """The result of ``work``, or ServiceError as soon as a process of the Flow has died."""
    working = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait({working}, timeout=_WATCH_SECONDS)
            service.check()
            if done:
                return working.result()
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    finally:
        working.cancel()
