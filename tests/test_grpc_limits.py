"""What a call over gRPC may bring and how long it may take; the engine is a stub that can be held up."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
from conftest import free_port
from needs_jina import skip_module_without_jina

skip_module_without_jina()

import grpc  # type: ignore[import-untyped]  # noqa: E402
from docarray import DocList  # noqa: E402
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # noqa: E402
from jina import Client  # noqa: E402
from jina.excepts import BadServer  # noqa: E402
from jina.proto import jina_pb2, jina_pb2_grpc  # noqa: E402
from jina.types.request.data import DataRequest  # noqa: E402

from crossmodal import limits  # noqa: E402
from crossmodal.access.keys import KeyFile  # noqa: E402
from crossmodal.documents import Document  # noqa: E402
from crossmodal.errors import ServiceError, StoreError  # noqa: E402
from crossmodal.jina.bounded_work import MAX_REQUESTS  # noqa: E402
from crossmodal.jina.documents import MediaDocument  # noqa: E402
from crossmodal.jina.grpc_server import make_server  # noqa: E402
from crossmodal.jina.legacy_documents import read_legacy  # noqa: E402
from crossmodal.log import REQUEST_LOGGER  # noqa: E402
from crossmodal.models.runtimes.forms import available_cores  # noqa: E402
from crossmodal.settings import Settings  # noqa: E402


class StubEngine:
    """Answers every query with itself, once ``held`` is not; counts those that it has begun."""

    def __init__(self) -> None:
        self.workspace = SimpleNamespace(state=lambda: None)
        self.begun: list[str | None] = []
        self.go = threading.Event()
        self.go.set()
        self.failure: Exception | None = None
        self.model = "stub"

    def encode(self, *, texts: list[str], photos: list[bytes]) -> Any:
        """A vector for each."""
        return np.eye(len(texts) + len(photos), 8, dtype=np.float32)

    def run_query(self, operation: str, docs: list[Document], parameters: Any) -> list[Document]:
        self.begun += [doc.text for doc in docs]
        assert self.go.wait(60)
        if self.failure is not None:
            raise self.failure
        return docs


class Served:
    """The server over a stub, in a thread."""

    def __init__(self, settings: Settings) -> None:
        self.engine = StubEngine()
        self.target = f"{settings.host}:{settings.grpc_port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._in_loop(make_server(self.engine, settings))  # type: ignore[arg-type]
        self._in_loop(self._server.start())

    def _in_loop(self, doing: Any) -> Any:
        async def do() -> Any:
            return await doing

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(30)

    def close(self) -> None:
        self.engine.go.set()
        self._in_loop(self._server.stop(5))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(Settings(workspace=tmp_path_factory.mktemp("grpc"), grpc_port=free_port()))
    yield served
    served.close()


@pytest.fixture
def channel(served: Served) -> Iterator[Any]:
    with grpc.insecure_channel(served.target, options=[("grpc.max_send_message_length", -1)]) as channel:
        yield channel


def request(*messages: Any, endpoint: str = "/search") -> DataRequest:
    made = DataRequest()
    made.document_array_cls = DocList[MediaDocument]
    made.header.exec_endpoint = endpoint
    made.data.docs = DocList[MediaDocument](messages)
    return made


def ask(channel: Any, made: DataRequest, **options: Any) -> list[Any]:
    answer = jina_pb2_grpc.JinaSingleDataRequestRPCStub(channel).process_single_data(
        made, **{"timeout": 30, **options}
    )
    answer.document_array_cls = DocList[MediaDocument]
    if answer.header.status.code == jina_pb2.StatusProto.ERROR:
        raise ValueError(answer.header.status.description)
    return list(answer.docs)


def refused(code: Any, channel: Any, made: DataRequest, **options: Any) -> str:
    with pytest.raises(grpc.RpcError) as raised:
        ask(channel, made, **options)
    assert raised.value.code() == code
    return str(raised.value.details())


def test_a_sentence_of_sixty_million_characters_is_refused_and_nobody_waits(
    served: Served, channel: Any
) -> None:
    started = time.monotonic()
    # The message may hold the largest photo, so this meets the limit of the text, before any work.
    (answer, other) = ask(
        channel, request(MediaDocument(text="dog " * 15_000_000), MediaDocument(text="a cat"))
    )
    assert "has 60,000,000 characters; the limit is 2,000" in str(answer.error)
    assert other.error is None
    assert time.monotonic() < started + 20
    assert "a cat" in served.engine.begun
    assert max(len(text or "") for text in served.engine.begun) <= 2000
    longer = request(MediaDocument(text="dog " * 20_000_000))
    said = refused(grpc.StatusCode.RESOURCE_EXHAUSTED, channel, longer)
    assert str(limits.PHOTO.most + (1 << 20)) in said


@pytest.mark.parametrize(
    ("brought", "said"),
    [
        ({"blob": "letters"}, "The field blob of the document"),
        ({"embedding": np.array([np.nan]), "modality": "text"}, "has what is not a finite number"),
        ({"text": "a", "mime_type": "text/html"}, "is 'text/html'"),
        ({"text": "a", "wanted": ["a"] * 1001}, "has 1,001 entries; the limit is 1,000"),
    ],
)
def test_a_field_that_no_document_has_fails_that_document(
    channel: Any, brought: dict[str, Any], said: str
) -> None:
    refused, other = ask(channel, request(MediaDocument(**brought), MediaDocument(text="fine")))
    assert said in str(refused.error)
    assert other.error is None


def test_a_request_of_which_nothing_could_be_answered_is_an_error(served: Served, channel: Any) -> None:
    bad = [MediaDocument(text="a", mime_type="text/html"), MediaDocument(modality="sound")]
    with pytest.raises(ValueError, match=r"is 'text/html'.* \(1 more failed as well\.\)"):
        ask(channel, request(*bad))
    with pytest.raises(ValueError, match="The modality is None"):
        ask(channel, request(MediaDocument()))
    docs = ask(channel, request(*bad, MediaDocument(text="a")))
    assert [bool(doc.error) for doc in docs] == [True, True, False]
    client = Client(port=int(served.target.rpartition(":")[2]))
    with pytest.raises(BadServer, match="The modality is None"):
        client.post("/search", DocList[MediaDocument]([MediaDocument()]), return_type=DocList[MediaDocument])


def test_a_port_that_is_taken_says_so(served: Served, tmp_path: Path) -> None:
    taken = Settings(workspace=tmp_path, grpc_port=int(served.target.rpartition(":")[2]))
    with pytest.raises(ServiceError, match=r"\(Address already in use\); .*--grpc-port"):
        asyncio.run(make_server(StubEngine(), taken))  # type: ignore[arg-type]


def test_a_message_of_millions_of_parts_is_refused_before_it_is_unpacked(channel: Any) -> None:
    made = jina_pb2.DataRequestProto()
    made.header.exec_endpoint = "/search"
    empty = made.data.docs.docs.add()
    made.data.docs.docs.extend([empty] * 1_000_000)
    started = time.monotonic()
    with pytest.raises(ValueError, match="more than 100,000 fields"):
        ask(channel, DataRequest(made.SerializeToString()))
    made = jina_pb2.DataRequestProto()
    made.header.exec_endpoint = "/search"
    node = made.data.docs.docs.add().data["tags"]
    for number in range(200_000):
        node.dict.data[str(number)].integer = 1
    with pytest.raises(ValueError, match="more than 100,000 fields"):
        ask(channel, DataRequest(made.SerializeToString()))
    assert time.monotonic() < started + 20


def field(number: int, value: bytes | str) -> bytes:
    """A field of protobuf that has a length; https://protobuf.dev/programming-guides/encoding."""
    value = value.encode() if isinstance(value, str) else value
    sizes, rest = [], len(value)
    while rest > 127:
        sizes.append(rest & 127 | 128)
        rest >>= 7
    tag = [number << 3 | 2] if number < 16 else [number << 3 & 127 | 130, number >> 4]
    return bytes([*tag, *sizes, rest]) + value


