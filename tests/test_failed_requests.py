"""What failures of requests come to: a 500 for the client, a traceback with the request's id in the log."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest

from crossmodal.documents import Document
from crossmodal.engine.engine import Engine
from crossmodal.errors import StoreFormat
from crossmodal.flow.runner import Flow
from crossmodal.flow.topology import FlowKind
from crossmodal.log import REQUEST_LOGGER, open_log
from crossmodal.server.app import create_app
from crossmodal.server.observation import observed
from crossmodal.server.request_log import RequestLog
from crossmodal.server.routes import problem, problem_response
from crossmodal.server.serving import Serving
from crossmodal.settings import Settings


class Failing:
    """A Flow that fails, waits or warns on the sentences that say how."""

    def run(
        self,
        operation: str,
        docs: Sequence[Document],
        parameters: Mapping[str, Any] | None = None,
        *,
        ticket: int | None = None,
    ) -> list[Document]:
        if (docs[0].text or "").startswith("warn"):
            # So that others gather meanwhile.
            time.sleep(0.1)
            logging.getLogger("crossmodal.flow").warning("seen in the Flow")
        for doc in docs:
            if doc.text == "a bug":
                raise KeyError("lost")
            if doc.text == "slow one":
                time.sleep(1.1)
            if doc.text == "damage":
                raise StoreFormat("The index is damaged.")
            doc.error = "It is refused."
        return list(docs)

    def take_ticket(self) -> None:
        return None

    def prepare(self) -> None: ...
    def check(self) -> None: ...
    def close(self) -> None: ...


@pytest.fixture
def serving(toy_workspace: Path) -> Iterator[Serving]:
    def open_flow(kind: FlowKind, settings: Settings) -> Flow:
        return Failing()

    settings = Settings(workspace=toy_workspace, model="clip-mini")
    serving = Serving("query", Engine(settings, open_flow=open_flow), settings)
    yield serving
    serving.close()
    serving.engine.close()


@contextmanager
def opened_log(kind: str) -> Iterator[None]:
    """The log as a server has it, in this process."""
    loggers = [logging.getLogger(name) for name in ("crossmodal", "uvicorn")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    open_log(kind)
    try:
        yield
    finally:
        for logger, (logger.handlers, logger.propagate, level) in zip(loggers, before, strict=True):
            logger.setLevel(level)
        logging.getLogger(REQUEST_LOGGER).setLevel(logging.NOTSET)


def id_of(answer: httpx2.Response) -> str:
    return answer.headers["x-request-id"]


def ask(serving: Serving, *sentences: str) -> list[httpx2.Response]:
    async def run() -> list[httpx2.Response]:
        transport = httpx2.ASGITransport(create_app(serving))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await asyncio.gather(
                *(http.post("/v1/search", json={"text": sentence}) for sentence in sentences)
            )

    return asyncio.run(run())


def test_an_unforeseen_error_is_a_500_with_its_traceback_in_the_output(
    serving: Serving, capfd: pytest.CaptureFixture[str]
) -> None:
    with opened_log("text"):
        (answer,) = ask(serving, "a bug")
    assert (answer.status_code, answer.json()["detail"]) == (
        500,
        "The server failed on this request (KeyError).",
    )
    said = capfd.readouterr().err
    assert f"error: /v1/search failed on a request: id={id_of(answer)}\n" in said
    assert "KeyError: 'lost'" in said
    assert "in run" in said


def test_what_is_logged_below_names_the_requests_that_share_a_call(
    serving: Serving, capfd: pytest.CaptureFixture[str]
) -> None:
    with opened_log("json"):
        answers = ask(serving, *[f"warn {number}" for number in range(12)])
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    warned = [line for line in lines if line["event"] == "seen in the Flow"]
    named = [id for line in warned for id in line.get("ids", [line.get("id")])]
    assert sorted(named) == sorted(id_of(answer) for answer in answers)
    requests = {line["id"]: line for line in lines if line["event"] == "request"}
    assert max(len(line.get("ids", "1")) for line in warned) > 1, "twelve at once on fewer cores"
    for line in warned:
        for id in line.get("ids", [line.get("id")]):
            assert requests[id]["shared"] == len(line.get("ids", "1"))


def test_a_failure_outside_of_every_route_is_a_500_with_its_id(
    serving: Serving, capfd: pytest.CaptureFixture[str]
) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError("of a middleware")

    async def run() -> httpx2.Response:
        transport = httpx2.ASGITransport(RequestLog(broken, serving.metrics))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.get("/", headers={"X-Request-Id": "mine"})

    with opened_log("json"):
        answer = asyncio.run(run())
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "mine")
    failed, request = map(json.loads, capfd.readouterr().err.splitlines())
    assert (failed["level"], failed["id"], request["status"]) == ("error", "mine", 500)
    assert "ZeroDivisionError: of a middleware" in failed["traceback"]


def test_a_client_that_hung_up_is_told_as_such(serving: Serving, capfd: pytest.CaptureFixture[str]) -> None:
    async def left(scope: Any, receive: Any, send: Any) -> None:
        """As what notices that nobody waits any more, and answers nothing."""

    with opened_log("json"):
        scope = {"type": "http", "method": "GET", "path": "/v1/status", "headers": []}
        asyncio.run(RequestLog(left, serving.metrics)(scope, cast("Any", None), cast("Any", None)))
    (line,) = map(json.loads, capfd.readouterr().err.splitlines())
    assert line["status"] == 499
    counted = b'crossmodal_requests_total{route="cancelled",status="499"} 1.0'
    assert counted in serving.metrics.exposition({}, {})[0]


def test_metrics_come_although_searches_are_stuck(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    back = threading.Event()
    monkeypatch.setattr("crossmodal.server.v1.information._STATE_SECONDS", 0.1)
    monkeypatch.setattr(serving.engine, "shard_states", lambda: back.wait(30) and [])
    began = time.monotonic()

    async def run() -> httpx2.Response:
        transport = httpx2.ASGITransport(create_app(serving))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            answer = await http.get("/metrics")
            back.set()
            return answer

    answer = asyncio.run(run())
    assert time.monotonic() - began < 20
    assert answer.status_code == 200
    assert "crossmodal_documents" in answer.text


def test_a_small_limit_is_told_in_bytes(serving: Serving) -> None:
    async def run() -> httpx2.Response:
        transport = httpx2.ASGITransport(create_app(serving))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.post("/login", data={"key": "x" * 5000})

    answer = asyncio.run(run())
    assert answer.status_code == 413
    assert "larger than 4,096 bytes" in answer.json()["detail"]


def test_the_line_names_the_key_and_the_reason_of_a_refusal(
    serving: Serving, capfd: pytest.CaptureFixture[str]
) -> None:
    async def gate(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["caller"] = SimpleNamespace(name="laptop")
        observed().refusal = "rate"
        await problem_response(problem(429, "Too many."))(scope, receive, send)

    async def run() -> httpx2.Response:
        transport = httpx2.ASGITransport(RequestLog(gate, serving.metrics))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.get("/")

    with opened_log("json"):
        asyncio.run(run())
    request, audit = map(json.loads, capfd.readouterr().err.splitlines())
    assert (request["key"], audit["key"], audit["reason"]) == ("laptop", "laptop", "rate")
    assert b'crossmodal_refused_requests_total{reason="rate"} 1.0' in serving.metrics.exposition({}, {})[0]


def test_what_parts_say_of_themselves_is_among_the_metrics(serving: Serving) -> None:
    held: dict[str, Any] = {"queues": {"photos": {"held": 3, "shed": 7}}, "open": True}
    serving.metrics.add_source("part", lambda: held)
    said = serving.metrics.exposition({}, {})[0].decode()
    assert 'crossmodal_part{of="queues.photos.held"} 3.0' in said
    assert 'crossmodal_part{of="open"} 1.0' in said
    held["queues"]["photos"]["shed"] = 8
    assert 'crossmodal_part{of="queues.photos.shed"} 8.0' in serving.metrics.exposition({}, {})[0].decode()


def test_a_slow_search_has_a_line_that_says_where_the_time_went(
    serving: Serving, capfd: pytest.CaptureFixture[str]
) -> None:
    with opened_log("json"):
        slow, _ = ask(serving, "slow one", "quick")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (line,) = [line for line in lines if line["event"] == "slow search" and line["id"] == id_of(slow)]
    assert line["level"] == "warning"
    assert line["characters"] == [len("slow one")]
    assert line["search_ms"] > 1000
    assert "slow one" not in json.dumps(lines)


def test_a_foreseen_error_is_its_sentence_alone(serving: Serving, capfd: pytest.CaptureFixture[str]) -> None:
    (answer,) = ask(serving, "damage")
    assert (answer.status_code, answer.json()["detail"]) == (500, "The index is damaged.")
    assert capfd.readouterr().err == ""


def test_those_who_ask_at_the_same_time_get_their_own_answers(serving: Serving) -> None:
    answers = ask(serving, "a bug", "one", "damage", "another", "a bug")
    assert [answer.status_code for answer in answers] == [500, 422, 500, 422, 500]
