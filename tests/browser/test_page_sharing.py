"""What leaves the page: links, history, recent searches, the curl command and the JSON file."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from conftest import Server
from playwright.sync_api import Browser, BrowserContext, Page, expect

from browser.page_driver import SearchPage, eventually, photo_ids, toy_file

SENTENCE = "a cat looks into the camera"


@pytest.fixture
def searching(page: Page, context: BrowserContext, toy_server: Server) -> SearchPage:
    """The page, allowed to use the clipboard."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    return SearchPage(page, toy_server)


def clipboard(searching: SearchPage) -> str:
    text: str = searching.page.evaluate("() => navigator.clipboard.readText()")
    return text


def test_back_and_forward_walk_through_searches(searching: SearchPage) -> None:
    searching.open().search(SENTENCE)
    first = searching.ids()
    searching.search("a rocket")
    second = searching.ids()
    assert first != second
    searching.result(second[1]).get_by_test_id("less-like-this").click()
    expect(searching.find("term")).to_have_count(2)
    third = searching.settled().ids()
    assert third != second
    sent = len(searching.sent)
    searching.page.go_back()
    searching.expect_ids(second)
    expect(searching.box).to_have_value("a rocket")
    searching.page.go_back()
    searching.expect_ids(first)
    expect(searching.box).to_have_value(SENTENCE)
    searching.page.go_back()
    expect(searching.find("gallery")).to_be_visible()
    expect(searching.box).to_have_value("")
    for wanted in (first, second, third):
        searching.page.go_forward()
        searching.expect_ids(wanted)
    # Results that were there before need no further search.
    assert len(searching.sent) == sent


def test_a_copied_link_shows_the_same_in_another_browser(searching: SearchPage, browser: Browser) -> None:
    searching.open().search(SENTENCE)
    searching.result(photo_ids(searching.server)["raccoon.jpg"]).get_by_test_id("less-like-this").click()
    expect(searching.find("term")).to_have_count(2)
    searching.settled()
    searching.find("filters-button").click()
    searching.page.locator("[data-testid=filter-value][data-value=colour]").check()
    expect(searching.find("active-filter")).to_have_count(1)
    searching.show("captions")
    searching.find("copy-link").click()
    expect(searching.find("toast")).to_have_text("Link copied.")
    other = browser.new_context()
    shown = SearchPage(other.new_page(), searching.server)
    shown.page.goto(clipboard(searching))
    shown.settled()
    shown.expect_ids(searching.ids("text"), "text")
    assert shown.terms() == searching.terms()
    expect(shown.find("show-captions")).to_be_checked()
    expect(shown.find("active-filter")).to_have_text("tones: colour")
    other.close()


def test_sentences_that_look_like_markup_of_the_address_survive_it(searching: SearchPage) -> None:
    for sentence in ("half~0.5", "cats & dogs, 50% = ?#", "a photo\u00a0of “caf\u00e9” \U0001f408"):
        searching.open().search(sentence)
        shown = searching.ids()
        searching.page.reload()
        searching.settled()
        expect(searching.box).to_have_value(sentence)
        searching.expect_ids(shown)
        assert searching.terms() == [] or searching.terms() == [("text", sentence, 1)]


def test_recent_searches(searching: SearchPage) -> None:
    searching.open()
    searching.page.get_by_role("button", name="Recent searches", exact=True).click()
    menu = searching.page.locator("#recent-menu")
    expect(menu).to_contain_text("listed here, in this browser only")
    searching.page.keyboard.press("Escape")
    for sentence in ("a cup of coffee", SENTENCE):
        searching.search(sentence)
    eventually(lambda: len(searching.page.evaluate("() => JSON.parse(localStorage['crossmodal.recent'])")), 2)
    searching.page.reload()
    searching.settled()
    searching.page.get_by_role("button", name="Recent searches", exact=True).click()
    links = menu.get_by_test_id("recent-search")
    expect(links).to_have_text([SENTENCE, "a cup of coffee"])
    links.nth(1).click()
    searching.expect_ids(searching.asked_ids(text="a cup of coffee", modality="image", top_k=24))
    expect(searching.box).to_have_value("a cup of coffee")
    expect(menu).to_be_hidden()
    # They stand on the start page, too, until they are cleared.
    searching.open()
    expect(searching.page.locator("#suggestions [data-testid=recent-search]")).to_have_count(2)
    searching.page.get_by_role("button", name="Recent searches", exact=True).click()
    menu.get_by_test_id("recent-clear").click()
    expect(searching.page.locator("#suggestions [data-testid=recent-search]")).to_have_count(0)
    searching.page.get_by_role("button", name="Recent searches", exact=True).click()
    expect(menu.get_by_test_id("recent-search")).to_have_count(0)
    assert searching.page.evaluate("() => localStorage['crossmodal.recent']") == "[]"


@pytest.mark.parametrize("with_picture", [False, True], ids=["words", "with a picture"])
def test_the_copied_curl_command_gives_what_the_page_shows(searching: SearchPage, with_picture: bool) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed; on Debian, `sudo apt-get install curl` brings it.")
    searching.open().search(SENTENCE)
    if with_picture:
        searching.drop(toy_file("raccoon.jpg"))
        expect(searching.find("term")).to_have_count(2)
        searching.settled()
    searching.find("copy-curl").click()
    expect(searching.find("toast")).to_have_text("curl command copied.")
    command = clipboard(searching)
    assert command.startswith("curl ")
    done = subprocess.run(["sh"], input=command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    photos, captions = json.loads(done.stdout)["results"]
    assert [match["id"] for match in photos["matches"]] == searching.ids("image")
    searching.show("captions")
    assert [match["id"] for match in captions["matches"]] == searching.ids("text")


def test_results_are_downloaded_as_json(searching: SearchPage) -> None:
    searching.open(text=SENTENCE, show="photos", top_k=4).settled()
    searching.find("load-more").click()
    everything = searching.asked({"text": SENTENCE, "modality": "image", "top_k": 8})["matches"]
    searching.expect_ids([match["id"] for match in everything])
    with searching.page.expect_download() as download:
        searching.find("download-json").click()
    assert download.value.suggested_filename == "search-results.json"
    saved = json.loads(download.value.path().read_text(encoding="utf-8"))
    queries = [{"text": SENTENCE, "modality": modality, "top_k": 4} for modality in ("image", "text")]
    request = {"queries": queries, "group_duplicates": True}
    assert saved["request"] == request
    assert saved["model"] == "clip-mini"
    assert saved["timing"]["total_ms"] > 0
    # All that has been loaded, as the API said it.
    captions = searching.asked({"text": SENTENCE, "modality": "text", "top_k": 4})["matches"]
    assert saved["results"] == [
        {"modality": "image", "matches": everything, "has_more": True},
        {"modality": "text", "matches": captions, "has_more": True},
    ]
