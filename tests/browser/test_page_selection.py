"""Selecting many photos: by clicks, keys and the mouse, and what is done with all of them at once."""

from __future__ import annotations

import re
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import TOY_IMAGES, Server
from playwright.sync_api import BrowserContext, Locator, Page, expect

from browser.accessibility import assert_accessible
from browser.page_driver import SearchPage, eventually

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


@pytest.fixture
def gallery(page: Page, writable_server: Server) -> SearchPage:
    searching = SearchPage(page, writable_server).open()
    expect(searching.find("gallery")).to_be_visible()
    return searching


def test_tags_are_given_to_all_and_taken_back(gallery: SearchPage) -> None:
    first, second = gallery.shown()[:2]

    def keywords() -> list[object]:
        return [
            gallery.server.request(f"/v1/documents/{id}")[1]["tags"].get("keywords") for id in (first, second)
        ]

    before = keywords()
    gallery.result(first).hover()
    ring(gallery, first).click()
    gallery.result(second).get_by_test_id("open-result").click()
    gallery.find("selection-tag").click()
    gallery.find("tag-names").fill("holiday, 2024")
    gallery.find("tag-save").click()
    expect(gallery.find("toast")).to_contain_text("2 photos tagged.")
    assert keywords() == [["holiday", "2024"]] * 2
    gallery.find("undo").click()
    eventually(keywords, before)


def test_a_deletion_is_taken_back(gallery: SearchPage) -> None:
    deleted: list[str] = []
    gallery.page.on("request", lambda sent: deleted.append(sent.url) if sent.method == "DELETE" else None)
    ids = gallery.shown()
    gallery.result(ids[0]).hover()
    ring(gallery, ids[0]).click()
    gallery.result(ids[2]).get_by_test_id("open-result").click()
    gallery.find("selection-delete").click()
    expect(gallery.page.locator("#selection")).to_be_hidden()
    assert gallery.shown() == [ids[1], *ids[3:]]
    gallery.find("undo").click()
    eventually(gallery.shown, ids)
    # The time in which it could be taken back is over.
    gallery.page.wait_for_timeout(8500)
    assert deleted == []
