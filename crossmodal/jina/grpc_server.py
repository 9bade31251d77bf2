"""Searches over gRPC as jina's own clients speak it: ``python -m crossmodal.jina.grpc_server SETTINGS``.

A process beside the HTTP server with an engine of its own over the same index. It answers /search and
/encode, and ends with its parent. From jina it takes only the protocol: its messages and services.
"""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import PurePath
from typing import Any

import grpc  # type: ignore[import-untyped]
from docarray import DocList
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from jina.proto import jina_pb2, jina_pb2_grpc
from jina.types.request.data import DataRequest

from crossmodal import limits
from crossmodal.deadlines import Deadline, until
from crossmodal.documents import Document, other_modality
from crossmodal.engine.engine import Engine
from crossmodal.errors import (
    CrossmodalError,
    DataError,
    DeadlinePassed,
    FlowFailure,
    Overloaded,
    RequestError,
    ServiceError,
)
from crossmodal.hosts import in_url
from crossmodal.jina.child import CLOSE_SECONDS, Parent
from crossmodal.jina.documents import MatchDocument, MediaDocument, write_message
from crossmodal.jina.launch import settings_from_json
from crossmodal.places import Places
from crossmodal.records import IMAGE, TEXT, checked_modality, json_size
from crossmodal.steps.step import Operation

_logger = logging.getLogger(__name__)

# What is open to everyone who can connect.
_OPERATIONS: Mapping[str, Operation] = {"/search": "search", "/encode": "encode"}

_OPTIONS = [
    # gRPC lets several servers share a port otherwise.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", limits.BODY.most),
    ("grpc.max_send_message_length", -1),
    # Connections that say nothing, or belong to nobody any more.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_concurrent_streams", 64),
]


# Calls whose message is in memory at a time; what is beyond is refused before it is read.
_CALLS = 64

# Requests that are worked on or wait for that.
_PLACES = 32

# Queries that are searched for together, so that their answers can be cut in between.
_TOGETHER = 16


class _Services:
    """jina's gRPC services; the generated code finds the methods by their names.

    ``seconds`` is the longest that a request may take.
    """

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self._places = Places("requests", _PLACES)

    async def process_single_data(self, request: DataRequest, context: Any = None) -> DataRequest:
        """One request, one answer; an error of the request as a whole is in the status of the answer."""
        answer = DataRequest()
        answer.header.request_id = request.header.request_id
        answer.header.exec_endpoint = request.header.exec_endpoint
        answer.document_array_cls = DocList[MediaDocument]
        try:
            answer.data.docs = await self._in_time(request, context)
            answer.status.code = jina_pb2.StatusProto.SUCCESS
        except (Overloaded, DeadlinePassed) as error:
            if context is None:
                raise
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            if isinstance(error, Overloaded):
                code = grpc.StatusCode.RESOURCE_EXHAUSTED
            await context.abort(code, str(error), (("retry-after", "1"),))
        except CrossmodalError as error:
            answer.data.docs = DocList[MediaDocument]()
            answer.status.code = jina_pb2.StatusProto.ERROR
            answer.status.description = str(error)
        return answer

    async def _in_time(self, request: DataRequest, context: Any) -> DocList[MediaDocument]:
        """The documents that answer ``request``; given up at the deadline or when the client hangs up."""
        left = None if context is None else context.time_remaining()
        deadline = Deadline(self._seconds if left is None else min(left, self._seconds))
        with self._places.take(), until(deadline):
            try:
                async with asyncio.timeout(deadline.seconds):
                    return await asyncio.to_thread(self._answer, request)
            except TimeoutError:
                raise DeadlinePassed(
                    f"There was no answer within {deadline.seconds:g} seconds, and the work was given up; "
                    "--request-timeout of the server is the limit."
                ) from None
            finally:
                deadline.give_up()

    async def Call(self, requests: Any, context: Any = None) -> AsyncIterator[DataRequest]:
        """A stream of requests, each answered before the next one is read."""
        async for request in requests:
            yield await self.process_single_data(request, context)

    async def endpoint_discovery(self, empty: Any, context: Any) -> Any:
        """Which endpoints there are."""
        return jina_pb2.EndpointsProto(endpoints=list(_OPERATIONS))

    async def dry_run(self, empty: Any, context: Any) -> Any:
        """That searches are answered: this process does it by itself."""
        return jina_pb2.StatusProto(code=jina_pb2.StatusProto.SUCCESS)

    async def _status(self, empty: Any, context: Any) -> Any:
        # jina would answer versions, addresses and folders of this machine.
        return jina_pb2.JinaInfoProto()

    def _answer(self, request: DataRequest) -> DocList[MediaDocument]:
        endpoint = request.header.exec_endpoint
        operation = _OPERATIONS.get(endpoint)
        if operation is None:
            raise RequestError(
                f"{endpoint} is not answered over gRPC; {' and '.join(_OPERATIONS)} are. "
                "Documents are added and deleted over HTTP, at /v1/documents.",
                status=404,
            )
        messages = _messages(request)
        # Under ids of its own, as clients may repeat theirs.
        queries = [_query(message, str(number)) for number, message in enumerate(messages)]
        sent = [query for query in queries if query.error is None]
        try:
            answered = self._run(operation, sent, request.parameters or {})
        except CrossmodalError:
            raise
        except Exception as error:
            _logger.exception("A request to %s failed.", endpoint)
            raise FlowFailure(
                f"The Flow failed on this request ({type(error).__name__}); the server's output says why."
            ) from error
        by_id = {doc.id: doc for doc in answered}
        return DocList[MediaDocument](
            [
                _shown(by_id.get(query.id, query), str(message.id), operation)
                for query, message in zip(queries, messages, strict=True)
            ]
        )

    def _run(
        self, operation: Operation, sent: list[Document], parameters: Mapping[str, Any]
    ) -> list[Document]:
        answered: list[Document] = []
        left = limits.ANSWER_TOGETHER.most
        size = _TOGETHER if operation == "search" else limits.MESSAGES.most
        for start in range(0, len(sent), size):
            found = self._engine.run_query(operation, sent[start : start + size], parameters)
            for doc in found:
                left = _cut(doc, left)
            answered += found
        return answered


