"""Searching over HTTP on the toy photos, as each kind of client does it."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, TOY_IMAGES, Server
from PIL import Image

from crossmodal import limits

SENTENCE = "a rocket on the launch pad"


def data_uri(name: str) -> str:
    return "data:image/jpeg;base64," + base64.b64encode((TOY_IMAGES / name).read_bytes()).decode()


def matches(server: Server, data: list[Any], **body: Any) -> list[dict[str, Any]]:
    """The first query's matches in the shape of jina 1."""
    status, answer = server.request("/search", {"data": data, "mode": "search", **body})
    assert status == 200, answer
    found: list[dict[str, Any]] = answer["search"]["docs"][0]["matches"]
    return found


def test_the_curl_of_the_readme(toy_server: Server) -> None:
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    command = next(line for line in lines if line.startswith("curl --request POST"))
    assert "http://localhost:45678/search" in command
    words = shlex.split(command.replace("http://localhost:45678", toy_server.url))
    answer = json.loads(subprocess.run([*words, "-sS"], capture_output=True, check=True).stdout)
    (doc,) = answer["search"]["docs"]
    assert doc["text"] == "hello world"
    assert len(doc["matches"]) == 5
    for match in doc["matches"]:
        assert match["mimeType"] == "image/jpeg"
        with urllib.request.urlopen(match["uri"]) as photo:
            assert photo.headers["Content-Type"] == "image/jpeg"
            assert photo.read() == (TOY_IMAGES / match["tags"]["file"]).read_bytes()


def test_top_k_is_honoured_exactly_and_is_prefix_stable(toy_server: Server) -> None:
    fifteen = matches(toy_server, [SENTENCE], top_k=15)
    assert len(fifteen) == 15
    # By cosine minus hubness; "score" is the cosine.
    _, answer = toy_server.request("/v1/search", {"text": SENTENCE, "top_k": 15})
    native = answer["results"][0]["matches"]
    assert [m["id"] for m in fifteen] == [m["id"] for m in native]
    assert [m["score"]["value"] for m in fifteen] == pytest.approx([m["cosine"] for m in native], abs=1e-6)
    for k in (1, 5, 14):
        assert [(m["id"], m["score"]["value"]) for m in matches(toy_server, [SENTENCE], top_k=k)] == [
            (m["id"], m["score"]["value"]) for m in fifteen[:k]
        ]
    everything = matches(toy_server, [SENTENCE], top_k=1000)
    assert len(everything) == len(list(TOY_IMAGES.glob("*.jpg")))


def test_a_photo_finds_captions_by_upload_and_by_its_address_here(toy_server: Server) -> None:
    uploaded = matches(toy_server, [data_uri("coffee.jpg")], top_k=6)
    assert {match["mimeType"] for match in uploaded} == {"text/plain"}
    assert all(match["text"] for match in uploaded)
    photo = next(m for m in matches(toy_server, ["coffee"], top_k=15) if m["tags"]["file"] == "coffee.jpg")
    clicked = matches(toy_server, [photo["uri"]], top_k=6)
    assert [(m["id"], m["score"]["value"]) for m in clicked] == [
        (m["id"], m["score"]["value"]) for m in uploaded
    ]
    with urllib.request.urlopen(uploaded[0]["tags"]["photo"]) as answer:
        assert answer.status == 200


def test_several_queries_of_both_modalities_in_one_request(toy_server: Server) -> None:
    status, answer = toy_server.request(
        "/search", {"data": ["a cat", data_uri("cat.jpg"), "gravel"], "mode": "search", "top_k": 4}
    )
    assert status == 200
    docs = answer["search"]["docs"]
    assert [doc["mimeType"] for doc in docs] == ["text/plain", "image/jpeg", "text/plain"]
    assert [match["id"] for match in docs[0]["matches"]] == [
        match["id"] for match in matches(toy_server, ["a cat"], top_k=4)
    ]
    assert docs[0]["matches"] != docs[2]["matches"]


