"""--otlp: a real server's traces, as a collector gets them."""

from __future__ import annotations

import gzip
import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import start_server

from crossmodal.errors import SettingsError
from crossmodal.server.traces import Traces

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """A collector's address, and what it has got: paths and messages."""
    got: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            got.append((self.path, trace_service.ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()
        thread.join()


def test_a_search_is_a_span_with_its_stages_below_that_continues_the_clients_trace(
    toy_workspace: Path, collector: tuple[str, list[tuple[str, Any]]]
) -> None:
    url, got = collector
    server = start_server("query_restful", "--workspace", toy_workspace, "--otlp", url, "--log", "json")
    try:
        carried = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "mine"}
        body = {"text": "a secret wish"}
        assert httpx2.post(f"{server.url}/v1/search", json=body, headers=carried).status_code == 200
        unsampled = {"traceparent": f"00-{TRACE[::-1]}-{PARENT}-00"}
        assert httpx2.get(f"{server.url}/v1/status", headers=unsampled).status_code == 200
        assert httpx2.get(f"{server.url}/healthz").status_code == 200
        # What is left is sent at the end.
        assert server.stop() == 0
    finally:
        server.stop(signal.SIGKILL)
    assert {path for path, _ in got} == {"/v1/traces"}
    resources = [resource for _, message in got for resource in message.resource_spans]
    names = {value.value.string_value for part in resources for value in part.resource.attributes}
    assert "crossmodal" in names
    spans = [span for part in resources for scope in part.scope_spans for span in scope.spans]
    assert {span.name for span in spans if not span.parent_span_id} == {"GET /healthz"}
    assert TRACE[::-1] not in {span.trace_id.hex() for span in spans}
    own = [span for span in spans if span.trace_id.hex() == TRACE]
    (root,) = [span for span in own if span.parent_span_id.hex() == PARENT]
    assert root.name == "POST /v1/search"
    attributes = {pair.key: pair.value for pair in root.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["crossmodal.request_id"].string_value == "mine"
    stages = sorted((span for span in own if span is not root), key=lambda span: span.start_time_unix_nano)
    assert [span.name for span in stages] == ["wait", "encode", "search", "fetch"]
    for span in stages:
        assert span.parent_span_id == root.span_id
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano
    lines = [json.loads(line) for line in server.output().splitlines() if line.startswith("{")]
    assert [line["trace"] for line in lines if line.get("id") == "mine"] == [TRACE]
    assert "secret" not in str(spans) + server.output()


@pytest.mark.parametrize("url", ["", "localhost:4318", "ftp://a", "http://"])
def test_what_is_no_address_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(SettingsError, match=r"http://localhost:4318"):
        Traces(url)
