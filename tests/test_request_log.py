"""The log of a running server: a line a request, ids, slow searches, writes, refusals; several workers."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, copy_index, start_server

SECRET = "a wish that is nobody's business"
LINES = {"Content-Type": "application/x-ndjson"}


def ask(
    server: Server, path: str, body: bytes | None = None, method: str | None = None, **headers: str
) -> tuple[int, str, bytes]:
    """Status, the answer's request id, and its body."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(
        server.url + path, body, {"Content-Type": "application/json", **names}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers["X-Request-Id"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["X-Request-Id"], error.read()


def lines(server: Server, id: str, *, audited: bool = False) -> list[dict[str, Any]]:
    """What the log, in JSON, has of a request; it is written right after the answer."""
    deadline = time.monotonic() + 10
    while True:
        said = [json.loads(line) for line in server.output().splitlines() if line.startswith("{")]
        found = [line for line in said if line.get("id") == id]
        # An audit line comes behind that of the request, and both behind the answer.
        last = "audit" if audited else "request"
        if any(line["event"] == last for line in found) or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    copy = copy_index(toy_workspace, tmp_path_factory.mktemp("log") / "workspace")
    server = start_server("query_restful", "--workspace", copy, "--log", "json", "--workers", "2")
    yield server
    server.stop()


def test_a_search_is_one_line_with_its_stages_and_without_its_words(server: Server) -> None:
    body = json.dumps({"queries": [{"text": SECRET}, {"text": "a cat"}]}).encode()
    status, id, answer = ask(server, "/v1/search?token=hush", body)
    if status == 422:
        body = json.dumps({"text": SECRET}).encode()
        status, id, answer = ask(server, "/v1/search", body)
    assert status == 200
    (line,) = lines(server, id)
    assert (line["event"], line["method"], line["route"], line["status"]) == (
        "request",
        "POST",
        "/v1/search",
        200,
    )
    assert line["bytes"] == len(answer)
    assert line["address"] == "127.0.0.1"
    stages = [line[f"{stage}_ms"] for stage in ("wait", "encode", "search", "fetch")]
    assert 0 < sum(stages) <= line["ms"] + 0.5
    assert line["queries"] == line["shared"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert SECRET not in server.output()
    assert "hush" not in server.output()


def test_a_sane_id_of_the_client_is_kept_and_any_other_replaced(server: Server) -> None:
    assert ask(server, "/healthz", X_Request_Id="trace-7:a/b")[1] == "trace-7:a/b"
    for insane in ("two words", "x" * 129, 'quote"', ""):
        assert re.fullmatch(r"[0-9a-f]{16}", ask(server, "/healthz", X_Request_Id=insane)[1])


@pytest.mark.parametrize(
    ("path", "headers", "status", "route"),
    [
        ("/nothing/here", {}, 404, "other"),
        ("/v1/documents/secret-id", {}, 404, "/v1/documents/{id:path}"),
        ("/healthz", {"Host": "not a host"}, 400, "/healthz"),
    ],
)
def test_answers_without_a_result_have_an_id_and_a_line(
    server: Server, path: str, headers: dict[str, str], status: int, route: str
) -> None:
    got, id, _ = ask(server, path, **headers)
    assert got == status
    (line,) = lines(server, id)
    assert (line["status"], line["route"]) == (status, route)
    assert "secret-id" not in json.dumps(line)


def test_each_write_has_an_audit_line_from_whichever_process(server: Server) -> None:
    for number in range(6):
        caption = json.dumps({"id": f"seen-{number}", "text": SECRET}).encode()
        status, id, _ = ask(server, "/v1/documents", caption, **{"Content-Type": "application/x-ndjson"})
        assert status == 200
        request, audit = lines(server, id, audited=True)
        assert (request["event"], audit["event"], audit["action"]) == ("request", "audit", "index")
        assert (audit["ids"], audit["documents"]) == ([f"seen-{number}"], 1)
        assert audit["outcomes"] == {"added": 1}
        assert audit["address"] == request["address"] == "127.0.0.1"
        status, id, _ = ask(server, f"/v1/documents/seen-{number}", method="DELETE")
        audit = lines(server, id, audited=True)[1]
        assert (audit["action"], audit["ids"]) == ("delete", [f"seen-{number}"])
        assert audit["outcomes"] == {"deleted": 1}
    assert SECRET not in server.output()


def test_a_refused_try_has_an_audit_line(server: Server) -> None:
    status, id, _ = ask(
        server,
        "/v1/documents/x",
        method="DELETE",
        Origin="http://elsewhere.example",
        X_Request_Id="refused-1",
    )
    assert (status, id) == (403, "refused-1")
    audit = next(line for line in lines(server, id, audited=True) if line["event"] == "audit")
    assert (audit["action"], audit["reason"], audit["status"]) == ("refused", "forbidden", 403)
    assert (audit["method"], audit["route"]) == ("DELETE", "/v1/documents/{id:path}")


def test_lines_of_several_processes_do_not_mix(server: Server) -> None:
    def one(number: int) -> str:
        return ask(server, "/v1/documents/" + "x" * 150, X_Request_Id=f"{'y' * 100}-{number}")[1]

    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(one, range(400)))
    assert len(ids) == 400
    assert [len(lines(server, id)) for id in ids] == [1] * 400
    assert all(line.startswith(("{", "serving ")) for line in server.output().splitlines())


def test_text_is_the_default_and_off_leaves_the_first_line(toy_workspace: Path) -> None:
    server = start_server("query_restful", "--workspace", toy_workspace)
    try:
        _, id, answer = ask(server, "/v1/documents/nothing", X_Request_Id="mine")
        time.sleep(0.2)
        _, line = server.output().splitlines()
        assert re.fullmatch(
            r"\S+Z info: request method=GET route=/v1/documents/\{id:path\} status=404 ms=[0-9.]+ "
            rf"bytes={len(answer)} id={id} address=127\.0\.0\.1",
            line,
        )
    finally:
        server.stop()
    server = start_server("query_restful", "--workspace", toy_workspace, "--log", "off")
    try:
        assert ask(server, "/healthz")[1]
        assert ask(server, "/v1/documents/x", method="DELETE")[0] == 404
        time.sleep(0.2)
        assert len(server.output().splitlines()) == 1
    finally:
        server.stop()
