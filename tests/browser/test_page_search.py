"""A sentence on the page: photos and captions in the order of the API, with scores, times and counts."""

from __future__ import annotations

import re

import pytest
from conftest import Server
from playwright.sync_api import Browser, Page, Route, expect

from browser.page_driver import SearchPage, eventually, photo_ids

SENTENCE = "a tabby cat with green eyes"


@pytest.fixture
def searching(page: Page, toy_server: Server) -> SearchPage:
    return SearchPage(page, toy_server)


def test_it_opens_with_photos_examples_and_the_focus_in_the_box(searching: SearchPage) -> None:
    searching.open()
    expect(searching.box).to_be_focused()
    expect(searching.page.locator("#contents")).to_contain_text("15 photos, 41 captions")
    gallery = searching.page.locator("[data-testid=gallery] [data-testid=result]")
    expect(gallery).to_have_count(15)
    searching.expect_drawn("[data-testid=gallery] img")
    example = searching.find("example").first
    sentence = example.inner_text()
    example.click()
    searching.settled()
    expect(searching.box).to_have_value(sentence)
    searching.expect_ids(searching.asked_ids(text=sentence, modality="image", top_k=24))


def test_typing_finds_photos_in_the_order_of_the_api(searching: SearchPage) -> None:
    searching.open().search(SENTENCE)
    photos = searching.asked({"text": SENTENCE, "modality": "image", "top_k": 24})["matches"]
    assert searching.ids("image") == [match["id"] for match in photos]
    assert searching.ids("image")[0] == photo_ids(searching.server)["cat.jpg"]
    searching.expect_drawn("#results [data-testid=section-image] img")


def test_a_pause_in_typing_searches_as_well(searching: SearchPage) -> None:
    searching.page.clock.install(time=0)
    searching.open()
    # A busy machine types slowly; the page's clock stands still meanwhile.
    searching.page.clock.pause_at(3_600_000)
    searching.box.press_sequentially(SENTENCE)
    searching.page.clock.resume()
    searching.expect_ids(searching.asked_ids(text=SENTENCE, modality="image", top_k=24))
    # Not once for each letter.
    assert len(searching.sent) == 1
    assert searching.parameters() == [("text", SENTENCE)]


def test_enter_sends_no_search_that_is_under_way(searching: SearchPage) -> None:
    searching.open()
    held: list[Route] = []
    searching.page.route("**/v1/search", lambda route: held.append(route))
    with searching.page.expect_request("**/v1/search"):
        searching.box.fill(SENTENCE)
    searching.box.press("Enter")
    searching.page.evaluate("() => new Promise(requestAnimationFrame)")
    assert len(searching.sent) == 1
    held[0].continue_()
    searching.settled()
    # Once it is over, Enter asks again.
    searching.page.unroute("**/v1/search")
    with searching.page.expect_request("**/v1/search"):
        searching.box.press("Enter")


def test_enter_before_the_scripts_are_there_searches_as_well(browser: Browser, toy_server: Server) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(toy_server.url)
    page.locator("#search-box").fill("a cat")
    page.locator("#search-box").press("Enter")
    expect(page).to_have_url(f"{toy_server.url}/?text=a+cat")
    context.close()


def test_captions_and_scores_stand_on_the_photos(searching: SearchPage) -> None:
    searching.open().search(SENTENCE)
    for match in searching.asked({"text": SENTENCE, "top_k": 3})["matches"]:
        tile = searching.result(match["id"])
        image = tile.locator("img")
        expect(image).to_have_attribute("src", match["photo"]["thumbnail"])
        expect(image).to_have_attribute("alt", match["captions"][0]["text"])
        expect(tile).to_contain_text(
            re.compile("|".join(re.escape(each["text"]) for each in match["captions"]))
        )
        score = tile.get_by_test_id("score")
        expect(score).to_have_attribute("title", f"Score {match['score']:.4f}, cosine {match['cosine']:.4f}")
        percent = 100 * match["score"]
        expect(score).to_contain_text(f"{round(percent) if percent >= 10 else round(percent, 1)}%")


def test_a_caption_that_matched_stands_on_its_photo(searching: SearchPage) -> None:
    searching.open().search(SENTENCE)
    captions = searching.asked({"text": SENTENCE, "modality": "text", "top_k": 48})["matches"]
    best: dict[str, str] = {}
    for match in captions:
        best.setdefault(match["photo"]["id"], match["text"])
    assert len(best) < len(captions)
    expect(searching.find("found-caption")).to_have_count(len(best))
    for photo, text in best.items():
        expect(searching.result(photo).get_by_test_id("found-caption")).to_contain_text(text)
    assert len(searching.ids()) == 15
    expect(searching.find("section-text")).to_have_count(0)


