"""Searches over gRPC as jina's own clients speak it: /search and /encode, and for clip-as-service's /rank.

From jina it takes only the protocol: its messages and services.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import grpc  # type: ignore[import-untyped]
from docarray import DocList
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from jina.proto import jina_pb2, jina_pb2_grpc
from jina.types.request.data import DataRequest

from crossmodal import limits
from crossmodal.access.own_paths import OwnPaths
from crossmodal.access.policy import Access, Caller, is_reachable, require
from crossmodal.access.shared_table import SharedTable
from crossmodal.access.throttle import Throttle, TooMany, counted_address
from crossmodal.documents import Document, other_modality
from crossmodal.engine.engine import Engine
from crossmodal.errors import (
    CrossmodalError,
    DataError,
    DeadlinePassed,
    Overloaded,
    RequestError,
    ServiceError,
    SettingsError,
)
from crossmodal.filters.places import asks_for_places
from crossmodal.hosts import in_url, listen
from crossmodal.http_shapes.legacy.encoding import encoding_of
from crossmodal.jina.bounded_work import BoundedWork
from crossmodal.jina.call_log import CallLog, SeenRequest
from crossmodal.jina.checks import FROM_CLIENTS, check_message
from crossmodal.jina.documents import MatchDocument, MediaDocument, write_message
from crossmodal.jina.interceptors import Call, PeerCheck, Refusal, address_of
from crossmodal.jina.legacy_answers import encoded, found
from crossmodal.jina.legacy_documents import is_legacy, query_message, read_legacy
from crossmodal.jina.wire import has_more_fields
from crossmodal.metadata.locations import without_private
from crossmodal.records import IMAGE, TEXT, checked_modality, json_size
from crossmodal.request_ids import REQUEST_IDS
from crossmodal.settings import Settings
from crossmodal.steps.step import Operation, filter_of

__all__ = ["make_server"]

_logger = logging.getLogger(__name__)

# The status of a refused call for that of HTTP, and the reason in the log.
_REFUSED_WITH = {
    401: (grpc.StatusCode.UNAUTHENTICATED, "key"),
    403: (grpc.StatusCode.PERMISSION_DENIED, "forbidden"),
    429: (grpc.StatusCode.RESOURCE_EXHAUSTED, "rate"),
}

# Addresses and keys whose calls are counted at the same time.
_MAX_COUNTED = 4096

# What is open to everyone who can connect.
_OPERATIONS: Mapping[str, Operation] = {"/search": "search", "/encode": "encode"}

# A photo as large as HTTP takes it, and its fields beside it; jina sets no limit.
_MAX_MESSAGE_BYTES = limits.PHOTO.most + (1 << 20)
_MAX_ANSWER_BYTES = 64 << 20

# Queries that are searched for together, so that their answers can be cut in between.
_TOGETHER = 16

# The most documents with all their fields have some tens of thousands.
_MAX_FIELDS = 100_000

# Calls at the same time, whose messages are held in memory; more are refused before they are read.
_MAX_CALLS = 64

# A stream that sends nothing ends after so long.
_IDLE_SECONDS = 60.0

_OPTIONS = [
    # gRPC lets several servers share a port otherwise.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_ANSWER_BYTES),
    ("grpc.max_concurrent_streams", _MAX_CALLS),
    # Connections that never say what they want, say nothing more, or whose other end is gone.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # jina's clients ask every ten seconds whether the server is there, also without a call.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # Clients connect again by themselves, so that a key that was revoked isn't in use for ever.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 120_000),
]


@dataclass(frozen=True, slots=True)
class _Answered:
    """The documents of an answer, or ``packed`` for an old docarray; ``error`` is that of the whole."""

    docs: DocList[MediaDocument] | None = None
    packed: bytes = b""
    error: str | None = None


class _Services:
    """jina's gRPC services; the generated code finds the methods by their names."""

    def __init__(
        self,
        engine: Engine,
        work: BoundedWork,
        paths: OwnPaths,
        log: CallLog,
        *,
        hide_locations: bool = False,
    ) -> None:
        self._engine = engine
        self._work = work
        self._paths = paths
        self._log = log
        self._hide_locations = hide_locations

    async def process_single_data(self, request: DataRequest, context: Any) -> DataRequest:
        """One request, one answer; an error of the request as a whole is in the status of the answer."""
        with self._log.request() as seen:
            return await self._process(request, context, seen)

    async def _process(self, request: DataRequest, context: Any, seen: SeenRequest) -> DataRequest:
        answer = DataRequest()
        answer.document_array_cls = DocList[MediaDocument]
        try:
            answered = await self._work.do(lambda: self._answer(request, answer, seen), context)
            codes = jina_pb2.StatusProto
            seen.status = "OK" if answered.error is None else "ERROR"
            # Clients raise where the status says so, and look at no document for its error.
            answer.status.code = codes.SUCCESS if answered.error is None else codes.ERROR
            answer.status.description = answered.error or ""
            if answered.docs is not None:
                answer.data.docs = answered.docs
            else:
                # Two messages of protobuf, one after the other, are one with the fields of both.
                answer = DataRequest(answer.proto.SerializeToString() + answered.packed)
        except (Overloaded, DeadlinePassed) as error:
            late = isinstance(error, DeadlinePassed)
            code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.RESOURCE_EXHAUSTED
            seen.status, seen.refusal = code.name, "deadline" if late else "busy"
            await context.abort(code, str(error), (("retry-after", "1"), ("x-request-id", seen.id)))
        except CrossmodalError as error:
            seen.status = "ERROR"
            self._fail(answer, str(error))
        except Exception as error:
            seen.status = "ERROR"
            # The line is about the request by the id that its message may have brought.
            REQUEST_IDS.set((seen.id,))
            # gRPC would send its words.
            _logger.exception("A request to %s failed.", answer.header.exec_endpoint)
            self._fail(
                answer,
                f"The Flow failed on this request ({type(error).__name__}); the server's output says why.",
            )
        context.set_trailing_metadata((("x-request-id", seen.id),))
        return answer

    def _fail(self, answer: DataRequest, why: str) -> None:
        answer.data.docs = DocList[MediaDocument]()
        answer.status.code = jina_pb2.StatusProto.ERROR
        answer.status.description = self._paths.hide(why)

    async def Call(self, requests: Any, context: Any) -> AsyncIterator[DataRequest]:
        """A stream of requests, each answered before the next one is read."""
        coming = aiter(requests)
        while True:
            try:
                async with asyncio.timeout(_IDLE_SECONDS):
                    request = await anext(coming)
            except StopAsyncIteration:
                return
            except TimeoutError:
                await context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"The stream sent no request within {_IDLE_SECONDS:.0f} seconds.",
                )
            yield await self.process_single_data(request, context)

    async def endpoint_discovery(self, empty: Any, context: Any) -> Any:
        """Which endpoints there are."""
        return jina_pb2.EndpointsProto(endpoints=[*_OPERATIONS, "/rank"])

    async def dry_run(self, empty: Any, context: Any) -> Any:
        """That searches are answered: this process does it by itself."""
        return jina_pb2.StatusProto(code=jina_pb2.StatusProto.SUCCESS)

    async def _status(self, empty: Any, context: Any) -> Any:
        # jina would answer versions, addresses and folders of this machine.
        return jina_pb2.JinaInfoProto()

    def _answer(self, request: DataRequest, answer: DataRequest, seen: SeenRequest) -> _Answered:
        raw, legacy = request.buffer or b"", None
        if is_legacy(raw, _MAX_FIELDS):
            legacy = read_legacy(raw, _MAX_FIELDS)
            request = _without_documents(raw)
        else:
            _check_size(request)
        seen.begin(request.header.request_id)
        answer.header.request_id = request.header.request_id
        endpoint = answer.header.exec_endpoint = request.header.exec_endpoint
        if legacy is not None and (encoding := encoding_of(endpoint)) is not None:
            seen.endpoint, seen.queries = f"/{encoding.name}", len(legacy)
            return _Answered(packed=encoded(self._engine, encoding, legacy))
        operation = _OPERATIONS.get(endpoint)
        if operation is None:
            raise RequestError(
                f"{endpoint} is not answered over gRPC; {' and '.join(_OPERATIONS)} are. "
                "Documents are added and deleted over HTTP, at /v1/documents.",
                status=404,
            )
        seen.endpoint = endpoint
        messages = _messages(request) if legacy is None else [query_message(one) for one in legacy]
        parameters = request.parameters or {}
        if legacy is not None and "limit" in parameters:
            # What clip-as-service's client calls it.
            parameters = {"top_k": parameters["limit"], **parameters}
        if len(messages) > limits.MESSAGES.most:
            raise RequestError(limits.MESSAGES.exceeded("The request", len(messages)), status=413)
        seen.queries = len(messages)
        docs = self._answer_messages(operation, messages, parameters)
        error = _overall_error(docs)
        return _Answered(docs, error=error) if legacy is None else _Answered(packed=found(docs), error=error)

    def _answer_messages(
        self, operation: Operation, messages: Sequence[MediaDocument], parameters: Mapping[str, Any]
    ) -> DocList[MediaDocument]:
        # Under ids of its own, as clients may repeat theirs.
        if self._hide_locations:
            _refuse_locations(parameters)
        queries = [_query(message, str(number)) for number, message in enumerate(messages)]
        sent = [query for query in queries if query.error is None]
        answered = self._run(operation, sent, parameters)
        for doc in answered:
            doc.error = doc.error and self._paths.hide(doc.error)
        by_id = {doc.id: doc for doc in answered}
        return DocList[MediaDocument](
            [
                # An id that no document can have would be sent back as well, however long it is.
                _shown(by_id.get(query.id, query), str(message.id)[: limits.STORED_ID.most], operation)
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
                for match in doc.matches or () if self._hide_locations else ():
                    match.tags = without_private(match.tags)
                left = _cut(doc, left)
            answered += found
        return answered


def _overall_error(docs: Sequence[MediaDocument]) -> str | None:
    """What a request reports as a whole: nothing as long as one of its documents was answered."""
    failed = [doc.error for doc in docs if doc.error and not doc.matches]
    if not failed or len(failed) < len(docs):
        return None
    return failed[0] + (f" ({len(failed) - 1} more failed as well.)" if len(failed) > 1 else "")


def _refuse_locations(parameters: Mapping[str, Any]) -> None:
    wanted = filter_of(parameters)
    if wanted is not None and asks_for_places(wanted):
        raise RequestError(
            "The filter asks where photos were taken, which gRPC tells nobody on other machines; `crossmodal "
            "serve --show-locations` opens it.",
            status=403,
        )


def _cut(doc: Document, left: int) -> int:
    """Leaves out matches beyond ``left`` bytes of texts and tags; returns what is left of them."""
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


def _check_size(request: DataRequest) -> None:
    """Raises RequestError before anything of a message is unpacked that would take long, or much memory."""
    packed = request.buffer
    if packed is not None and has_more_fields(packed, jina_pb2.DataRequestProto.DESCRIPTOR, _MAX_FIELDS):
        raise RequestError(
            f"The request has more than {_MAX_FIELDS:,} fields, counted over all its documents and tags. "
            "Choose a smaller request_size.",
            status=413,
        )


def _without_documents(raw: bytes) -> DataRequest:
    head = jina_pb2.DataRequestProtoWoData.FromString(raw)
    head.DiscardUnknownFields()
    return DataRequest(head.SerializeToString())


def _messages(request: DataRequest) -> list[MediaDocument]:
    request.document_array_cls = DocList[MediaDocument]
    try:
        return list(request.docs)
    except Exception as error:
        # Whatever docarray makes of bytes from outside.
        raise RequestError(
            f"The documents are not MediaDocuments with text, blob or embedding ({type(error).__name__})."
        ) from error


def _query(message: MediaDocument, id: str) -> Document:
    """What the Flow gets of ``message``: whatever else is on it was answered earlier, or is for indexing."""
    query = Document(
        id, text=message.text, content=message.blob, embedding=message.embedding, wanted=message.wanted
    )
    try:
        check_message(message, FROM_CLIENTS)
    except DataError as error:
        # Without what is wrong with it, which would be sent back.
        return Document(id, error=str(error))
    try:
        query.modality = checked_modality(
            message.modality or (IMAGE if message.blob else TEXT if message.text else None),
            "The document",
        )
        query.seeks = other_modality(query.modality)
        query.corrected = True
    except DataError:
        query.error = (
            f"The modality is {message.modality!r}; it must be 'text' or 'image', and a document with "
            "neither text nor blob must say it."
        )
    return query


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


async def make_server(engine: Engine, settings: Settings) -> Any:
    """A server of gRPC over ``engine`` that is not started yet, and listens where ``settings`` say.

    Whoever calls it needs what HTTP needs: a key where there are keys. Raises ServiceError where the port
    cannot be listened on, SettingsError for a certificate that cannot be used.
    """
    access = Access(settings, engine.workspace.state)
    log = CallLog()
    server = grpc.aio.server(
        interceptors=[PeerCheck(_Entry(access, settings, log).why_not)],
        options=_OPTIONS,
        maximum_concurrent_rpcs=_MAX_CALLS,
    )
    services = _Services(
        engine,
        BoundedWork(settings.request_timeout),
        OwnPaths(settings),
        log,
        hide_locations=is_reachable(settings) and not settings.show_locations,
    )
    jina_pb2_grpc.add_JinaRPCServicer_to_server(services, server)
    jina_pb2_grpc.add_JinaSingleDataRequestRPCServicer_to_server(services, server)
    jina_pb2_grpc.add_JinaDiscoverEndpointsRPCServicer_to_server(services, server)
    jina_pb2_grpc.add_JinaGatewayDryRunRPCServicer_to_server(services, server)
    jina_pb2_grpc.add_JinaInfoRPCServicer_to_server(services, server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    address = f"{in_url(settings.host)}:{settings.grpc_port}"
    credentials = _credentials(settings)
    try:
        bound = (
            server.add_insecure_port(address)
            if credentials is None
            else server.add_secure_port(address, credentials)
        )
    except RuntimeError:
        bound = 0
    if not bound:
        # gRPC doesn't say why; the kernel says it of a socket of our own.
        listen(settings.host, settings.grpc_port or 0, option="--grpc-port").close()
        raise ServiceError(
            f"{address} cannot be listened on; end what uses it, or choose another port with --grpc-port."
        )
    return server


class _Entry:
    """Who may call, and how often: the rules of HTTP, counted in this process."""

    def __init__(self, access: Access, settings: Settings, log: CallLog) -> None:
        self._access = access
        self._log = log
        self._throttle = Throttle(settings, access, SharedTable(_MAX_COUNTED))

    def why_not(self, call: Call) -> Refusal | None:
        """Why the call is refused; None where it may read. A refused one has a line in the log."""
        method, metadata, peer = call
        seen = self._log.begin_call(method, metadata, address_of(peer))
        try:
            seen.key = self._check(counted_address(seen.address), metadata).name
        except RequestError as error:
            code, reason = _REFUSED_WITH[error.status]
            wait = (("retry-after", str(error.seconds)),) if isinstance(error, TooMany) else ()
            refusal: Refusal = (code, str(error), wait)
        except CrossmodalError as error:
            # Its sentence names files, and this is somebody without a key.
            _logger.error("Nobody is let in over gRPC: %s", error)
            reason = "unreadable"
            said = "The server cannot read its keys or its index, so nobody is let in; its log says why."
            refusal = (grpc.StatusCode.UNAVAILABLE, said, ())
        else:
            return None
        self._log.refuse(seen, reason, refusal[0].name)
        return refusal

    def _check(self, address: str, metadata: Mapping[str, str | bytes]) -> Caller:
        kind, _, secret = str(metadata.get("authorization", "")).partition(" ")
        # Before it is known who asks: those who are refused count as well.
        self._throttle.count("address", address)
        if self._access.without_key() is None and kind.lower() == "bearer":
            caller = self._throttle.identify(address, secret.strip())
        else:
            caller = self._access.identify(None)
        if caller.sha256 is not None:
            self._throttle.count("key", caller.sha256)
        require(caller, "read")
        return caller


def _credentials(settings: Settings) -> Any:
    """What TLS needs, None where the settings name no certificate."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        return grpc.ssl_server_credentials([(settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())])
    except OSError as error:
        raise SettingsError(
            f"The certificate {settings.tls_cert} or its key cannot be read ({error.strerror or error})."
        ) from None
