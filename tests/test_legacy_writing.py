"""Writing as clients of jina and Jina Box do: /index, /update, /delete and /post in each envelope."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import Server, server_over_copy

Json = dict[str, Any]

# What makes a body one of each client's, and where its answer holds the documents.
SHAPES: dict[str, Json] = {
    "jina1": {"mode": "index"},
    "jina2": {"targetPeapod": ""},
    "jina3": {"header": {"requestId": "r"}},
    "jinabox": {"mode": "index", "parameters": {}},
}


@pytest.fixture(scope="module")
def server(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A query server over a copy of the toy index that the tests below write to."""
    with server_over_copy(toy_workspace, tmp_path_factory.mktemp("legacy")) as served:
        yield served


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        yield client


def outcomes(name: str, answer: httpx2.Response) -> dict[str, str]:
    """What became of each document, by id, out of the client's own envelope."""
    assert answer.status_code == 200, answer.text
    body = answer.json()
    if name == "jina1":
        (docs,) = [body[kind]["docs"] for kind in ("index", "update", "delete") if kind in body]
    else:
        docs = body["data"] if name == "jina3" else body["data"]["docs"]
    return {doc["id"]: doc["tags"].get("outcome") or doc["tags"]["error"] for doc in docs}


def text_of(http: httpx2.Client, id: str) -> str | None:
    answer = http.get(f"/v1/documents/{id}")
    return None if answer.status_code == 404 else str(answer.json()["text"])


@pytest.mark.parametrize("name", SHAPES)
def test_a_caption_is_added_changed_found_and_deleted(http: httpx2.Client, name: str) -> None:
    shape = SHAPES[name]
    id = f"of-{name}"
    first = {**shape, "data": [{"id": id, "text": f"a walrus for {name}"}]}
    assert outcomes(name, http.post("/index", json=first)) == {id: "added"}
    assert outcomes(name, http.post("/index", json=first)) == {id: "unchanged"}
    second = {**shape, "data": [{"id": id, "text": f"two walruses for {name}"}]}
    assert outcomes(name, http.put("/update", json=second)) == {id: "replaced"}
    assert text_of(http, id) == f"two walruses for {name}"
    third = {**shape, "data": [{"id": id, "text": f"no walrus for {name}"}]}
    assert outcomes(name, http.post("/update", json=third)) == {id: "replaced"}
    found = http.post("/v1/search", json={"text": f"no walrus for {name}", "modality": "text", "top_k": 1})
    assert [match["id"] for match in found.json()["results"][0]["matches"]] == [id]
    gone = {**shape, "data": [{"id": id}, {"id": "nobody"}]}
    assert outcomes(name, http.request("DELETE", "/delete", json=gone)) == {
        id: "deleted",
        "nobody": "missing",
    }
    assert outcomes(name, http.post("/delete", json=gone)) == {id: "missing", "nobody": "missing"}
    assert text_of(http, id) is None


def test_post_goes_where_its_header_says(http: httpx2.Client) -> None:
    def post(endpoint: str, *data: Json) -> dict[str, str]:
        body = {"data": list(data), "header": {"exec_endpoint": endpoint}}
        return outcomes("jina3", http.post("/post", json=body))

    assert post("/index", {"id": "posted", "text": "an otter"}) == {"posted": "added"}
    assert post("/update", {"id": "posted", "text": "a sea otter"}) == {"posted": "replaced"}
    assert text_of(http, "posted") == "a sea otter"
    assert post("/delete", {"id": "posted"}) == {"posted": "deleted"}


def test_an_update_adds_nothing(http: httpx2.Client) -> None:
    answer = http.post("/update", json={"data": [{"id": "absent", "text": "nothing yet"}]})
    assert answer.status_code == 422
    assert "There is no caption with the id 'absent' to update" in answer.text
    assert text_of(http, "absent") is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://example.com"},
        {"Origin": "null"},
        {"Origin": "http://example.com:1", "Host": "example.com:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/index", '{"data": [{"id": "foreign", "text": "from another page"}]}'),
        ("POST", "/api/index", '{"data": [{"id": "foreign", "text": "from another page"}]}'),
        ("POST", "/update", '{"data": [{"id": "kept", "text": "changed"}]}'),
        ("PUT", "/update", '{"data": [{"id": "kept", "text": "changed"}]}'),
        ("POST", "/delete", '{"ids": ["kept"]}'),
        ("DELETE", "/api/delete", '{"ids": ["kept"]}'),
        ("POST", "/post", '{"ids": ["kept"], "execEndpoint": "/delete"}'),
    ],
)
def test_pages_of_other_origins_change_nothing(
    http: httpx2.Client, headers: dict[str, str], method: str, path: str, body: str
) -> None:
    added = http.post("/index", json={"data": [{"id": "kept", "text": "as it was"}]})
    assert added.status_code == 200
    # As plain text, a browser asks nobody before it sends this.
    answer = http.request(method, path, content=body, headers={"Content-Type": "text/plain", **headers})
    assert answer.status_code == 403, answer.text
    assert text_of(http, "kept") == "as it was"
    assert text_of(http, "foreign") is None