def ask_legacy(channel: Any, *documents: bytes, endpoint: str = "/search") -> list[bytes]:
    """Asks as docarray 0.21 does (a document's id is field 1, its text 4); the documents of the answer."""
    head = jina_pb2.DataRequestProtoWoData()
    head.header.exec_endpoint = endpoint
    sent = head.SerializeToString() + field(4, field(1, b"".join(field(1, one) for one in documents)))
    answer = jina_pb2_grpc.JinaSingleDataRequestRPCStub(channel).process_single_data(
        DataRequest(sent), timeout=30
    )
    raw = answer.buffer
    head = jina_pb2.DataRequestProtoWoData.FromString(raw)
    if head.header.status.code == jina_pb2.StatusProto.ERROR:
        raise ValueError(head.header.status.description)
    return [message.SerializeToString() for message in read_legacy(raw, 1_000_000)]


def test_documents_of_an_old_docarray_are_answered_as_such(channel: Any) -> None:
    good, long = field(1, "a") + field(4, "a cat"), field(1, "b") + field(4, "x" * 3000)
    # 17 are tags, as google.protobuf.Struct.
    said = "The field text of the document 'b' has 3,000 characters; the limit is 2,000."
    tags = field(17, field(1, field(1, "error") + field(2, field(3, said))))
    assert ask_legacy(channel, good, long) == [good, field(1, "b") + tags]
    with pytest.raises(ValueError, match="has 3,000 characters"):
        ask_legacy(channel, long)
    vector = np.eye(2, 8, dtype="<f4")
    first, second = ask_legacy(channel, good, field(1, "b") + field(4, "dogs"), endpoint="/encode/stub")
    assert first.startswith(good)
    assert vector[0].tobytes() in first
    assert vector[1].tobytes() in second
    # What brings its vector needs nothing else but its modality (10).
    array = field(1, field(1, vector[0].tobytes()) + bytes([0x12, 1, 8]) + field(3, "<f4"))
    assert ask_legacy(channel, field(1, "v") + field(10, "text") + field(16, array)) == [field(1, "v")]