def test_the_count_and_load_more(searching: SearchPage) -> None:
    searching.open(text=SENTENCE, show="photos", top_k=6).settled()
    everything = searching.asked_ids(text=SENTENCE, top_k=15)
    count = searching.find("result-count")
    # A photo that its caption found may stand among them.
    first = searching.ids()
    assert set(everything[:6]) <= set(first)
    expect(count).to_have_text(f"First {len(first)} photos")
    searching.find("load-more").dispatch_event("click")
    eventually(lambda: set(everything[:12]) <= set(searching.ids()), True)
    # Who reads on with the keyboard goes on at the first new one.
    new = next(id for id in everything if id not in first)
    expect(searching.result(new).get_by_test_id("open-result")).to_be_focused()
    # Who scrolls to the end gets the rest.
    searching.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    eventually(lambda: set(searching.ids()), set(everything))
    assert len(searching.ids()) == 15
    expect(count).to_have_text("15 photos")
    expect(searching.find("load-more")).to_have_count(0)


def test_what_fits_less_well_waits_until_it_is_asked_for(searching: SearchPage) -> None:
    everything = searching.asked({"text": SENTENCE, "modality": "image", "top_k": 15})["matches"]
    searching.open(text=SENTENCE).settled(folded=True)
    fitting = searching.ids()
    assert {match["id"] for match in everything if match["score"] >= 0.1} <= set(fitting)
    assert len(fitting) < 15
    expect(searching.find("result-count")).to_have_text(f"{len(fitting)} photos")
    searching.find("show-weak").click()
    expect(searching.page.get_by_role("heading", name="These fit less well")).to_be_visible()
    tiles = searching.page.locator("#results [data-testid=result]")
    expect(tiles).to_have_count(15)
    standing = tiles.evaluate_all("tiles => tiles.map(tile => tile.dataset.id)")
    assert standing[: len(fitting)] == fitting
    expect(tiles.nth(len(fitting)).get_by_test_id("open-result")).to_be_focused()
    expect(searching.find("show-weak")).to_have_count(0)


def test_that_nothing_fits_well_is_said_before_the_nearest_are_shown(searching: SearchPage) -> None:
    def weaken(route: Route) -> None:
        fetched = route.fetch()
        found = fetched.json()
        for result in found["results"]:
            result |= {"fits": False, "doubt": "Nothing fits well: the best score is 0.020."}
            for match in result["matches"]:
                match["score"] = 0.02
        route.fulfill(response=fetched, json=found)

    searching.page.route("**/v1/search", weaken)
    searching.open(text=SENTENCE).settled(folded=True)
    expect(searching.find("nothing-fits")).to_contain_text("the best score is 0.020")
    expect(searching.find("result")).to_have_count(0)
    searching.find("show-weak").click()
    expect(searching.find("result")).to_have_count(15)


def test_captions_are_a_view_of_their_own(searching: SearchPage) -> None:
    searching.open().search(SENTENCE)
    expect(searching.find("section-image")).to_be_visible()
    searching.show("captions")
    searching.expect_ids(searching.asked_ids(text=SENTENCE, modality="text", top_k=48), "text")
    expect(searching.find("section-image")).to_have_count(0)
    expect(searching.find("density")).to_have_count(0)
    assert searching.parameters() == [("text", SENTENCE), ("show", "captions")]
    searching.show("photos")
    searching.expect_ids(searching.asked_ids(text=SENTENCE, modality="image", top_k=48))
    expect(searching.find("section-text")).to_have_count(0)


def test_a_caption_comes_with_its_photo(searching: SearchPage) -> None:
    searching.open(text=SENTENCE, show="captions").settled()
    best = searching.asked({"text": SENTENCE, "modality": "text"})["matches"][0]
    tile = searching.result(best["id"])
    expect(tile).to_contain_text(best["text"])
    expect(tile.locator("img")).to_have_attribute("src", best["photo"]["thumbnail"])


def test_screen_readers_hear_what_was_found(searching: SearchPage) -> None:
    searching.open()
    searching.box.fill(SENTENCE)
    searching.box.press("Enter")
    searching.settled(folded=True)
    number = len(searching.ids())
    assert 1 < number < 15
    live = searching.page.locator("[aria-live=polite]#announcer")
    expect(live).to_have_text(f"{number} photos for {SENTENCE}. {15 - number} fit less well.")