def test_every_client_gets_its_own_envelope_with_the_same_results(toy_server: Server) -> None:
    bodies: dict[str, tuple[str, dict[str, Any]]] = {
        "jina 1": ("/api/search", {"data": [SENTENCE], "top_k": 3}),
        "jina 2": ("/search", {"data": [SENTENCE], "parameters": {"top_k": 3}}),
        "jina 3": ("/search", {"data": [{"text": SENTENCE}], "parameters": {"top_k": 3}}),
        "jina 3 client": (
            "/post",
            {
                "header": {"exec_endpoint": "/search"},
                "parameters": {"top_k": 3.0},
                "data": [{"text": SENTENCE}],
            },
        ),
        "Jina Box": ("/search", {"data": [SENTENCE], "parameters": {"top_k": 3}, "mode": "search"}),
    }
    docs = {}
    for client, (path, body) in bodies.items():
        status, answer = toy_server.request(path, body)
        assert status == 200, (client, answer)
        held = answer["search"]["docs"] if "search" in answer else answer["data"]
        docs[client] = held["docs"][0] if isinstance(held, dict) else held[0]
    found = {client: [match["id"] for match in doc["matches"]] for client, doc in docs.items()}
    assert {tuple(ids) for ids in found.values()} == {tuple(found["jina 1"])}
    assert len(found["jina 1"]) == 3
    assert "score" in docs["jina 1"]["matches"][0]
    assert "adjacency" in docs["jina 2"]["matches"][0]
    assert "mime_type" in docs["jina 3"]["matches"][0]
    assert {"mimeType", "mime_type", "score", "scores"} <= set(docs["Jina Box"]["matches"][0])


BAD_REQUESTS: dict[str, tuple[Any, int, str]] = {
    "not JSON": (b"{", 400, "not JSON"),
    "nothing": (b"", 400, "empty"),
    "a list": ([1], 400, "JSON object"),
    "no data": ({"mode": "search"}, 400, "'data' is missing"),
    "an empty query": ({"data": [""], "mode": "search", "parameters": {}}, 400, "empty"),
    "a long query": ({"data": ["word " * 2000], "top_k": 1}, 400, "2,000"),
    "top_k 0": ({"data": ["a"], "top_k": 0}, 400, "top_k"),
    "top_k 1001": ({"data": ["a"], "top_k": 1001}, 400, "1,000"),
    "a URL": ({"data": ["http://169.254.169.254/latest/meta-data"], "top_k": 1}, 400, "never"),
    "a path as a URL": ({"data": [{"uri": "file:///etc/passwd"}]}, 400, "never"),
    "a path": ({"data": [{"uri": "/etc/passwd"}]}, 400, "never"),
    "an unknown photo": ({"data": ["/images/0000"], "top_k": 1}, 422, "no photo"),
    "not a photo": ({"data": ["data:image/jpeg;base64,aGVsbG8gd29ybGQ="], "top_k": 1}, 422, "not an image"),
    "half a photo": ({"data": [data_uri("cat.jpg")[:9023]], "top_k": 1}, 422, "truncated"),
    "an endpoint": ({"header": {"exec_endpoint": "/drop"}, "data": [{"text": "a"}]}, 404, "/delete"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_a_4xx_with_a_sentence_in_the_envelope(toy_server: Server, name: str) -> None:
    body, expected, words = BAD_REQUESTS[name]
    path = "/post" if name == "an endpoint" else "/search"
    status, answer = toy_server.request(path, body)
    assert status == expected, answer
    said = json.dumps(answer)
    assert words in said
    assert "Traceback" not in said
    assert not {"search", "data", "header"}.isdisjoint(answer)


def test_a_bad_query_leaves_its_neighbours_alone(toy_server: Server) -> None:
    status, answer = toy_server.request(
        "/search", {"data": ["a cat", "http://example.com/a.jpg", data_uri("cat.jpg")[:9023]], "top_k": 2}
    )
    assert status == 200
    good, refused, truncated = answer["search"]["docs"]
    assert len(good["matches"]) == 2
    assert "never" in refused["tags"]["error"]
    assert "truncated" in truncated["tags"]["error"]
    assert refused["matches"] == truncated["matches"] == []


def test_a_body_that_is_too_large_is_refused(toy_server: Server) -> None:
    try:
        status, answer = toy_server.request(
            "/search", b'{"data": ["' + b"a" * (limits.BODY.most + 1) + b'"]}', timeout=60
        )
    except OSError:
        # The server may close the connection while the rest is still on its way; it goes on all the same.
        assert toy_server.request("/healthz")[0] == 200
        return
    assert status == 413
    assert f"{limits.BODY.most >> 20} MiB" in json.dumps(answer)


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("GET", "/search"), ("POST", "/images/1")])
def test_other_routes_get_an_envelope_too(toy_server: Server, method: str, path: str) -> None:
    status, answer = toy_server.request(path, {} if method == "POST" else None)
    assert status in (404, 405)
    assert f"{method} {path}" in answer["status"]["description"]