@pytest.mark.parametrize(
    ("document", "endpoint", "said"),
    [
        (field(1, "a") + field(16, field(1, field(3, "|O"))), "/search", "is of the type '|O'"),
        (field(1, "a") + field(3, "pixels"), "/encode", "brings a tensor"),
        (field(1, "a") + field(4, "dogs"), "/rank", "The matches of data[0]"),
        (field(1, "a") + field(4, "dogs"), "/encode/other", "this server has 'stub'"),
        (field(1, "a") + field(4, "dogs"), "/index", "is not answered over gRPC"),
        (field(1, "a") + b"\x22\xff", "/search", "not those of docarray 0.13 to 0.21"),
        (field(1, "a") + field(15, b"") * 100_000, "/search", "more than 100,000 fields"),
        (field(4, "a") + field(17, b"\x0a\x00" * 100_000), "/search", "more than 100,000 fields"),
    ],
)
def test_what_an_old_docarray_may_not_bring_is_refused(
    channel: Any, document: bytes, endpoint: str, said: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        ask_legacy(channel, document, endpoint=endpoint)


def test_requests_beyond_the_limit_are_refused_and_late_ones_never_begin(
    served: Served, channel: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", REQUEST_LOGGER)
    served.engine.go.clear()
    served.engine.begun.clear()
    call = jina_pb2_grpc.JinaSingleDataRequestRPCStub(channel).process_single_data
    busy = [call.future(request(MediaDocument(text="busy")), timeout=60) for _ in range(available_cores())]
    deadline = time.monotonic() + 30
    while len(served.engine.begun) < len(busy) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert served.engine.begun == ["busy"] * len(busy)
    # It waits for its turn, until its client doesn't any more.
    started = time.monotonic()
    refused(grpc.StatusCode.DEADLINE_EXCEEDED, channel, request(MediaDocument(text="late")), timeout=0.5)
    assert time.monotonic() < started + 10
    waiting = [
        call.future(request(MediaDocument(text="waiting")), timeout=60)
        for _ in range(MAX_REQUESTS - len(busy))
    ]
    said = ""
    while not said and time.monotonic() < deadline:
        # Those above may be on their way still.
        try:
            ask(channel, request(MediaDocument(text="too many")), timeout=0.5)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                said = str(error.details())
    assert said == (
        f"This server is busy: it works on {MAX_REQUESTS} requests and takes on {MAX_REQUESTS}. "
        "Try again in a moment."
    )
    with grpc.insecure_channel(served.target) as other:
        state = health_pb2_grpc.HealthStub(other).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert state.status == health_pb2.HealthCheckResponse.SERVING
    served.engine.go.set()
    for future in (*busy, *waiting):
        future.result(60)
    # Its place is free again.
    assert ask(channel, request(MediaDocument(text="after")))[0].error is None
    assert set(served.engine.begun) == {"busy", "waiting", "after"}
    refusals = {(line["reason"], line["status"]) for line in logged(caplog, "audit")}
    assert (
        {("busy", "RESOURCE_EXHAUSTED"), ("deadline", "DEADLINE_EXCEEDED")}
        >= refusals
        >= {("busy", "RESOURCE_EXHAUSTED")}
    )


def test_where_there_are_keys_every_call_but_health_needs_one(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    secret = keys.add("reader", "read")
    served = Served(Settings(workspace=tmp_path, grpc_port=free_port()))
    nothing = jina_pb2.google_dot_protobuf_dot_empty__pb2.Empty()
    made = request(MediaDocument(text="a cat"))
    try:
        with grpc.insecure_channel(served.target) as channel:
            calls = [
                (jina_pb2_grpc.JinaSingleDataRequestRPCStub(channel).process_single_data, made),
                (lambda made, **o: next(jina_pb2_grpc.JinaRPCStub(channel).Call(iter([made]), **o)), made),
                (jina_pb2_grpc.JinaDiscoverEndpointsRPCStub(channel).endpoint_discovery, nothing),
                (jina_pb2_grpc.JinaGatewayDryRunRPCStub(channel).dry_run, nothing),
                (jina_pb2_grpc.JinaInfoRPCStub(channel)._status, nothing),
            ]
            for call, message in calls:
                for metadata in (
                    (),
                    (("authorization", "Bearer crossmodal_wrong"),),
                    (("authorization", secret),),
                ):
                    with pytest.raises(grpc.RpcError) as raised:
                        call(message, metadata=metadata, timeout=30)
                    assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
                    assert secret not in str(raised.value.details())
                call(message, metadata=(("authorization", f"Bearer {secret}"),), timeout=30)
            assert served.engine.begun == ["a cat", "a cat"]
            state = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
            assert state.status == health_pb2.HealthCheckResponse.SERVING
            keys.revoke("reader")
            said = refused(
                grpc.StatusCode.UNAUTHENTICATED,
                channel,
                made,
                metadata=(("authorization", f"Bearer {secret}"),),
            )
            assert "not known here" in said
    finally:
        served.close()


def test_beyond_this_machine_nobody_gets_in_without_a_key(tmp_path: Path) -> None:
    served = Served(Settings(workspace=tmp_path, host="0.0.0.0", grpc_port=free_port()))
    try:
        with grpc.insecure_channel(served.target.replace("0.0.0.0", "127.0.0.1")) as channel:
            said = refused(grpc.StatusCode.UNAUTHENTICATED, channel, request(MediaDocument(text="a cat")))
        assert "needs a key" in said
        assert served.engine.begun == []
    finally:
        served.close()


def test_paths_of_the_server_stay_with_the_server(tmp_path: Path) -> None:
    served = Served(Settings(workspace=tmp_path, grpc_port=free_port()))
    made = request(MediaDocument(text="a cat"))
    try:
        with grpc.insecure_channel(served.target) as channel:
            served.engine.failure = StoreError(f"The index {tmp_path}/index.db is damaged.")
            with pytest.raises(ValueError, match=r"The index WORKSPACE/index\.db is damaged\."):
                ask(channel, made)
            served.engine.failure = OSError(f"{tmp_path} is gone")
            with pytest.raises(ValueError, match=r"failed on this request \(OSError\)") as raised:
                ask(channel, made)
            assert str(tmp_path) not in str(raised.value)
            (tmp_path / "keys.json").write_text("{")
            said = refused(grpc.StatusCode.UNAVAILABLE, channel, made)
            assert "cannot read its keys" in said
            assert "keys.json" not in said
    finally:
        served.close()


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    records = [record for record in caplog.records if record.name == REQUEST_LOGGER]
    return [record.fields for record in records if record.getMessage() == event]


def test_a_request_is_a_line_with_the_id_that_its_answer_has(
    served: Served, channel: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", REQUEST_LOGGER)
    call = jina_pb2_grpc.JinaSingleDataRequestRPCStub(channel).process_single_data
    made = request(MediaDocument(text="nobody's business"), MediaDocument(text="a cat"))
    _, answered = call.with_call(made, metadata=(("x-request-id", "mine-1"),), timeout=30)
    assert ("x-request-id", "mine-1") in answered.trailing_metadata()
    (line,) = logged(caplog, "request")
    assert (line["id"], line["method"], line["route"], line["status"]) == ("mine-1", "gRPC", "/search", "OK")
    assert (line["queries"], line["address"]) == (2, "127.0.0.1")
    assert 0 <= line["wait_ms"] <= line["ms"]
    assert "business" not in str(line)
    # Without one in the metadata, or with what could break a line, it is the message's own.
    own = made.header.request_id
    _, answered = call.with_call(made, metadata=(("x-request-id", "two words"),), timeout=30)
    assert ("x-request-id", own) in answered.trailing_metadata()
    with pytest.raises(ValueError, match="is not answered over gRPC"):
        ask(channel, request(MediaDocument(text="a cat"), endpoint="/index"))
    assert [(line["id"], line["route"], line["status"]) for line in logged(caplog, "request")][1:] == [
        (own, "/search", "OK"),
        (ANY, "other", "ERROR"),
    ]
    assert logged(caplog, "audit") == []


def test_wrong_keys_are_slowed_down_and_logged_and_calls_are_limited(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", REQUEST_LOGGER)
    keys = KeyFile(tmp_path)
    secret, late = keys.add("reader", "read"), keys.add("late", "read")
    served = Served(Settings(workspace=tmp_path, grpc_port=free_port(), rate_limit=20))
    made = request(MediaDocument(text="a cat"))

    def code_with(key: str) -> str:
        try:
            ask(channel, made, metadata=(("authorization", f"Bearer {key}"),))
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"

    try:
        with grpc.insecure_channel(served.target) as channel:
            assert code_with(secret) == "OK"
            assert [code_with(f"wrong{n}") for n in range(11)] == ["UNAUTHENTICATED"] * 10 + [
                "RESOURCE_EXHAUSTED"
            ]
            # Not even the right one, if it is tried only now; the one that was shown before is.
            assert [code_with(late), code_with(secret), code_with(secret)] == [
                "RESOURCE_EXHAUSTED",
                "OK",
                "OK",
            ]
            codes = (code_with(secret) for _ in range(60))
            assert next(code for code in codes if code != "OK") == "RESOURCE_EXHAUSTED"
        lines = logged(caplog, "audit")
        assert [line["reason"] for line in lines] == ["key"] * 10 + ["rate"] * 3
        assert {(line["status"], line["key"]) for line in logged(caplog, "request")} == {("OK", "reader")}
        assert {(line["action"], line["address"]) for line in lines} == {("refused", "127.0.0.1")}
        assert (lines[0]["status"], lines[-1]["status"]) == ("UNAUTHENTICATED", "RESOURCE_EXHAUSTED")
        assert "wrong0" not in str(lines)
        assert secret not in str(lines)
    finally:
        served.close()
