"""The opened photo says why it was found: by which terms and words, and which parts of it fit."""

from __future__ import annotations

import base64
from io import BytesIO
from urllib.parse import quote

import numpy as np
import pytest
from conftest import Server
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from browser.accessibility import assert_accessible
from browser.page_driver import SearchPage, photo_ids
from browser.watch import Watch

MINUS = "\N{MINUS SIGN}"


def opened(searching: SearchPage, id: str) -> Locator:
    searching.settled().result(id).get_by_test_id("open-result").click()
    lightbox = searching.page.locator("dialog#lightbox[open]")
    expect(lightbox).to_have_attribute("data-id", id)
    searching.expect_drawn("[data-testid=lightbox-image]")
    return lightbox


def test_it_says_what_each_term_gave(page: Page, toy_server: Server) -> None:
    cat = photo_ids(toy_server)["cat.jpg"]
    searching = SearchPage(page, toy_server).open(text=["a cat", "snow~-0.5"])
    terms = [{"text": "a cat"}, {"text": "snow", "weight": -0.5}]
    found = searching.asked({"terms": terms, "modality": "image", "explain": True, "top_k": 50})
    (match,) = (match for match in found["matches"] if match["id"] == cat)
    gave = [term["gave"] for term in match["explanation"]["terms"]]
    assert sum(gave) == pytest.approx(match["cosine"], abs=1e-5)
    lightbox = opened(searching, cat)
    wanted = [
        f"{MINUS if part < 0 else '+'}{abs(part):.2f}{name}"
        for part, name in zip(gave, ("a cat", "less snow"), strict=True)
    ]
    expect(lightbox.get_by_test_id("why-term")).to_have_text(wanted)
    # Once for each photo, however often its panel is drawn.
    assert sum(bool(body.get("explain")) for body in searching.sent) == 1


def test_it_names_the_words_that_were_found(page: Page, toy_server: Server) -> None:
    cat = photo_ids(toy_server)["cat.jpg"]
    searching = SearchPage(page, toy_server).open(text="cat whiskers", hybrid=1)
    found = searching.asked({"text": "cat whiskers", "hybrid": True, "explain": True, "modality": "image"})
    (match,) = (match for match in found["matches"] if match["id"] == cat)
    words = {(each["field"], word) for each in match["explanation"]["words"] for word in each["words"]}
    assert ("file", "cat") in words
    why = opened(searching, cat).get_by_test_id("why")
    expect(why).to_contain_text("In the file\u2019s name: “cat”")
    for field, word in words:
        if field == "caption":
            expect(why).to_contain_text(word)


def test_a_word_lights_the_parts_that_it_has_to_do_with(page: Page, toy_server: Server) -> None:
    photo = photo_ids(toy_server)["rocket.jpg"]
    searching = SearchPage(page, toy_server).open(text="the rocket with smoke")
    lightbox = opened(searching, photo)
    words = lightbox.get_by_test_id("heat-of")
    expect(words).to_have_text(["the rocket with smoke", "rocket", "smoke"])
    words.nth(1).click()
    veil = lightbox.get_by_test_id("heat")
    expect(words.nth(1)).to_have_attribute("aria-pressed", "true")
    _, map = searching.server.request(f"/v1/documents/{photo}/heatmap?text={quote('rocket')}")
    falls = np.array(map["falls"])
    row, column = np.unravel_index(falls.argmax(), falls.shape)
    _, _, content = (veil.get_attribute("src") or "").partition(",")
    drawn = np.asarray(Image.open(BytesIO(base64.b64decode(content))).convert("RGBA"))[:, :, 3]
    left, top, right, bottom = map["part"]
    height, width = drawn.shape
    x = (left + (column + 0.5) / 5 * (right - left)) * width
    y = (top + (row + 0.5) / 5 * (bottom - top)) * height
    assert drawn[int(y), int(x)] < 60 < drawn.mean()
    # It covers the photo, and nothing else.
    image = lightbox.get_by_test_id("lightbox-image")
    assert veil.bounding_box() == image.bounding_box()
    assert_accessible(page)
    words.nth(1).click()
    expect(veil).to_have_count(0)
    words.nth(2).click()
    expect(veil).to_have_count(1)
    # The next photo has none.
    page.keyboard.press("ArrowRight")
    expect(lightbox).not_to_have_attribute("data-id", photo)
    expect(veil).to_have_count(0)


def test_it_says_why_there_is_no_map(page: Page, watch: Watch, toy_server: Server) -> None:
    watch.expect("^console: Failed to load resource: .* 422 .*/heatmap")
    said = "There are no heat maps with the model other."
    page.route(
        "**/heatmap*",
        lambda route: route.fulfill(
            status=422,
            content_type="application/problem+json",
            json={"title": "Unprocessable Content", "status": 422, "detail": said},
        ),
    )
    photo = photo_ids(toy_server)["rocket.jpg"]
    searching = SearchPage(page, toy_server).open(text="a rocket")
    lightbox = opened(searching, photo)
    lightbox.get_by_test_id("heat-of").first.click()
    expect(lightbox).to_contain_text(said)
    expect(lightbox.get_by_test_id("heat")).to_have_count(0)


def test_what_no_search_found_needs_no_reason(page: Page, toy_server: Server) -> None:
    searching = SearchPage(page, toy_server).open(open=photo_ids(toy_server)["cat.jpg"])
    searching.expect_drawn("[data-testid=lightbox-image]")
    expect(searching.find("panel-path")).to_be_visible()
    expect(searching.find("why")).to_have_count(0)