def test_status_and_health(toy_server: Server) -> None:
    assert toy_server.request("/healthz") == (200, {"status": "ok", "flow": "query"})
    status, answer = toy_server.request("/status")
    assert status == 200
    assert answer["modalities"]["image"]["documents"] == len(list(TOY_IMAGES.glob("*.jpg")))


def test_pages_of_other_origins_may_not_ask(toy_server: Server) -> None:
    request = urllib.request.Request(
        toy_server.url + "/search",
        method="OPTIONS",
        headers={
            "Origin": "http://example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value as answer:
        assert answer.code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "--allow-origin http://example.com" in answer.read().decode()


def test_paths_of_the_server_are_not_told(toy_server: Server, toy_workspace: Path) -> None:
    for path in ("/status", "/v1/status", "/healthz", "/metrics", "/v1/models"):
        with urllib.request.urlopen(toy_server.url + path) as told:
            assert str(toy_workspace) not in told.read().decode()
    status, answer = toy_server.request("/search", {"data": ["a cat", data_uri("cat.jpg")], "top_k": 9})
    assert status == 200
    assert str(REPOSITORY) not in json.dumps(answer)


def test_thirty_two_clients_at_once_all_get_their_own_answer(toy_server: Server) -> None:
    sentences = [f"a {word} number {n}" for n in range(4) for word in ("cat", "rocket", "coin", "lawn")]
    alone = {s: [m["id"] for m in matches(toy_server, [s], top_k=5)] for s in sentences}
    with ThreadPoolExecutor(32) as clients:
        found = list(
            clients.map(lambda s: [m["id"] for m in matches(toy_server, [s], top_k=5)], sentences * 4)
        )
    assert found == [alone[s] for s in sentences * 4]


def test_many_pixels_in_a_small_body_do_not_stop_the_others(toy_server: Server) -> None:
    held = BytesIO()
    Image.new("RGB", (6000, 5000)).save(held, "PNG")
    large = "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()
    body = {"data": [large] * 3, "top_k": 2, "mode": "search"}
    status, answer = toy_server.request("/search", body, timeout=120)
    assert status == 200
    found = [[match["id"] for match in doc["matches"]] for doc in answer["search"]["docs"]]
    assert found == [found[0]] * 3


@pytest.mark.parametrize("host", ["[::1", 'evil"<script>', "a b", "x" * 10 + ":999999"])
def test_a_host_that_is_none_is_refused_in_an_envelope(toy_server: Server, host: str) -> None:
    status, answer = toy_server.request("/search", {"data": ["a cat"], "top_k": 2}, headers={"Host": host})
    assert status == 400
    assert "Host header" in answer["status"]["description"]
