"""The query server over gRPC, as jina's own client speaks it: the same results, and nothing but searches."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    REPOSITORY,
    TOY_IMAGES,
    Server,
    children_of,
    clean_environment,
    free_port,
    is_running,
    run_app,
    start_server,
)
from needs_jina import needs_jina

from crossmodal.errors import ServiceError
from crossmodal.jina.launch import require_grpc, start_grpc_server
from crossmodal.settings import Settings

pytestmark = needs_jina

SENTENCE = "people climb the stairs"

# In a process of its own, as a client would: each line of stdin is a request, each of stdout what came back.
CLIENT = """
import json, sys
from docarray import DocList
from jina import Client
from crossmodal.jina.documents import MediaDocument

client = Client(host="127.0.0.1", port=int(sys.argv[1]), protocol="grpc")


def post(endpoint, parameters, docs, options):
    made = []
    for fields in docs:
        if "file" in fields:
            fields["blob"] = open(fields.pop("file"), "rb").read()
        made.append(MediaDocument(**fields))
    if "metadata" in options:
        options["metadata"] = tuple(map(tuple, options["metadata"]))
    try:
        answered = client.post(
            endpoint,
            DocList[MediaDocument](made),
            parameters=parameters,
            return_type=DocList[MediaDocument],
            results_in_order=True,
            **options,
        )
    except Exception as error:
        return {"error": str(error), "ready": client.is_flow_ready()}
    return [
        {
            "id": doc.id, "error": doc.error, "visited": doc.visited,
            "embedding": None if doc.embedding is None else len(doc.embedding),
            "matches": [[m.id, m.score, m.text, m.uri, m.tags] for m in doc.matches or []],
        }
        for doc in answered
    ]


for line in sys.stdin:
    print(json.dumps(post(*json.loads(line))), flush=True)
