"""The Python clients of jina 2 over HTTP, in environments of their own, against the server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from client_environments import client_environment
from conftest import TOY_IMAGES, Server

SCRIPT = """
import json, sys
from jina import Client, Document

port, photo, queries, parameters = int(sys.argv[1]), sys.argv[2], *map(json.loads, sys.argv[3:])
client = Client(protocol="http", host="127.0.0.1", port=port)
docs = [Document(text=query) for query in queries] + [Document(buffer=open(photo, "rb").read())]
found = {"ids": [doc.id for doc in docs], "docs": [], "errors": []}


def note(response):
    for doc in response.docs:
        matches = [[m.id, m.uri, m.text, m.tags.get("file"), m.scores["cosine"].value] for m in doc.matches]
        found["docs"].append([doc.id, doc.text, matches])


client.post("/search", docs, parameters=parameters, on_done=note)
try:
    client.post("/search", [Document(text="")], on_done=note)
except Exception as error:
    found["errors"].append(str(error))
print("FOUND " + json.dumps(found))
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", [pytest.param("2.0.24", marks=pytest.mark.slow), "2.6.4"])
def test_it_reads_the_matches_of_sentences_and_photos(toy_server: Server, version: str) -> None:
    environment = client_environment(
        f"jina=={version}",
        *("aiohttp==3.8.6", "grpcio==1.70.0", "numpy==1.24.4", "protobuf==3.19.6"),
        # There is no wheel of jina 2 itself.
        python="3.8",
        first=["setuptools==59.8.0", "wheel==0.45.1"],
    )
    queries = ["a rocket on the launch pad", "gravel"]
    photo = TOY_IMAGES / "coffee.jpg"
    port = toy_server.url.rpartition(":")[2]
    done = environment.run(
        *(SCRIPT, port, str(photo), json.dumps(queries), json.dumps({"top_k": 4})),
        JINA_OPTOUT_TELEMETRY="1",
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    found = json.loads(line.removeprefix("FOUND "))
    assert [doc[0] for doc in found["docs"]] == found["ids"]
    assert [doc[1] for doc in found["docs"][:2]] == queries
    for query, (_, _, matches) in zip(queries, found["docs"], strict=False):
        assert matches == [row(match) for match in expected(toy_server, query)], done.stderr
    assert found["docs"][0][2][0][3] == "rocket.jpg"
    assert "espresso" in found["docs"][2][2][0][2]
    (error,) = found["errors"]
    assert "The text of data[0] is empty; it needs at least one word" in error


def expected(server: Server, query: str) -> list[dict[str, Any]]:
    _, answer = server.request("/search", {"data": [query], "mode": "search", "top_k": 4})
    matches: list[dict[str, Any]] = answer["search"]["docs"][0]["matches"]
    return matches


def row(match: dict[str, Any]) -> list[Any]:
    score = pytest.approx(match["score"]["value"], abs=1e-6)
    return [match["id"], match["uri"], "", match["tags"]["file"], score]


@pytest.mark.parametrize("envelope", ["jinabox", "jina1", "jina2", "jina3"])
def test_a_parameter_chooses_the_envelope(toy_server: Server, envelope: str) -> None:
    body = {"data": [{"text": "a cat"}], "parameters": {"top_k": 2, "envelope": envelope}}
    _, chosen = toy_server.request("/search", body)
    _, by_header = toy_server.request(
        "/search", {**body, "parameters": {"top_k": 2}}, headers={"X-Envelope": envelope}
    )
    assert set(chosen) == set(by_header)
    status, answer = toy_server.request("/search", {**body, "parameters": {"envelope": "jina9"}})
    assert status == 400
    assert "'jina9' is not known; choose one of jinabox, jina1, jina2, jina3" in str(answer)
