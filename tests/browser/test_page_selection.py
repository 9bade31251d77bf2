"""Selecting many photos: by clicks, keys and the mouse, and what is done with all of them at once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx2
import pytest
from conftest import TOY_IMAGES, Server
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from browser.accessibility import assert_accessible
from browser.page_driver import File, SearchPage, changed_file, eventually
from browser.watch import Watch

SENTENCE = "an animal among green leaves"


@pytest.fixture
def found(page: Page, toy_server: Server) -> SearchPage:
    return SearchPage(page, toy_server).open(text=SENTENCE).settled()


def selected(searching: SearchPage) -> list[str]:
    """The ids of the tiles that look selected, in the order in which they stand."""
    ids: list[str] = searching.page.evaluate(
        "() => [...document.querySelectorAll('#results .tile:has([data-testid=select][aria-pressed=true])')]"
        ".map(tile => tile.dataset.id)"
    )
    return ids


def ring(searching: SearchPage, id: str) -> Locator:
    return searching.result(id).get_by_test_id("select")


def test_clicks_and_shift_select_and_escape_ends_it(found: SearchPage) -> None:
    ids = found.shown()
    expect(found.page.locator("#selection")).to_be_hidden()
    found.result(ids[1]).hover()
    ring(found, ids[1]).click()
    assert selected(found) == [ids[1]]
    # Now a click anywhere on a photo selects it, and Shift all up to it.
    found.result(ids[4]).get_by_test_id("open-result").click(modifiers=["Shift"])
    assert selected(found) == ids[1:5]
    found.result(ids[2]).get_by_test_id("open-result").click()
    assert selected(found) == [ids[1], ids[3], ids[4]]
    expect(found.page.locator("#lightbox")).to_be_hidden()
    expect(found.find("selection-count")).to_have_text("3 selected")
    assert_accessible(found.page)
    found.page.keyboard.press("Escape")
    assert selected(found) == []
    expect(found.page.locator("#selection")).to_be_hidden()


def test_keys_select(found: SearchPage) -> None:
    ids = found.shown()
    found.result(ids[0]).get_by_test_id("open-result").focus()
    found.page.keyboard.press("x")
    assert selected(found) == ids[:1]
    found.page.keyboard.press("Shift+ArrowRight")
    found.page.keyboard.press("Shift+ArrowRight")
    assert selected(found) == ids[:3]
    found.page.keyboard.press("Control+a")
    assert selected(found) == ids
    expect(found.find("selection-count")).to_have_text(f"{len(ids)} selected")


def test_the_mouse_draws_over_photos_from_a_ring(found: SearchPage) -> None:
    ids = found.shown()
    found.result(ids[0]).hover()
    start, end = ring(found, ids[0]).bounding_box(), found.result(ids[2]).bounding_box()
    assert start is not None
    assert end is not None
    found.page.mouse.move(start["x"] + 5, start["y"] + 5)
    found.page.mouse.down()
    found.page.mouse.move(end["x"] + 30, end["y"] + 60, steps=8)
    found.page.mouse.up()
    assert selected(found) == ids[:3]


def test_all_of_them_are_searched_for_and_their_paths_copied(
    found: SearchPage, context: BrowserContext
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    ids = found.shown()[:2]
    for id in ids:
        found.result(id).hover()
        ring(found, id).click()
    found.find("selection-paths").click()
    expect(found.find("toast")).to_have_text(re.compile("2 paths copied"))
    tags = [found.server.request(f"/v1/documents/{id}")[1]["tags"] for id in ids]
    paths = ["/".join([*tag.get("folder", [])[-1:], tag["file"]]) for tag in tags]
    assert found.page.evaluate("() => navigator.clipboard.readText()") == "\n".join(paths)
    found.find("selection-search").click()
    found.settled()
    assert [(kind, value) for kind, value, _ in found.terms()] == [("id", id) for id in ids]


def test_a_search_goes_on_within_them(found: SearchPage) -> None:
    ids = found.shown()
    chosen = [ids[1], ids[4], ids[6]]
    for id in chosen:
        ring(found, id).evaluate("ring => ring.click()")
    found.find("selection-within").click()
    expect(found.find("gallery")).to_be_visible()
    expect(found.find("active-filter")).to_have_text("among 3 selected photos")
    expect(found.box).to_be_focused()
    assert set(found.shown()) == {*chosen}
    found.search("a rocket")
    assert set(found.shown()) == {*chosen}
    found.expect_ids(found.asked_ids(text="a rocket", filter={"$ids": chosen}))
    assert json.loads(dict(found.parameters())["filter"]) == {"$ids": chosen}
    found.find("active-filter").click()
    eventually(lambda: len(found.settled().shown()) > 3, True)


def test_they_are_downloaded_as_a_zip(found: SearchPage) -> None:
    ids = found.shown()[:5]
    for id in ids:
        ring(found, id).evaluate("ring => ring.click()")
    with found.page.expect_download() as download:
        found.find("selection-download").click()
    with ZipFile(download.value.path()) as archive:
        files = {Path(name).name: archive.read(name) for name in archive.namelist()}
    names = [found.server.request(f"/v1/documents/{id}")[1]["photo"]["file"] for id in ids]
    assert files == {name: (TOY_IMAGES / name).read_bytes() for name in names}
    # The page stays, and so does what is selected.
    assert len(selected(found)) == 5


def test_a_download_that_is_refused_leaves_the_page_as_it_is(found: SearchPage, watch: Watch) -> None:
    watch.expect("status of 422")
    said = {"title": "A value cannot be used", "detail": "No more than 3 photos.", "status": 422}
    found.page.route(
        "**/v1/documents/archive",
        lambda route: route.fulfill(
            status=422, content_type="application/problem+json", body=json.dumps(said)
        ),
    )
    ring(found, found.shown()[0]).evaluate("ring => ring.click()")
    address = found.page.url
    found.find("selection-download").click()
    expect(found.find("toast")).to_contain_text("No more than 3 photos.")
    assert found.page.url == address
    assert len(selected(found)) == 1


@pytest.fixture
def gallery(page: Page, writable_server: Server) -> SearchPage:
    searching = SearchPage(page, writable_server).open()
    expect(searching.find("gallery")).to_be_visible()
    return searching


def choose(searching: SearchPage, ids: list[str]) -> None:
    for id in ids:
        ring(searching, id).evaluate("ring => ring.click()")


def test_tags_are_given_to_all_and_taken_back_alone(gallery: SearchPage) -> None:
    first, second = gallery.shown()[:2]

    def keywords() -> list[object]:
        return [
            gallery.server.request(f"/v1/documents/{id}")[1]["tags"].get("keywords") for id in (first, second)
        ]

    def change(**body: Any) -> None:
        httpx2.patch(f"{gallery.server.url}/v1/documents/{first}", json=body).raise_for_status()

    assert keywords() == [None, None]
    choose(gallery, [first, second])
    # What this page doesn't know of: somebody else has tagged one of them, and tags it once more.
    change(add={"tags": {"keywords": ["holiday"]}})
    gallery.find("selection-tag").click()
    gallery.find("tag-names").fill("holiday, 2024")
    gallery.find("tag-save").click()
    expect(gallery.find("toast")).to_contain_text("2 photos tagged.")
    assert keywords() == [["holiday", "2024"]] * 2
    change(add={"tags": {"keywords": ["theirs"]}})
    gallery.find("undo").click()
    eventually(keywords, [["holiday", "theirs"], None])
    change(tags={"keywords": None})


def test_a_deletion_is_taken_back(gallery: SearchPage) -> None:
    deletions = sent_deletions(gallery)
    gallery.page.clock.install()
    ids = gallery.shown()
    choose(gallery, [ids[0], ids[2]])
    gallery.find("selection-delete").click()
    expect(gallery.page.locator("#selection")).to_be_hidden()
    assert gallery.shown() == [ids[1], *ids[3:]]
    gallery.find("undo").click()
    eventually(gallery.shown, ids)
    # The time in which it could be taken back is over.
    gallery.page.clock.run_for(9000)
    assert deletions == []


def sent_deletions(searching: SearchPage) -> list[list[str]]:
    """What the page has deleted: the ids of each request."""
    sent: list[list[str]] = []
    searching.page.on(
        "request",
        lambda request: sent.append(request.post_data_json["ids"]) if "deletion" in request.url else None,
    )
    return sent


def add(server: Server, files: list[File]) -> list[str]:
    """Sends photos to the server; their ids."""
    parts = [("file", (file.name, file.content, file.type)) for file in files]
    answer = httpx2.post(f"{server.url}/v1/documents", files=parts, timeout=60).json()
    return [each["id"] for each in answer["results"]]


@pytest.mark.parametrize("phone", [False, True])
def test_who_leaves_has_deleted_all_of_it_at_once(
    browser: Browser, writable_server: Server, phone: bool
) -> None:
    files = [changed_file("cat.jpg", f"leaving-{n}.jpg", size=(90 + n, 60)) for n in range(3)]
    ids = add(writable_server, files)
    context = browser.new_context(has_touch=phone, is_mobile=phone)
    searching = SearchPage(context.new_page(), writable_server).open()
    expect(searching.result(ids[0])).to_be_attached()
    deletions = sent_deletions(searching)
    choose(searching, ids)
    searching.find("selection-delete").click()
    expect(searching.find("undo")).to_be_visible()
    hide = "Object.defineProperty(document, 'hidden', { value: true })"
    searching.page.evaluate(f"() => {{ {hide}; document.dispatchEvent(new Event('visibilitychange')); }}")
    # A phone may end the page now; elsewhere one comes back from another tab.
    if not phone:
        expect(searching.find("undo")).to_be_visible()
        searching.page.evaluate(
            "() => dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))"
        )
    expect(searching.find("toast")).to_have_count(0)
    eventually(lambda: {writable_server.request(f"/v1/documents/{id}")[0] for id in ids}, {404})
    assert deletions == [ids]
    if not phone:
        # What is indexed again is shown again.
        searching.page.get_by_role("link", name="Add photos").click()
        searching.find("choose-photos-input").set_input_files([file.for_chooser() for file in files])
        searching.find("upload-see").click()
        expect(searching.result(ids[0])).to_be_attached()
        writable_server.request("/v1/documents/deletion", {"ids": ids})
    context.close()


def test_more_photos_follow_when_all_that_are_shown_are_deleted(page: Page, writable_server: Server) -> None:
    def some(route: Route) -> None:
        route.continue_(url=route.request.url.replace("limit=48", "limit=4"))

    page.route("**/v1/documents?modality=image*", some)
    gallery = SearchPage(page, writable_server).open()
    expect(gallery.find("gallery")).to_be_visible()
    ids = gallery.shown()
    assert len(ids) == 4
    choose(gallery, ids)
    gallery.find("selection-delete").click()
    eventually(lambda: len(set(gallery.shown()) - set(ids)), 4)
    gallery.find("undo").click()
    eventually(lambda: gallery.shown()[:4], ids)