def _cut(doc: Document, left: int) -> int:
    """Leaves out matches beyond ``left`` bytes of texts and tags and says so; what is left of the bytes."""
    for rank, match in enumerate(doc.matches or ()):
        left -= len(match.text or "") + (json_size(match.tags) if match.tags else 0)
        if rank and left < 0:
            number = len(doc.matches or ())
            del (doc.matches or [])[rank:]
            doc.error = (
                f"{number - rank:,} of {number:,} matches are left out: one answer has at most "
                f"{limits.ANSWER_TOGETHER.most >> 20} MiB of texts and tags. Ask for fewer with top_k, or "
                "ask fewer queries at once."
            )
            break
    return max(left, 0)


def _messages(request: DataRequest) -> list[MediaDocument]:
    request.document_array_cls = DocList[MediaDocument]
    try:
        messages = list(request.docs)
    except Exception as error:
        # Whatever docarray makes of bytes from outside.
        raise RequestError(
            f"The documents are not MediaDocuments with text, blob or embedding ({type(error).__name__})."
        ) from error
    if len(messages) > limits.MESSAGES.most:
        raise RequestError(limits.MESSAGES.exceeded("The request", len(messages)), status=413)
    return messages


def _query(message: MediaDocument, id: str) -> Document:
    """What the Flow gets of ``message``: whatever else is on it was answered earlier, or is for indexing."""
    query = Document(
        id, text=message.text, content=message.blob, embedding=message.embedding, wanted=message.wanted
    )
    try:
        query.modality = checked_modality(
            message.modality or (IMAGE if message.blob else TEXT if message.text else None),
            "The document",
        )
        query.seeks = other_modality(query.modality)
    except DataError:
        query.error = (
            f"The modality is {limits.quoted(str(message.modality))}; it must be 'text' or 'image', and "
            "a document with neither text nor blob must say it."
        )
    return query.checked()


def _shown(answer: Document, id: str, operation: Operation) -> MediaDocument:
    """``answer`` under its client's own id, without what is only of interest, or of use, on this machine."""
    shown = write_message(
        Document(
            id,
            answer.modality,
            text=answer.text,
            embedding=answer.embedding if operation == "encode" else None,
            error=answer.error,
            matches=answer.matches,
        )
    )
    for match in shown.matches or ():
        _hide_paths(match)
    return shown


def _hide_paths(match: MatchDocument) -> None:
    if match.uri:
        match.tags = {"file": PurePath(match.uri).name, **(match.tags or {})}
        match.uri = None


async def _serve(engine: Engine, address: str, ending: asyncio.Event, parent: Parent) -> None:
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_CALLS)
    services = _Services(engine, engine.settings.request_timeout)
    jina_pb2_grpc.add_JinaRPCServicer_to_server(services, server)
    jina_pb2_grpc.add_JinaSingleDataRequestRPCServicer_to_server(services, server)
    jina_pb2_grpc.add_JinaDiscoverEndpointsRPCServicer_to_server(services, server)
    jina_pb2_grpc.add_JinaGatewayDryRunRPCServicer_to_server(services, server)
    jina_pb2_grpc.add_JinaInfoRPCServicer_to_server(services, server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise ServiceError(
            f"{address} cannot be listened on; end what uses it, or choose another port with --grpc-port."
        )
    await server.start()
    parent.say_ready()
    await ending.wait()
    await server.stop(grace=CLOSE_SECONDS - 1)


def _main() -> None:
    settings = settings_from_json(sys.argv[1])
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()
    started = threading.Event()

    def end() -> None:
        if not started.is_set():
            os._exit(1)
        loop.call_soon_threadsafe(ending.set)
        # Requests under way may take longer than that, and a parent that was killed cannot end this process.
        threading.Event().wait(CLOSE_SECONDS)
        os._exit(1)

    parent = Parent(end)
    with Engine(settings) as engine:
        try:
            engine.prepare()
            started.set()
            loop.run_until_complete(
                _serve(engine, f"{in_url(settings.host)}:{settings.grpc_port}", ending, parent)
            )
        except CrossmodalError as error:
            parent.say_failed(str(error))
            sys.exit(1)


if __name__ == "__main__":
    _main()
