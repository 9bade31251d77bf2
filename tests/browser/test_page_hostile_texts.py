"""Captions, tags, file names and addresses that are markup: they are read, and nothing of them ever runs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import pytest
from conftest import Server
from playwright.sync_api import Page, expect

from browser.page_driver import File, SearchPage, changed_file, eventually, toy_file
from browser.watch import Watch

MARKUP = (
    "<img src=x onerror=\"window.ran='caption'\"><script>window.ran='script'</script> & a \"quoted\" 'word'"
)
TAG_NAME = "<b onclick=window.ran=1>place</b>"
TAG_VALUE = "\"><svg onload=window.ran='tag'>"
FILE_NAME = "<img src=x onerror=window.ran='file'>.jpg"


@pytest.fixture(scope="module")
def hostile_id(writable_server: Server) -> Iterator[str]:
    """A photo of coffee whose caption, tags and file name are markup."""
    photo = changed_file("coffee.jpg", "photo.jpg", size=(500, 333))
    tags = {TAG_NAME: TAG_VALUE, "file": FILE_NAME}
    metadata = {photo.name: {"captions": [MARKUP], "tags": tags}}
    answer = httpx2.post(
        f"{writable_server.url}/v1/documents",
        files=[("metadata", (None, json.dumps(metadata))), ("file", (photo.name, photo.content, photo.type))],
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result["error"] for result in results] == [None, None]
    photo_id = next(result["id"] for result in results if result["modality"] == "image")
    yield photo_id
    httpx2.delete(f"{writable_server.url}/v1/documents/{photo_id}", timeout=60)


@pytest.fixture
def searching(page: Page, writable_server: Server) -> Iterator[SearchPage]:
    """The page; at the end nothing may have run, and no element may have been made of a text."""
    yield SearchPage(page, writable_server)
    assert page.evaluate("() => window.ran ?? null") is None
    assert page.locator("img[src=x], svg[onload], b[onclick], body script").count() == 0


def test_captions_tags_and_file_names_are_only_text(searching: SearchPage, hostile_id: str) -> None:
    searching.open().search(MARKUP)
    tile = searching.result(hostile_id)
    expect(tile).to_contain_text(MARKUP)
    expect(tile.locator("img")).to_have_attribute("alt", MARKUP)
    tile.get_by_test_id("open-result").click()
    lightbox = searching.page.locator("#lightbox")
    expect(lightbox.get_by_test_id("lightbox-captions")).to_have_text(MARKUP)
    names = lightbox.get_by_test_id("lightbox-tags").locator("dt")
    expect(names.get_by_text(TAG_NAME, exact=True)).to_have_count(1)
    expect(lightbox.get_by_test_id("lightbox-tags")).to_contain_text(TAG_VALUE)
    expect(lightbox.get_by_test_id("lightbox-download")).to_have_attribute("download", FILE_NAME)
    lightbox.get_by_test_id("lightbox-more").click()
    expect(searching.find("term").nth(1)).to_contain_text(MARKUP)
    searching.settled()
    searching.find("filters-button").click()
    field = searching.page.get_by_test_id("filter-field").filter(has_text=TAG_NAME)
    expect(field.locator("summary")).to_contain_text(TAG_NAME)
    expect(field.locator(".value-name")).to_have_text(TAG_VALUE)


def test_a_hostile_tag_filters_like_any_other(searching: SearchPage, hostile_id: str) -> None:
    filter_ = json.dumps({TAG_NAME: {"$in": [TAG_VALUE]}})
    searching.open(text="coffee", filter=filter_).settled()
    searching.expect_ids([hostile_id])
    expect(searching.find("active-filter")).to_have_text(f"{TAG_NAME}: {TAG_VALUE}")


def test_a_sentence_that_is_markup_is_a_sentence(searching: SearchPage, hostile_id: str) -> None:
    searching.open().search(MARKUP)
    # The photo whose caption it is stands first.
    eventually(lambda: searching.ids()[:1], [hostile_id])
    searching.find("refine-box").fill(TAG_VALUE)
    searching.find("refine-less").click()
    expect(searching.find("term").nth(1)).to_contain_text(TAG_VALUE)
    searching.settled()
    searching.page.get_by_role("button", name="Recent searches", exact=True).click()
    expect(searching.page.locator("#recent-menu").get_by_test_id("recent-search").first).to_contain_text(
        MARKUP
    )
    assert MARKUP in searching.page.title()


def test_a_dropped_file_whose_name_is_markup(searching: SearchPage) -> None:
    searching.open()
    searching.drop(File(FILE_NAME, toy_file("cat.jpg").content))
    expect(searching.find("term")).to_contain_text(FILE_NAME)
    searching.settled()
    searching.drop(File(FILE_NAME, b"no picture", "text/html"))
    expect(searching.find("toast")).to_contain_text(FILE_NAME)


def test_an_uploaded_file_whose_name_is_markup(searching: SearchPage) -> None:
    searching.open(view="add")
    broken = File("<svg onload=window.ran='broken'>.jpg", b"no picture")
    searching.find("choose-photos-input").set_input_files(
        [File(FILE_NAME, toy_file("cat.jpg").content).for_chooser(), broken.for_chooser()]
    )
    expect(searching.find("upload-words")).to_have_text("Finished.", timeout=60_000)
    expect(searching.find("upload-failures")).to_contain_text(broken.name)
    expect(searching.find("upload-done")).to_contain_text(FILE_NAME)


def test_inline_scripts_are_refused_whatever_puts_them_there(searching: SearchPage, watch: Watch) -> None:
    watch.expect("Content Security Policy")
    watch.expect("status of 404 .*/y")
    searching.open()
    searching.page.evaluate(
        """() => {
            const place = document.createElement("div");
            document.body.append(place);
            place.innerHTML = "<img id=forced src=y onerror=\\"window.ran='forced'\\">";
        }"""
    )
    searching.page.wait_for_function("() => document.querySelector('#forced').complete")


def test_an_address_that_is_markup_is_only_read(searching: SearchPage, watch: Watch) -> None:
    watch.expect("status of 404")
    searching.open(id=FILE_NAME, filter="{not json", show="<b>", top_k="-5", min_score="x", view="../status")
    expect(searching.find("error")).to_be_visible()
    expect(searching.find("term")).to_contain_text(FILE_NAME)