"""


class GrpcClient:
    """jina's client, connected to ``port``."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(port)],
            cwd=REPOSITORY,
            env={
                **clean_environment(),
                "PYTHONPATH": str(REPOSITORY),
                "JINA_OPTOUT_TELEMETRY": "1",
                "JINA_LOG_LEVEL": "CRITICAL",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def post(
        self,
        endpoint: str,
        docs: list[dict[str, Any]],
        parameters: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """What the server answers to one call of the client's ``post``."""
        print(json.dumps([endpoint, parameters or {}, docs, options]), file=self._process.stdin, flush=True)
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module")
def served(toy_workspace: Path) -> Iterator[tuple[Server, GrpcClient]]:
    """The server, and a client of its other port."""
    port = free_port()
    server = start_server("query_restful", "--workspace", toy_workspace, "--grpc-port", str(port))
    client = GrpcClient(port)
    yield server, client
    client.close()
    assert server.stop() == 0
    assert "Traceback" not in server.output()


@pytest.fixture(scope="module")
def client(served: tuple[Server, GrpcClient]) -> GrpcClient:
    return served[1]


def test_it_finds_what_http_finds(served: tuple[Server, GrpcClient]) -> None:
    server, client = served
    photo = str(TOY_IMAGES / "coffee.jpg")
    # Clients may give two documents one id, and need not say what is plain from the fields.
    docs: list[dict[str, Any]] = [{"id": "q", "text": SENTENCE}, {"id": "q", "file": photo}]
    docs += [{"id": "empty", "modality": "text", "text": " "}, {"id": "nothing"}]
    text, image, empty, nothing = client.post("/search", docs, {"top_k": 4, "filter": {"tones": "colour"}})
    assert [doc["id"] for doc in (text, image, empty, nothing)] == ["q", "q", "empty", "nothing"]
    body = {"text": SENTENCE, "top_k": 4, "filter": {"tones": "colour"}}
    status, answer = server.request("/v1/search", body)
    assert status == 200
    matches = answer["results"][0]["matches"]
    assert [(match[0], match[1]) for match in text["matches"]] == [
        (match["id"], pytest.approx(match["cosine"], abs=1e-6)) for match in matches
    ]
    assert len(matches) == 4
    assert (
        image["matches"][0][2] == "A red and white cup of espresso stands on a red saucer with a small spoon."
    )
    assert "empty" in empty["error"]
    assert "modality is None" in nothing["error"]
    # Where photos lie on this machine is nobody's business, what their files are called is a tag.
    assert {match[3] for match in text["matches"]} == {None}
    assert all(match[4]["file"].endswith(".jpg") for match in text["matches"])
    assert {doc["visited"] for doc in (text, image)} == {None}


def test_several_requests_are_answered_in_either_way(client: GrpcClient) -> None:
    docs = [{"id": str(number), "text": f"{number} dogs"} for number in range(7)]
    streamed = client.post("/search", docs, {"top_k": 3}, request_size=2)
    at_once = client.post("/search", docs, {"top_k": 3}, request_size=7, stream=False)
    assert [doc["id"] for doc in streamed] == [doc["id"] for doc in at_once] == list("0123456")
    for one, other in zip(streamed, at_once, strict=True):
        assert [match[0] for match in one["matches"]] == [match[0] for match in other["matches"]]
        assert len(one["matches"]) == 3


def test_both_protocols_are_counted_and_logged_in_one_place(served: tuple[Server, GrpcClient]) -> None:
    server, client = served
    assert len(client.post("/search", [{"text": SENTENCE}], metadata=[["x-request-id", "over-grpc"]])) == 1
    assert server.request("/v1/search", {"text": SENTENCE}, headers={"X-Request-Id": "over-http"})[0] == 200
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        metrics = answer.read().decode()
    assert re.search(
        r'^crossmodal_grpc_requests_total\{endpoint="/search",status="OK"\} [1-9]', metrics, re.MULTILINE
    )
    assert re.search(r'^crossmodal_requests_total\{route="/v1/search",status="200"\} [1-9]', metrics, re.M)
    lines = {line.rpartition(" id=")[2]: line for line in server.output().splitlines()}
    assert "method=gRPC route=/search status=OK" in lines["over-grpc address=127.0.0.1"]
    assert "route=/v1/search status=200" in lines["over-http address=127.0.0.1"]


def test_sentences_and_photos_are_encoded(client: GrpcClient) -> None:
    docs = [{"id": "a", "text": SENTENCE}, {"id": "b", "file": str(TOY_IMAGES / "coffee.jpg")}]
    assert [doc["embedding"] for doc in client.post("/encode", docs)] == [512, 512]


@pytest.mark.parametrize("endpoint", ["/index", "/delete", "/whatever"])
def test_nothing_else_is_answered(client: GrpcClient, endpoint: str) -> None:
    answer = client.post(endpoint, [{"id": "a", "modality": "text", "text": "new"}])
    assert f"{endpoint} is not answered over gRPC" in answer["error"]
    assert answer["ready"] is True


def test_a_request_of_too_many_documents_is_refused_with_the_limit(client: GrpcClient) -> None:
    answer = client.post("/search", [{"text": "a"}] * 1025, request_size=1025)
    assert "1,025 documents" in answer["error"]
    assert "the limit is 1,024" in answer["error"]


def test_a_sentence_of_millions_of_characters_is_refused_before_it_is_worked_on(client: GrpcClient) -> None:
    long, short = client.post(
        "/search", [{"id": "a", "text": "x " * 5_000_000}, {"id": "b", "text": SENTENCE}]
    )
    assert "10,000,000 characters; the limit is 2,000" in long["error"]
    assert len(long["error"]) < 300
    assert (len(short["matches"]) > 0, short["error"]) == (True, None)


def test_an_answer_may_be_sent_as_the_next_request(client: GrpcClient) -> None:
    sent = {"id": "a", "text": SENTENCE, "error": "old", "visited": ["join_all"], "outcomes": ["added"]}
    (answer,) = client.post("/search", [sent], {"top_k": 2})
    assert answer["error"] is None
    assert len(answer["matches"]) == 2


def test_a_modality_that_there_is_not_fails_alone(client: GrpcClient) -> None:
    docs = [{"id": "a", "modality": "video", "text": "x"}, {"id": "b", "text": "dogs"}]
    refused, found = client.post("/search", docs)
    assert "modality is 'video'; it must be 'text' or 'image'" in refused["error"]
    assert found["error"] is None


def test_the_server_never_imports_jina(served: tuple[Server, GrpcClient]) -> None:
    server, _ = served
    children = list(children_of(server.process.pid))
    for pid in [server.process.pid, *children]:
        has_grpc = "grpc/_cython" in Path(f"/proc/{pid}/maps").read_text()
        assert has_grpc == (b"grpc_process" in Path(f"/proc/{pid}/cmdline").read_bytes())
    answering = [pid for pid in children if b"grpc_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(answering) == 1


def grpc_process_of(server: Server, before: int = 0) -> int:
    """The process that answers gRPC, another one than ``before``."""
    deadline = time.monotonic() + 60
    while server.process.poll() is None and time.monotonic() < deadline:
        for pid in children_of(server.process.pid):
            with suppress(OSError):
                if pid != before and b"grpc_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        time.sleep(0.02)
    pytest.fail(f"no process answers gRPC: {server.output()}")


# Ten otherwise.
IMPATIENT = """
import sys
from crossmodal.cli import main
from crossmodal.server.silence import Silence
Silence.why_stuck.__defaults__ = (None, 5.0)
sys.exit(main(sys.argv[1:]))
"""


def test_one_that_is_killed_or_stands_still_is_started_again_and_http_goes_on(toy_workspace: Path) -> None:
    port = free_port()
    server = start_server(
        *("query_restful", "--workspace", toy_workspace, "--grpc-port", str(port)),
        program=("-c", IMPATIENT),
    )
    name = f"The process that answers gRPC on port {port}"
    try:
        killed = grpc_process_of(server)
        workers = [pid for pid in children_of(server.process.pid) if pid != killed]
        # The parent forks workers, which a process with threads had better not.
        assert len(list(Path(f"/proc/{server.process.pid}/task").iterdir())) == 1
        os.kill(killed, signal.SIGKILL)
        assert server.request("/v1/search", {"text": "a cat"})[0] == 200
        again = grpc_process_of(server, killed)
        assert (
            f"{name} ended unexpectedly (killed by SIGKILL); it is started again (1 of 5)" in server.output()
        )
        client = GrpcClient(port)
        deadline = time.monotonic() + 60
        while "error" in (answer := client.post("/search", [{"text": SENTENCE}], {"top_k": 2})):
            assert time.monotonic() < deadline, answer
            time.sleep(0.1)
        client.close()
        assert len(answer[0]["matches"]) == 2
        assert set(children_of(server.process.pid)) == {*workers, again}
        os.kill(again, signal.SIGSTOP)
        third = grpc_process_of(server, again)
        assert not is_running(again)
        assert re.search(rf"{name} is killed\. It did not run for \d+ seconds", server.output())
        assert "it is started again (2 of 5)" in server.output()
        assert server.request("/v1/search", {"text": "a cat"})[0] == 200
        assert "Traceback" not in server.output()
        # Nothing outlives the parent, however it ends.
        children = [third, *children_of(server.process.pid)]
        server.stop(signal.SIGKILL)
        deadline = time.monotonic() + 30
        while any(map(is_running, children)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [pid for pid in children if is_running(pid)] == []
    finally:
        server.stop(signal.SIGKILL)


# Otherwise it waits for 7.5 seconds in all.
WITHOUT_PAUSES = """
import sys
from crossmodal.cli import main
from crossmodal.server import restarts
restarts._BACKOFF_SECONDS = (0.0,) * 5
sys.exit(main(sys.argv[1:]))
"""


def test_one_that_ends_again_and_again_ends_the_server(toy_workspace: Path) -> None:
    server = start_server(
        *("query_restful", "--workspace", toy_workspace, "--grpc-port", str(free_port())),
        program=("-c", WITHOUT_PAUSES),
    )
    try:
        killed = 0
        for _ in range(6):
            killed = grpc_process_of(server, killed)
            os.kill(killed, signal.SIGKILL)
        assert server.process.wait(60) == 1
        said = server.output()
        assert re.findall(r"started again \((\d) of 5\)", said) == list("12345")
        assert "That was the end number 6 within a minute" in said
        assert "Traceback" not in said
    finally:
        server.stop(signal.SIGKILL)


def test_a_process_that_cannot_serve_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(workspace=tmp_path / "nothing", grpc_port=free_port())
    with pytest.raises(ServiceError, match="There is no index in"):
        start_grpc_server(settings).wait_ready()
    monkeypatch.setattr(sys, "version_info", (3, 12, 0, "final", 0))
    with pytest.raises(ServiceError, match=r"--grpc-port needs jina, which has no packages for Python 3\.12"):
        require_grpc(settings)


def test_a_taken_port_is_a_sentence(toy_workspace: Path) -> None:
    port, taken = free_port(), free_port()
    arguments = ("-t", "query_restful", "--workspace", toy_workspace, "--port", str(port), "--grpc-port")
    with socket.create_server(("127.0.0.1", taken)):
        done = run_app(*arguments, str(taken))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"Port {taken} on 127.0.0.1 cannot be listened on" in done.stderr
    assert "--grpc-port" in done.stderr
    done = run_app(*arguments, str(port))
    assert done.returncode == 2
    assert f"--port and --grpc-port are both {port}" in done.stderr
