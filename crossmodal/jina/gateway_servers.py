"""The two servers of a gateway: HTTP, and beside it gRPC as jina's own clients speak it."""

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from docarray import DocList
from jina.proto import jina_pb2
from jina.serve.runtimes.gateway.http.fastapi import FastAPIBaseGateway
from jina.serve.runtimes.gateway.request_handling import GatewayRequestHandler
from jina.serve.runtimes.servers.grpc import GRPCServer
from jina.types.request.data import DataRequest

from crossmodal.documents import MediaDocument
from crossmodal.errors import CrossmodalError, RequestError
from crossmodal.records import IMAGE, TEXT

__all__ = ["GatewayServers"]

# The endpoints that are open to everybody who can connect.
_ENDPOINTS = ("/search", "/encode")

# As much as one HTTP request may hold; jina sets no limit.
_MAX_MESSAGE_BYTES = 64 << 20
_MAX_DOCUMENTS = 1024

# What a query may bring; whatever else is on a document was answered earlier, or belongs to indexing.
_QUERY_FIELDS = ("text", "blob", "embedding", "wanted")


class GatewayServers(FastAPIBaseGateway):
    """A gateway that serves gRPC on ``grpc_port`` (0: not at all) beside HTTP, on the same address.

    Both go through ``_stream``, so that a query over gRPC is bounded and complete like one over HTTP.
    """

    def __init__(self, grpc_port: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._grpc_port = grpc_port
        self._grpc: GRPCServer | None = None

    @abstractmethod
    async def _stream(
        self, docs: list[MediaDocument], endpoint: str, parameters: dict[str, Any]
    ) -> dict[str, MediaDocument]:
        """Sends documents through the Flow; the answers by id. Raises ServiceError where it fails."""

    async def setup_server(self) -> None:
        """Starts to listen."""
        await super().setup_server()
        if self._grpc_port:
            self._grpc = GRPCServer(
                name=self.name,
                runtime_args={**vars(self.runtime_args), "port": self._grpc_port, "protocol": "grpc"},
                req_handler=_RpcRequests(self, self._request_handler),
                grpc_server_options={
                    "grpc.so_reuseport": 0,
                    "grpc.max_receive_message_length": _MAX_MESSAGE_BYTES,
                },
            )
            await self._grpc.setup_server()

    async def shutdown(self) -> None:
        """Stops both servers; requests under way are finished."""
        if self._grpc is not None:
            await self._grpc.shutdown()
        await super().shutdown()


class _RpcRequests:
    """Answers the calls of jina's gRPC services; ``GRPCServer`` finds them by their names."""

    def __init__(self, gateway: GatewayServers, handler: GatewayRequestHandler) -> None:
        self._gateway = gateway
        self._handler = handler

    async def process_single_data(self, request: DataRequest, context: Any = None) -> DataRequest:
        """One request, one answer; an error of the request as a whole is in the status of the answer."""
        answer = DataRequest()
        answer.header.request_id = request.header.request_id
        answer.header.exec_endpoint = request.header.exec_endpoint
        answer.document_array_cls = DocList[MediaDocument]
        try:
            answer.data.docs = await self._answer(
                request.header.exec_endpoint, _documents(request), request.parameters or {}
            )
            answer.status.code = jina_pb2.StatusProto.SUCCESS
        except CrossmodalError as error:
            answer.data.docs = DocList[MediaDocument]()
            answer.status.code = jina_pb2.StatusProto.ERROR
            answer.status.description = str(error)
        return answer

    async def stream(self, request_iterator: Any, context: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
        """A stream of requests, each answered before the next one is read."""
        async for request in request_iterator:
            yield await self.process_single_data(request, context)

    # The name that the generated code looks for.
    Call = stream

    async def endpoint_discovery(self, empty: Any, context: Any) -> Any:
        """Which endpoints there are."""
        return jina_pb2.EndpointsProto(endpoints=_ENDPOINTS)

    async def dry_run(self, empty: Any, context: Any) -> Any:
        """Whether the Flow answers."""
        return await self._handler.dry_run(empty, context)

    async def _status(self, empty: Any, context: Any) -> Any:
        # jina would tell versions, addresses and folders of this machine.
        return jina_pb2.JinaInfoProto()

    async def close(self) -> None:
        """Nothing to close: the Flow's connections are those of the HTTP server."""

    async def _answer(
        self, endpoint: str, docs: list[MediaDocument], parameters: Mapping[str, Any]
    ) -> DocList[MediaDocument]:
        if endpoint not in _ENDPOINTS:
            raise RequestError(
                f"{endpoint} is not answered over gRPC; {' and '.join(_ENDPOINTS)} are. "
                "Documents are added and deleted over HTTP, at /v1/documents.",
                status=404,
            )
        if len(docs) > _MAX_DOCUMENTS:
            raise RequestError(
                f"The request has {len(docs)} documents; at most {_MAX_DOCUMENTS} go in one. "
                "Choose a smaller request_size.",
                status=413,
            )
        queries = {str(number): _query(doc, str(number)) for number, doc in enumerate(docs)}
        sent = [query for query in queries.values() if query.error is None]
        answered = await self._gateway._stream(sent, endpoint, dict(parameters)) if sent else {}
        return DocList[MediaDocument](
            [
                _shown(answered.get(key, query), doc)
                for (key, query), doc in zip(queries.items(), docs, strict=True)
            ]
        )


def _documents(request: DataRequest) -> list[MediaDocument]:
    request.document_array_cls = DocList[MediaDocument]
    try:
        return list(request.docs)
    except Exception as error:
        # Whatever docarray makes of bytes from outside.
        raise RequestError(
            f"The documents are not MediaDocuments with text, blob or embedding ({type(error).__name__})."
        ) from error


def _query(doc: MediaDocument, id: str) -> MediaDocument:
    """What the Flow gets of ``doc``: under an id of its own, as clients may repeat theirs."""
    query = MediaDocument(id=id, **{name: getattr(doc, name) for name in _QUERY_FIELDS})
    query.modality = doc.modality or (IMAGE if doc.blob else TEXT if doc.text else None)
    if query.modality not in (IMAGE, TEXT):
        query.error = (
            f"The modality is {doc.modality!r}; it must be 'text' or 'image', and a document with neither "
            "text nor blob must say it."
        )
    return query


def _shown(answer: MediaDocument, sent: MediaDocument) -> MediaDocument:
    """``answer`` under its client's own id, without what is only of interest, or of use, on this machine."""
    answer.id = sent.id
    answer.blob = None
    answer.trail = None  # type: ignore[assignment]
    for match in answer.matches or ():
        if match.uri:
            match.tags = {"file": Path(match.uri).name, **(match.tags or {})}
            match.uri = None
    return answer
