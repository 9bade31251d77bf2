"""A search that is shed before most of the server has seen it gets what it would have got from all of it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from crossmodal.access.keys import KeyFile
from crossmodal.engine.engine import Engine
from crossmodal.server.admission_control import AdmissionControl
from crossmodal.server.app import create_app
from crossmodal.server.serving import Serving
from crossmodal.settings import Settings

SEARCH = {"text": "a dog"}


class Busy:
    """A server in this process that has no place for another sentence; ``reached`` counts what got far."""

    def __init__(self, engine: Engine, workspace: Path, **settings: Any) -> None:
        self.serving = Serving("query", engine, Settings(workspace=workspace, model="clip-mini", **settings))
        self.app = create_app(self.serving)
        self.reached = 0

    def ask(self, *requests: dict[str, Any], wait: float = 0.0) -> list[httpx2.Response]:
        """The answers to searches, one after the other, each with what it names and else as the first."""

        async def run() -> list[httpx2.Response]:
            transport = httpx2.ASGITransport(self.app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:45678") as http:
                with self.serving.admission.sentences.take(10_000):
                    answers = [
                        await http.request("POST", **({"url": "/v1/search", "json": SEARCH} | request))
                        for request in requests
                    ]
                await asyncio.sleep(wait)
                return answers

        return asyncio.run(run())

    def metric(self, name: str, **labels: str) -> float:
        text = self.serving.metrics.exposition({}, {})[0].decode()
        families = text_string_to_metric_families(text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.fixture
def busy(toy_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes such a server with the given settings."""
    made: list[Busy] = []
    called = AdmissionControl.__call__

    async def count(control: AdmissionControl, *arguments: Any) -> None:
        made[-1].reached += 1
        await called(control, *arguments)

    monkeypatch.setattr(AdmissionControl, "__call__", count)
    with Engine(Settings(workspace=toy_workspace)) as engine:

        def make(**settings: Any) -> Busy:
            made.append(Busy(engine, tmp_path, **settings))
            return made[-1]

        yield make
        for one in made:
            one.serving.close()


def test_it_is_answered_as_by_the_whole_server(busy: Any) -> None:
    server: Busy = busy()
    # Whoever names a deadline is looked at by all of it.
    whole, first, *shed = server.ask({"headers": {"Request-Timeout": "5"}}, *[{}] * 4)
    assert server.reached == 2
    names = [answer.headers.pop("x-request-id") for answer in (whole, first, *shed)]
    assert len(set(names)) == 5
    assert (whole.status_code, whole.headers["retry-after"]) == (429, "1")
    assert "This server is busy" in whole.text
    for answer in (first, *shed):
        assert (answer.status_code, answer.headers.multi_items()) == (429, whole.headers.multi_items())
        assert answer.content == whole.content
    assert server.serving.admission.status()["queues"]["sentences"]["shed"] == 5
    assert server.metric("crossmodal_refused_requests_total", reason="busy") == 5
    assert server.metric("crossmodal_requests_total", route="/v1/search", status="429") == 5


def test_what_is_asked_otherwise_is_answered_otherwise(busy: Any) -> None:
    server: Busy = busy(allow_origin=("https://friend.example",))
    *_, shed, foreign, friend, older, host, photo, named = server.ask(
        *[{}] * 3,
        {"headers": {"Origin": "https://elsewhere.example"}},
        {"headers": {"Origin": "https://friend.example"}},
        {"url": "/search"},
        {"headers": {"Host": "not a host"}},
        {"json": None, "files": {"nothing": b"known"}},
        {"headers": {"X-Request-Id": "mine:1"}},
    )
    assert (shed.status_code, "access-control-allow-origin" in shed.headers) == (429, False)
    assert (foreign.status_code, "busy" in foreign.text) == (403, False)
    assert friend.headers["access-control-allow-origin"] == "https://friend.example"
    assert (older.status_code, "busy" in older.json()["status"]["description"]) == (429, True)
    assert host.status_code == 400
    # Photos have a queue of their own.
    assert photo.status_code == 422
    assert (named.status_code, named.headers["x-request-id"]) == (429, "mine:1")


def test_who_has_no_key_does_not_learn_that_it_is_busy(busy: Any, tmp_path: Path) -> None:
    secret = KeyFile(tmp_path).add("alice", "read")
    server: Busy = busy()
    good = {"headers": {"Authorization": f"Bearer {secret}"}}
    wrong = {"headers": {"Authorization": "Bearer crossmodal_wrong"}}
    answers = server.ask(good, good, good, {}, *[wrong] * 11)
    # Each wrong one counts once: ten are looked at.
    assert [answer.status_code for answer in answers] == [429] * 3 + [401] * 11 + [429]
    assert "busy" in answers[2].text
    assert all("busy" not in answer.text for answer in answers[3:])
    assert "Too many wrong keys" in answers[-1].text
    assert server.metric("crossmodal_refused_requests_total", reason="rate") == 1
    assert server.metric("crossmodal_refused_requests_total", reason="key") == 11
    assert server.reached == 1


def test_each_counts_for_the_rate_of_who_asks(busy: Any) -> None:
    server: Busy = busy(rate_limit=4)
    answers = server.ask(*[{}] * 6)
    assert ["busy" in answer.text for answer in answers] == [True] * 4 + [False] * 2
    assert "--rate-limit" in answers[-1].text
    assert int(answers[-1].headers["retry-after"]) > 1


def test_a_few_of_a_second_have_lines_and_one_line_sums_up_the_others(
    busy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server: Busy = busy()
    with caplog.at_level(logging.INFO, "crossmodal.requests"):
        server.ask(*[{}] * 24, wait=1.2)
    lines = [(record.getMessage(), vars(record)["fields"]) for record in caplog.records]
    own = [fields for event, fields in lines if event == "request"]
    assert [fields["status"] for fields in own] == [429] * 10
    *audited, summed = [fields for event, fields in lines if event == "audit"]
    assert [fields["reason"] for fields in audited] == ["busy"] * 10
    assert [fields["id"] for fields in audited] == [fields["id"] for fields in own]
    assert json.loads(json.dumps(summed)) == {
        "action": "refused",
        "reason": "busy",
        "requests": 14,
        "seconds": 1.0,
        "addresses": 1,
        "most_from": "127.0.0.1",
        "of_those": 14,
    }
