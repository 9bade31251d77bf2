"""Bodies that clients were recorded to send, replayed: their envelopes key by key, equal matches in all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Server

RECORDED = Path(__file__).parent / "recorded"
REQUESTS = {
    f"{file.stem}: {request['name']}": request
    for file in sorted(RECORDED.glob("*.json"))
    for request in json.loads(file.read_text(encoding="utf-8"))["requests"]
}

# In the toy data.
PHOTOS = 15
CAPTIONS = 41

# An empty box, and an image of a page that this server neither fetches nor knows.
REFUSED = {"Enter in the empty box", "a photo dragged from another page"}

WHOLE = {
    "jinabox": {"requestId", "status", "routes", "search", "data"},
    "jina1": {"requestId", "search", "status", "routes"},
    "jina2": {"requestId", "data"},
    "jina3": {"header", "parameters", "routes", "data"},
}
# Of a query and of its matches, beside a text or the address of a photo.
QUERY = {
    "jinabox": {"id", "mimeType", "mime_type", "matches"},
    "jina1": {"id", "weight", "mimeType", "matches"},
    "jina2": {"id", "mimeType", "scores", "matches"},
    "jina3": {"id", "text", "mime_type", "uri", "url", "matches"},
}
MATCH = {
    "jinabox": {"id", "uri", "text", "mimeType", "mime_type", "score", "scores", "tags"},
    "jina1": {"id", "mimeType", "tags", "score"},
    "jina2": {"id", "mimeType", "tags", "adjacency", "scores"},
    "jina3": {"id", "uri", "url", "mime_type", "text", "tags", "scores"},
}
LEAVES_EMPTY_FIELDS_OUT = {"jina1", "jina2"}


def filled_in(value: Any, server: Server) -> Any:
    """A recorded value with this server's address and the id of one of its photos."""
    if isinstance(value, str) and "{server}" in value:
        _, answer = server.request("/search", {"data": ["a cup of coffee"], "mode": "search", "top_k": 1})
        photo = answer["search"]["docs"][0]["matches"][0]["id"]
        return value.replace("{server}", server.url).replace("{photo}", photo)
    if isinstance(value, dict):
        return {key: filled_in(item, server) for key, item in value.items()}
    return [filled_in(item, server) for item in value] if isinstance(value, list) else value


def wanted(body: dict[str, Any]) -> int:
    """The number of results that a body asks for."""
    parameters = body.get("parameters") or {}
    return int(body.get("top_k") or parameters.get("top_k") or parameters.get("limit") or 10)


def searched_for(item: Any) -> str:
    """What an item of ``data`` asks for, as one string."""
    if isinstance(item, str):
        return item
    if item.get("blob"):
        return "data:image/jpeg;base64," + item["blob"]
    return str(item.get("text") or item.get("uri") or item["url"])


def docs_of(answer: Any, envelope: str) -> list[dict[str, Any]]:
    """The queries with their matches, after checking everything around them."""
    assert set(answer) == WHOLE[envelope]
    if envelope == "jina3":
        assert set(answer["header"]) == {"requestId", "status", "execEndpoint", "targetExecutor"}
        assert answer["header"]["status"] is None
        assert answer["header"]["execEndpoint"] == "/search"
        (route,) = answer["routes"]
        assert set(route) == {"executor", "startTime", "endTime", "status"}
        return list(answer["data"])
    if envelope == "jina1":
        assert answer["status"] == {}
        (route,) = answer["routes"]
        assert set(route) == {"pod", "startTime", "endTime"}
        assert set(answer["search"]) == {"docs"}
        return list(answer["search"]["docs"])
    assert set(answer["data"]) == {"docs", "groundtruths"}
    assert answer["data"]["groundtruths"] == []
    if envelope == "jinabox":
        assert answer["status"] == {}
        assert answer["search"] == {"docs": answer["data"]["docs"]}
    return list(answer["data"]["docs"])


def cosine(match: dict[str, Any], envelope: str, query_id: str) -> float:
    """A match's score, after checking what stands around it."""
    if envelope in ("jina1", "jinabox"):
        assert set(match["score"]) == {"value", "opName", "refId"}
        assert (match["score"]["opName"], match["score"]["refId"]) == ("cosine", query_id)
    if envelope != "jina1":
        expected = {"value"} if envelope == "jina3" else {"value", "refId"}
        assert set(match["scores"]) == {"cosine"}
        assert set(match["scores"]["cosine"]) == expected
    value = match["score"]["value"] if "score" in match else match["scores"]["cosine"]["value"]
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize("name", [name for name in REQUESTS if name.split(": ")[1] not in REFUSED])
def test_a_recorded_search_gets_its_clients_envelope(toy_server: Server, name: str) -> None:
    request = REQUESTS[name]
    envelope = request["envelope"]
    body = filled_in(request["body"], toy_server)
    status, answer = toy_server.request(request["path"], body)
    assert status == 200, answer
    docs = docs_of(answer, envelope)
    assert len(docs) == len(body["data"])
    for item, doc in zip(body["data"], docs, strict=True):
        sent = searched_for(item)
        by_photo = sent.startswith(("data:", "http"))
        if isinstance(item, dict) and "id" in item:
            assert doc["id"] == item["id"]
        shown = set() if envelope == "jina3" else {"uri"} & set(doc) if by_photo else {"text"}
        assert set(doc) - QUERY[envelope] == shown
        if not by_photo:
            assert doc["text"] == sent

        reference = {"data": [sent], "mode": "search", "top_k": wanted(body)}
        expected = toy_server.request("/search", reference)[1]["search"]["docs"][0]["matches"]
        assert len(doc["matches"]) == min(wanted(body), CAPTIONS if by_photo else PHOTOS)
        for match, same in zip(doc["matches"], expected, strict=True):
            assert (match["id"], match["tags"]) == (same["id"], same["tags"])
            assert cosine(match, envelope, doc["id"]) == pytest.approx(same["score"]["value"], abs=1e-6)
            assert (match.get("mime_type") or match["mimeType"]) == same["mimeType"]
            own = {"text"} if by_photo else {"uri"}
            assert set(match) == MATCH[envelope] | (own if envelope in LEAVES_EMPTY_FIELDS_OUT else set())
            assert (match.get("text") or None) == same.get("text")
            assert (match.get("uri") or None) == same.get("uri")
            assert match.get("url", match.get("uri")) == match.get("uri")


@pytest.mark.parametrize("name", [name for name in REQUESTS if name.split(": ")[1] in REFUSED])
def test_a_recorded_search_that_is_refused_gets_an_envelope_that_its_client_can_show(
    toy_server: Server, name: str
) -> None:
    request = REQUESTS[name]
    status, answer = toy_server.request(request["path"], request["body"])
    assert 400 <= status < 500
    assert set(answer) == {"requestId", "status", "search", "data"}
    assert answer["status"]["code"] == "ERROR"
    assert len(answer["status"]["description"]) > 20
    assert answer["search"] == {"docs": []}
    assert answer["data"] == {"docs": [], "groundtruths": []}


def test_every_client_was_recorded() -> None:
    assert {file.stem for file in RECORDED.glob("*.json")} == {
        "jina_1",
        "jina_2",
        "jina_3",
        "jina_3_client",
        "jina_box_0.1.49",
        "jina_box_0.1.50",
    }
    assert {request["envelope"] for request in REQUESTS.values()} == set(WHOLE)
