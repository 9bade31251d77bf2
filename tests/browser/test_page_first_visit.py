"""A first visitor, who reads nothing: finds a photo by a sentence, refines it, and shares it."""

from __future__ import annotations

from conftest import Server
from playwright.sync_api import Browser, BrowserContext, Page, expect

from browser.page_driver import SearchPage, photo_ids


def test_find_refine_and_share(
    page: Page, context: BrowserContext, browser: Browser, toy_server: Server
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    names = photo_ids(toy_server)
    visitor = SearchPage(page, toy_server).open()

    # The cursor already stands in the box.
    page.keyboard.type("a cat looks into the camera")
    page.keyboard.press("Enter")
    visitor.settled()
    assert visitor.ids()[0] == names["cat.jpg"]
    by_sentence = visitor.ids()

    # "Not the cat": the words stand on the result's own button.
    visitor.result(names["cat.jpg"]).get_by_role("button", name="Less like this").click()
    expect(visitor.find("term")).to_have_count(2)
    visitor.settled()
    without_cat = visitor.ids()
    assert names["cat.jpg"] not in without_cat[:5]
    assert without_cat != by_sentence

    # "This one": the raccoon.
    visitor.result(names["raccoon.jpg"]).get_by_role("button", name="More like this").click()
    expect(visitor.find("term")).to_have_count(3)
    visitor.settled()
    refined = visitor.ids()
    assert refined != without_cat
    assert [name for name, _, _ in visitor.terms()] == ["text", "id", "id"]

    page.get_by_role("button", name="Copy the link").click()
    expect(visitor.find("toast")).to_have_text("Link copied.")
    link = page.evaluate("() => navigator.clipboard.readText()")
    assert link == page.url

    friend = browser.new_context()
    received = SearchPage(friend.new_page(), toy_server)
    received.page.goto(link)
    received.settled()
    received.expect_ids(refined)
    received.expect_drawn("[data-testid=section-image] img")
    friend.close()
