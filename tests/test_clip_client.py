"""The client of clip-as-service, in an environment of its own, against the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_environments import ClientEnvironment, client_environment
from conftest import REPOSITORY, TOY_IMAGES, Server, free_port, start_server
from needs_jina import needs_jina

SCRIPT = """
import json, sys
from clip_client import Client
from docarray import Document, DocumentArray

client = Client(sys.argv[1])
cat, rocket = sys.argv[2:4]
vectors = client.encode(["a cat", cat, "a rocket on the launch pad"])
docs = client.encode(DocumentArray([Document(text="a cat"), Document(uri=cat)]))
ranked = client.rank(
    [Document(uri=cat, matches=[Document(text="a rocket on the launch pad"), Document(text="a cat")])]
)
photos = client.rank([Document(text="a cat", matches=[Document(uri=rocket), Document(uri=cat)])])
found = client.search(["a rocket on the launch pad"], limit=3)
errors = {}
for name, texts, chosen in (("empty", [" "], {}), ("model", ["a"], {"model_name": "ViT-B-32::openai"})):
    try:
        client.encode(texts, parameters=chosen)
    except Exception as error:
        errors[name] = str(error)
print("FOUND " + json.dumps({
    "vectors": vectors.tolist(),
    "docs": docs.embeddings.tolist(),
    "ranked": [
        [m.text, m.scores["clip_score"].value, m.scores["clip_score_cosine"].value] for m in ranked[0].matches
    ],
    "photos": [m.uri for m in photos[0].matches],
    "found": [[m.id, m.scores["cosine"].value] for m in found[0].matches],
    "file": found[0].matches[0].tags["file"],
    "errors": errors,
}))
"""


def clip_client() -> ClientEnvironment:
    """All that it imports, and no more: pip would look for an hour for versions that go together."""
    listed = (REPOSITORY / "tests" / "fixtures" / "clip-client.txt").read_text(encoding="utf-8").split()
    return client_environment(*listed, first=["setuptools==70.3.0", "wheel==0.45.1"], options=["--no-deps"])


@pytest.fixture(scope="module")
def served(toy_workspace: Path) -> Iterator[tuple[Server, int]]:
    """A server and its port of gRPC."""
    port = free_port()
    server = start_server("query_restful", "--workspace", toy_workspace, "--grpc-port", port)
    yield server, port
    server.stop()


@needs_jina
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_it_encodes_ranks_and_searches(served: tuple[Server, int], scheme: str) -> None:
    server, port = served
    url = server.url if scheme == "http" else f"grpc://127.0.0.1:{port}"
    cat, rocket = (str(TOY_IMAGES / name) for name in ("cat.jpg", "rocket.jpg"))
    done = clip_client().run(*(SCRIPT, url, cat, rocket), JINA_OPTOUT_TELEMETRY="1", NO_VERSION_CHECK="1")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    found = json.loads(line.removeprefix("FOUND "))
    body = {"input": ["a cat", "a rocket on the launch pad"]}
    expected = [one["embedding"] for one in server.request("/v1/embeddings", body)[1]["data"]]
    vectors = np.array(found["vectors"])
    assert np.allclose(vectors[[0, 2]], expected, atol=1e-6)
    assert np.allclose(found["docs"], vectors[:2], atol=1e-6)
    cosines = [vectors[1] @ vectors[0], vectors[1] @ vectors[2]]
    assert [row[0] for row in found["ranked"]] == ["a cat", "a rocket on the launch pad"]
    assert [row[2] for row in found["ranked"]] == pytest.approx(cosines, abs=1e-5)
    likely = np.exp(100 * np.array(cosines))
    assert [row[1] for row in found["ranked"]] == pytest.approx(list(likely / likely.sum()), abs=1e-3)
    assert found["photos"] == [cat, rocket]
    searched = server.request("/search", {"data": ["a rocket on the launch pad"], "top_k": 3})[1]
    matches = searched["search"]["docs"][0]["matches"]
    assert [row[0] for row in found["found"]] == [match["id"] for match in matches]
    cosines = [match["score"]["value"] for match in matches]
    assert [row[1] for row in found["found"]] == pytest.approx(cosines, abs=1e-6)
    assert found["file"] == "rocket.jpg"
    # What cannot be answered raises with the server's sentence.
    assert "The text of data[0] is empty; it needs at least one word" in found["errors"]["empty"]
    assert "ViT-B-32::openai" in found["errors"]["model"]


def post(server: Server, endpoint: str, *data: Any) -> tuple[int, str]:
    status, answer = server.request("/post", {"data": list(data), "execEndpoint": endpoint})
    return status, str(answer)


def test_what_cannot_be_encoded_or_ranked_says_why(toy_server: Server) -> None:
    status, said = post(toy_server, "/encode", {"text": "a cat"}, {"text": ""})
    assert status == 400
    assert "The text of data[1] is empty" in said
    status, said = post(toy_server, "/rank", {"text": "a cat", "matches": []})
    assert status == 400
    assert "The matches of data[0] are" in said
    status, said = post(toy_server, "/encode/ViT-B-32::openai", {"text": "a cat"})
    assert status == 422
    assert "ViT-B-32::openai" in said
    status, said = post(toy_server, "/encode/clip-mini", {"text": "a cat"})
    assert (status, '"embedding"' in said.replace("'", '"')) == (200, True)
    status, said = post(toy_server, "/rank", {"text": "a cat", "matches": [{"text": "a"}] * 2048})
    assert status == 413
