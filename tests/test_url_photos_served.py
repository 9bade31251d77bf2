"""A serving process that is asked to fetch photos by URL, and one that isn't."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, copy_index, run_app, start_server
from photo_hosts import PHOTO, SECRET, PhotoHost, SecretHost
from two_networks import OUTSIDE, Machine, two_networks

URL = f"http://{OUTSIDE}/photo.jpg"
DATA_URI = "data:image/jpeg;base64," + base64.b64encode(PHOTO).decode()
INTERNAL = ["http://127.0.0.1/photo", "http://169.254.169.254/latest/meta-data/", "http://no.such.example/"]
LINES = {"Content-Type": "application/x-ndjson"}


@dataclass
class Site:
    inside: Machine
    server: Server
    outside: PhotoHost
    secret: SecretHost

    def ask(self, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """The status and the JSON of a POST; nothing of a secret is in it."""
        status, answer = self.inside.run(self.server.request, path, body, headers=headers)
        assert SECRET.decode() not in json.dumps(answer)
        return status, answer


@pytest.fixture(scope="module")
def served(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    copy = copy_index(toy_workspace, tmp_path_factory.mktemp("served") / "workspace")
    with two_networks() as (inside, outside):
        host, secret = outside.run(PhotoHost, 80), inside.run(SecretHost, 80)
        server = inside.run(start_server, "query_restful", "--workspace", copy, "--fetch-urls")
        yield Site(inside, server, host, secret)
        assert secret.requests == []
        assert inside.run(server.stop) == 0
        assert "Traceback" not in server.output()
        host.close()
        secret.close()


@pytest.fixture
def site(served: Site) -> Site:
    served.outside.requests.clear()
    return served


def found(answer: Any) -> list[tuple[str, float]]:
    return [(match["id"], match["cosine"]) for match in answer["results"][0]["matches"]]


def test_a_query_by_url_finds_what_the_photo_itself_finds(site: Site) -> None:
    status, by_url = site.ask("/v1/search", {"image": URL})
    assert status == 200, by_url
    assert len(found(by_url)) == 10
    assert found(by_url) == found(site.ask("/v1/search", {"image": DATA_URI})[1])
    terms = [{"text": "a cat"}, {"image": URL, "weight": -0.5}]
    same = [terms[0], {"image": DATA_URI, "weight": -0.5}]
    assert found(site.ask("/v1/search", {"terms": terms})[1]) == found(
        site.ask("/v1/search", {"terms": same})[1]
    )
    assert [path for path, _ in site.outside.requests] == ["/photo.jpg"] * 2


@pytest.mark.parametrize("url", INTERNAL)
def test_a_query_by_an_address_inside_is_refused(site: Site, url: str) -> None:
    status, answer = site.ask("/v1/search", {"image": url})
    assert (status, answer["errors"][0]["pointer"]) == (422, "/image")
    assert answer["detail"] == (
        "The photo's URL leads to no address on the internet; photos are fetched from nowhere else."
    )
    status, answer = site.ask("/v1/search", {"queries": [{"text": "a cat"}, {"image": url}]})
    assert status == 200
    assert answer["results"][0]["matches"]
    assert answer["results"][1]["error"]["errors"][0]["pointer"] == "/queries/1/image"


def test_only_http_is_fetched_and_no_path_is_opened(site: Site) -> None:
    for address in ("file:///etc/passwd", "/etc/passwd", f"ftp://{OUTSIDE}/photo.jpg"):
        status, answer = site.ask("/v1/search", {"image": address})
        assert status == 422
        assert "never opens a path for a client and fetches only http and https URLs" in answer["detail"]


def test_a_line_by_url_is_indexed_with_the_bytes_that_came(site: Site) -> None:
    lines = [
        {"id": "fetched", "image": URL, "captions": ["a fetched cat"], "tags": {"from": "afar"}},
        *({"image": url} for url in INTERNAL),
        {"image": f"http://{OUTSIDE}/page"},
    ]
    body = "\n".join(map(json.dumps, lines)).encode()
    status, answer = site.ask("/v1/documents", body, LINES)
    assert status == 200, answer
    assert [result.get("outcome") for result in answer["results"]] == [
        "added",
        "added",
        None,
        None,
        None,
        None,
    ]
    for result in answer["results"][2:5]:
        assert "leads to no address on the internet" in result["error"]
    assert "is no photo" in answer["results"][5]["error"]
    status, document = site.ask("/v1/documents/fetched", None)
    assert (status, document["tags"]["from"], document["captions"][0]["text"]) == (
        200,
        "afar",
        "a fetched cat",
    )
    content = site.server.url + "/v1/documents/fetched/content"
    with site.inside.run(urllib.request.urlopen, content, timeout=30) as stored:
        assert stored.read() == PHOTO


def test_clients_of_jina_may_name_a_photo_by_its_url(site: Site) -> None:
    status, answer = site.ask("/search", {"data": [URL, "a cat", INTERNAL[0]], "top_k": 3, "mode": "search"})
    assert status == 200, answer
    first, second, third = answer["search"]["docs"]
    assert len(first["matches"]) == len(second["matches"]) == 3
    assert not third.get("matches")
    status, answer = site.ask("/search", {"data": [{"uri": URL}], "parameters": {}})
    assert status == 200, answer
    status, answer = site.ask("/index", {"data": [{"id": "by-uri", "uri": URL}]})
    assert status == 200, answer
    assert site.ask("/v1/documents/by-uri", None)[1]["modality"] == "image"
    assert len(site.outside.requests) == 3
    status, answer = site.ask("/search", {"data": [INTERNAL[1]]})
    assert (status, "leads to no address on the internet" in json.dumps(answer)) == (400, True)


def test_nothing_is_fetched_for_who_may_not_write_nor_to_delete(site: Site) -> None:
    foreign = {"Origin": "http://evil.example"}
    assert site.ask("/index", {"data": [{"uri": URL}]}, foreign)[0] == 403
    line = json.dumps({"image": URL}).encode()
    assert site.ask("/v1/documents", line, {**LINES, **foreign})[0] == 403
    site.ask("/delete", {"data": [URL, {"id": "x", "uri": URL}]})
    # A URL beside a caption stays what it is: the client's own tag.
    assert site.ask("/index", {"data": [{"id": "told", "text": "a hill", "uri": URL}]})[0] == 200
    assert site.outside.requests == []
    assert site.ask("/v1/documents/told", None)[1]["tags"] == {"uri": URL}


def test_a_server_that_was_not_asked_to_names_the_option(toy_server: Server) -> None:
    status, answer = toy_server.request("/v1/search", {"image": URL})
    assert status == 422
    assert (
        "never fetches a URL or opens a path for a client (--fetch-urls lets it fetch URLs)"
        in answer["detail"]
    )
    assert "--fetch-urls" in json.dumps(toy_server.request("/search", {"data": [URL]}))
    line = json.dumps({"image": URL}).encode()
    assert "--fetch-urls" in json.dumps(toy_server.request("/v1/documents", line, headers=LINES))


def test_a_list_of_hosts_says_nothing_without_fetching(tmp_path: Path) -> None:
    done = run_app("serve", "--workspace", tmp_path, "--fetch-from", "photos.example")
    assert done.returncode == 2
    assert done.stderr == "error: --fetch-from has no meaning without --fetch-urls.\n"


def test_a_list_of_hosts_is_read_from_every_option(toy_workspace: Path) -> None:
    allowed = ("--fetch-from", "photos.example", "--fetch-from", "a host")
    done = run_app("serve", "--workspace", toy_workspace, "--fetch-urls", *allowed)
    assert done.returncode == 2
    assert "error: --fetch-from 'a host' is no host; write NAME, *.NAME for all below it" in done.stderr
