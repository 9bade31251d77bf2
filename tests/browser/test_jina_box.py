"""Jina Box, both versions that speak to this server, in a page of another origin."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TOY_IMAGES, Server, copy_index, start_server
from playwright.sync_api import Page, expect

from browser.jina_box import VERSIONS, JinaBox, matches
from browser.page_driver import eventually
from browser.site import Site, serving
from browser.watch import Watch
from crossmodal.access.keys import KeyFile

RECORDED = Path(__file__).resolve().parents[1] / "recorded"

REFUSED = r"^console: Failed to load resource: the server responded with a status of 4\d\d"

Open = Callable[..., JinaBox]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """The pages that Jina Box stands on; the servers are started with its origin."""
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def toy_server(toy_workspace: Path, site: Site) -> Iterator[Server]:
    """A query server over the toy index that pages of ``site`` may read."""
    server = start_server("query_restful", "--workspace", toy_workspace, "--allow-origin", site.url)
    yield server
    server.stop()


# Both versions send the same requests but for their photos; the older one's other tests are slow ones.
@pytest.fixture(params=[pytest.param(VERSIONS[0], marks=pytest.mark.slow), VERSIONS[1]])
def open_box(request: pytest.FixtureRequest, page: Page, site: Site, watch: Watch) -> Open:
    """Opens Jina Box on an endpoint."""

    def opened(endpoint: str, **settings: Any) -> JinaBox:
        return JinaBox(page, site, watch, request.param, endpoint, **settings)

    return opened


def test_typing_finds_photos(open_box: Open, toy_server: Server) -> None:
    for path in ("/search", "/api/search"):
        box = open_box(toy_server.url + path)
        box.type("a rocket on the launch pad")
        # All fifteen: it asks for 16 by default.
        shown = box.photos(15)
        status, answer = toy_server.request(path, box.sent[0])
        assert status == 200
        assert shown == [match["uri"] for match in matches(answer)]
        assert shown[0] == f"{toy_server.url}/images/{matches(answer)[0]['id']}"
        assert matches(answer)[0]["tags"]["file"] == "rocket.jpg"
        expect(box.page.locator(".jina-results-label")).to_have_text(
            re.compile(r"^15 results in [\d.]+ seconds$")
        )


@pytest.mark.parametrize("open_box", VERSIONS, indirect=True)
def test_it_sends_what_was_recorded(
    open_box: Open, toy_server: Server, site: Site, watch: Watch, tmp_path: Path
) -> None:
    watch.expect(REFUSED)
    box = open_box(
        f"{toy_server.url}/search",
        photo=site.add("/cat.jpg", "image/jpeg", (TOY_IMAGES / "cat.jpg").read_bytes()),
    )
    recorded = json.loads((RECORDED / f"jina_box_{box.version}.json").read_text(encoding="utf-8"))
    bodies = {request["name"]: request["body"] for request in recorded["requests"]}
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(base64.b64decode(bodies["an uploaded photo"]["data"][0].partition(",")[2]))

    box.drag_photo_of_the_page()
    box.error()
    box.acknowledge()
    box.type("a rocket on the launch pad")
    first = box.photos(15)[0]
    box.page.locator(".jina-result-0").click()
    # All 16 that it asks for by default: there are 41 captions.
    box.captions(16)
    box.type("")
    box.error()
    box.acknowledge()
    box.upload(photo)
    box.captions(16)
    box.upload(photo, photo)
    expect(box.page.locator(".jina-results-tab")).to_have_count(2)

    names = [
        "a photo dragged from another page",
        "typed",
        "a photo that was clicked",
        "Enter in the empty box",
        "an uploaded photo",
        "two uploaded photos",
    ]
    addresses = {
        "{server}/images/{photo}": first,
        "http://127.0.0.1:8000/cat.jpg": f"{site.url}/cat.jpg",
    }
    assert set(names) == set(bodies)
    for name, sent in zip(names, box.sent, strict=True):
        data = [addresses.get(item, item) for item in bodies[name]["data"]]
        assert sent == {**bodies[name], "data": data}


def test_top_k_is_honoured(open_box: Open, toy_server: Server) -> None:
    box = open_box(f"{toy_server.url}/search", top_k=4)
    box.type("a cat")
    shown = box.photos(4)
    _, answer = toy_server.request("/search", {"data": ["a cat"], "mode": "search", "top_k": 15})
    assert shown == [match["uri"] for match in matches(answer)][:4]


def test_a_photo_finds_captions(open_box: Open, toy_server: Server) -> None:
    box = open_box(f"{toy_server.url}/search", top_k=5)
    for sent, (way, photo) in enumerate(((box.drop, "coffee.jpg"), (box.upload, "cat.jpg"))):
        way(TOY_IMAGES / photo)
        expect(box.page.locator(".jina-result")).to_have_count(5)
        eventually(lambda sent=sent: len(box.sent), sent + 1)
        _, answer = toy_server.request("/search", box.sent[sent])
        eventually(lambda: box.captions(5), [match["text"] for match in matches(answer)])
        assert matches(answer)[0]["tags"]["file"] == photo


def test_several_photos_at_once_each_have_a_tab(open_box: Open, toy_server: Server) -> None:
    box = open_box(f"{toy_server.url}/search", top_k=3)
    box.upload(TOY_IMAGES / "cat.jpg", TOY_IMAGES / "retina.jpg")
    expect(box.page.locator(".jina-results-tab")).to_have_count(2)
    _, answer = toy_server.request("/search", box.sent[0])
    for number, doc in enumerate(answer["data"]["docs"]):
        box.page.locator(f".jina-results-tab-{number}").click()
        assert box.captions(3) == [match["text"] for match in doc["matches"]]


def test_a_click_on_a_photo_finds_its_captions_and_a_click_on_one_finds_photos(
    open_box: Open, toy_server: Server
) -> None:
    box = open_box(f"{toy_server.url}/search", top_k=4)
    box.type("people climb the stairs")
    first = box.photos(4)[0]
    box.page.locator(".jina-result-0").click()
    captions = box.captions(4)
    assert box.sent[1]["data"] == [first]
    _, answer = toy_server.request("/search", box.sent[1])
    assert captions == [match["text"] for match in matches(answer)]
    assert "People climb the outdoor stairs of a steel tower." in captions

    box.page.locator(".jina-result-0").click()
    shown = box.photos(4)
    assert box.input.input_value() == captions[0]
    _, answer = toy_server.request("/search", {"data": [captions[0]], "mode": "search", "top_k": 4})
    assert shown == [match["uri"] for match in matches(answer)]


def test_a_photo_of_this_server_dragged_from_a_page(open_box: Open, toy_server: Server) -> None:
    _, answer = toy_server.request("/search", {"data": ["a cat"], "mode": "search"})
    cat = matches(answer)[0]
    box = open_box(f"{toy_server.url}/search", top_k=3, photo=cat["uri"])
    box.drag_photo_of_the_page()
    assert box.captions(3) == [
        match["text"]
        for match in matches(
            toy_server.request("/search", {"data": [cat["uri"]], "mode": "search", "top_k": 3})[1]
        )
    ]
    assert box.sent[0]["data"] == [cat["uri"]]


def test_a_photo_of_elsewhere_dragged_from_a_page_is_refused_and_never_fetched(
    open_box: Open, toy_server: Server, site: Site, watch: Watch
) -> None:
    watch.expect(REFUSED)
    address = site.add("/cat.jpg", "image/jpeg", (TOY_IMAGES / "cat.jpg").read_bytes())
    box = open_box(f"{toy_server.url}/search", photo=address)
    box.drag_photo_of_the_page()
    assert "never fetches a URL" in box.error()
    assert box.sent[0]["data"] == [address]


def test_a_query_that_is_refused_is_shown_as_an_error(
    open_box: Open, toy_server: Server, watch: Watch
) -> None:
    watch.expect(REFUSED)
    box = open_box(f"{toy_server.url}/search")
    for text, sentence in (
        ("", "The query data[0] is empty; it needs at least one word."),
        ("x" * 2001, "The query data[0] has 2,001 characters; the limit is 2,000. Shorten it."),
        ("file:///etc/passwd", "never fetches a URL or opens a path"),
        ("data:image/png;base64,<b>", "The data URI is not valid base64: it starts with '<b>'."),
    ):
        box.type(text)
        assert sentence in box.error()
        box.acknowledge()
    box.type("a cat")
    assert len(box.photos(15)) == 15


def test_a_file_that_is_no_photo_is_shown_as_an_error(
    open_box: Open, toy_server: Server, watch: Watch, tmp_path: Path
) -> None:
    watch.expect(REFUSED)
    for name, content, sentence in (
        ("paper.pdf", b"%PDF-1.7", "data[0] holds 'application/pdf'; only images and text can be used."),
        ("torn.jpg", b"\xff\xd8\xff\xe0 and no more", "The JPEG file of 16 bytes is damaged or cut off"),
    ):
        file = tmp_path / name
        file.write_bytes(content)
        box = open_box(f"{toy_server.url}/search")
        box.upload(file)
        assert sentence in box.error()


def test_what_else_is_refused_is_shown_as_an_error(open_box: Open, toy_server: Server, watch: Watch) -> None:
    watch.expect(REFUSED)
    for top_k in (0, 5000):
        box = open_box(f"{toy_server.url}/search", top_k=top_k)
        box.type("a cat")
        assert box.error() == f"parameters.top_k is {top_k}; it has to be a whole number from 1 to 1,000."
    box = open_box(f"{toy_server.url}/api/serach")
    box.type("a cat")
    assert "POST /api/serach is not served here" in box.error()


def test_of_two_files_the_one_that_can_be_read_is_answered(
    open_box: Open, toy_server: Server, tmp_path: Path
) -> None:
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(b"\xff\xd8\xff\xe0 and no more")
    box = open_box(f"{toy_server.url}/search", top_k=2)
    box.drop(TOY_IMAGES / "cat.jpg", torn)
    shown = box.captions(2)
    # The two files are read at the same time: which of them comes first is not certain.
    assert len(box.sent[0]["data"]) == 2
    cat = "data:image/jpeg;base64," + base64.b64encode((TOY_IMAGES / "cat.jpg").read_bytes()).decode()
    _, answer = toy_server.request("/search", {"data": [cat], "mode": "search", "top_k": 2})
    assert shown == [match["text"] for match in matches(answer)]


def test_a_key_in_its_address_finds_and_shows_photos(
    open_box: Open, toy_workspace: Path, tmp_path: Path, site: Site
) -> None:
    workspace = copy_index(toy_workspace, tmp_path / "workspace")
    key = KeyFile(workspace).add("box", "read")
    server = start_server("query_restful", "--workspace", workspace, "--allow-origin", site.url)
    try:
        box = open_box(f"{server.url}/search?key={key}", top_k=3)
        box.type("a cat")
        shown = box.photos(3)
        assert all(address.endswith(f"?key={key}") for address in shown)
        box.page.locator(".jina-result-0").click()
        box.captions(3)
        assert key not in server.output()
    finally:
        server.stop()
