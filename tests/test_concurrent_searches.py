"""Searches that come at the same time are answered together, and each gets its own answer."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import Server

from crossmodal import PhotoIndex

# All different, so that no vector is remembered from a sentence asked before.
SENTENCES = [
    f"{number} {what}, {where}"
    for number, (what, where) in enumerate(
        (what, where)
        for what in ("a cat", "people on stairs", "an old tower", "bread")
        for where in ("seen from far away", "black and white", "in the evening light of a city")
    )
]


def v1(server: Server, sentence: str) -> list[tuple[str, float]]:
    status, answer = server.request("/v1/search", {"text": f"v1 {sentence}", "top_k": 7}, timeout=60)
    assert status == 200, answer
    return [(match["id"], match["cosine"]) for match in answer["results"][0]["matches"]]


def classic(server: Server, sentence: str) -> list[tuple[str, float]]:
    body = {"data": [f"classic {sentence}"], "top_k": 7, "mode": "search"}
    status, answer = server.request("/search", body, timeout=60)
    assert status == 200, answer
    return [(match["id"], match["score"]["value"]) for match in answer["search"]["docs"][0]["matches"]]


@pytest.fixture(scope="module")
def index(toy_workspace: Path) -> Iterator[PhotoIndex]:
    """The same index without any server."""
    with PhotoIndex(toy_workspace) as opened:
        yield opened


@pytest.mark.parametrize(("ask", "name"), [(v1, "v1"), (classic, "classic")])
def test_answers_are_those_of_sentences_asked_alone(
    toy_server: Server, index: PhotoIndex, ask: Any, name: str
) -> None:
    with ThreadPoolExecutor(len(SENTENCES)) as clients:
        found = list(clients.map(lambda sentence: ask(toy_server, sentence), SENTENCES))
    for sentence, matches in zip(SENTENCES, found, strict=True):
        alone = index.search_text(f"{name} {sentence}", 7)
        assert matches == [(match.id, match.cosine) for match in alone]


def test_what_fails_fails_for_its_own_client(toy_server: Server, index: PhotoIndex) -> None:
    bodies: list[dict[str, Any]] = []
    for sentence in SENTENCES[:6]:
        bodies.append({"text": f"among others {sentence}", "top_k": 3})
        bodies.append({"terms": [{"text": f"lost {sentence}"}, {"id": "no such document"}]})
        # Nothing to look for is left, which shows when all vectors are there.
        bodies.append({"terms": [{"text": f"gone {sentence}"}, {"text": f"gone {sentence}", "weight": -1}]})
    with ThreadPoolExecutor(len(bodies)) as clients:
        answers = list(clients.map(lambda body: toy_server.request("/v1/search", body, timeout=60), bodies))
    assert [status for status, _ in answers] == [200, 404, 422] * 6
    for body, (_, answer) in zip(bodies[::3], answers[::3], strict=True):
        alone = [match.id for match in index.search_text(body["text"], 3)]
        assert [match["id"] for match in answer["results"][0]["matches"]] == alone


def test_clients_that_leave_take_nobody_along(toy_server: Server, index: PhotoIndex) -> None:
    address = urlsplit(toy_server.url)
    assert address.hostname is not None
    leaving = []
    for sentence in SENTENCES[:8]:
        body = json.dumps({"text": f"never read {sentence}"}).encode()
        connection = socket.create_connection((address.hostname, address.port or 80))
        connection.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        leaving.append(connection)
    with ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(v1, toy_server, f"staying {sentence}") for sentence in SENTENCES[:8]]
        for connection in leaving:
            connection.close()
        found = [answer.result() for answer in asked]
    for sentence, matches in zip(SENTENCES[:8], found, strict=True):
        assert [id for id, *_ in matches] == [m.id for m in index.search_text(f"v1 staying {sentence}", 7)]
