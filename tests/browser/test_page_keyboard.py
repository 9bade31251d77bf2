"""The page without a mouse."""

from __future__ import annotations

import pytest
from conftest import Server
from playwright.sync_api import FloatRect, Page, expect

from browser.page_driver import SearchPage

SENTENCE = "a tower with stairs"

# The name of what has the focus, and whether it looks different without. A hidden checkbox or radio button
# shows it on what stands beside it, the search box on its form.
_FOCUS_SHOWS = """() => {
    const element = document.activeElement;
    const places = [element, element.nextElementSibling, element.closest("label, form")].filter(Boolean);
    const look = () => places.map(place => {
        const {outlineStyle, outlineWidth, outlineColor, boxShadow, borderColor} = getComputedStyle(place);
        return [boxShadow, borderColor, outlineStyle === "none" ? null : [outlineWidth, outlineColor]];
    });
    const focused = JSON.stringify(look());
    element.blur();
    const blurred = JSON.stringify(look());
    element.focus();
    return [element.id || element.dataset.testid || element.className, focused !== blurred];
}"""


@pytest.fixture
def found(page: Page, toy_server: Server) -> SearchPage:
    return SearchPage(page, toy_server).open(text=SENTENCE, show="photos").settled()


def focused(searching: SearchPage) -> str | None:
    """The id of the result that has the focus."""
    found: str | None = searching.page.evaluate(
        "() => document.activeElement.closest('[data-testid=result]')?.dataset.id ?? null"
    )
    return found


def test_slash_goes_to_the_search_box_from_every_view(found: SearchPage) -> None:
    found.page.locator("body").press("/")
    expect(found.box).to_be_focused()
    assert found.page.evaluate("() => getSelection().toString()") == SENTENCE
    # In the box it is a letter.
    found.page.keyboard.press("End")
    found.page.keyboard.press("/")
    expect(found.box).to_have_value(f"{SENTENCE}/")
    found.page.get_by_role("link", name="Status").click()
    expect(found.page.locator("#status-view")).to_be_visible()
    found.page.keyboard.press("/")
    expect(found.box).to_be_focused()
    expect(found.page.locator("#status-view")).to_be_hidden()


def test_a_whole_search_with_keys_alone(page: Page, toy_server: Server) -> None:
    searching = SearchPage(page, toy_server).open()
    expect(searching.box).to_be_focused()
    page.keyboard.type(SENTENCE)
    page.keyboard.press("Enter")
    searching.settled()
    ids = searching.shown()
    page.keyboard.press("ArrowDown")
    assert focused(searching) == ids[0]
    page.keyboard.press("ArrowRight")
    assert focused(searching) == ids[1]
    page.keyboard.press("ArrowLeft")
    assert focused(searching) == ids[0]
    page.keyboard.press("ArrowDown")
    below = focused(searching)
    assert below not in (None, ids[0])
    places = [searching.result(str(each)).bounding_box() for each in (ids[0], below)]
    assert places[0] is not None
    assert places[1] is not None
    assert places[1]["y"] > places[0]["y"]
    page.keyboard.press("ArrowUp")
    assert focused(searching) == ids[0]
    page.keyboard.press("Enter")
    expect(page.locator("#lightbox")).to_have_attribute("data-id", ids[0])
    page.keyboard.press("ArrowRight")
    expect(page.locator("#lightbox")).to_have_attribute("data-id", ids[1])
    page.keyboard.press("Escape")
    expect(page.locator("#lightbox")).to_be_hidden()
    assert focused(searching) == ids[1]
    page.keyboard.press("Escape")
    expect(searching.box).to_be_focused()
    page.keyboard.press("Escape")
    expect(searching.box).to_have_value("")
    expect(searching.find("gallery")).to_be_visible()


def test_plus_and_minus_refine(found: SearchPage) -> None:
    first, second = found.shown()[:2]
    found.box.press("ArrowDown")
    found.page.keyboard.press("+")
    more = [{"text": SENTENCE}, {"id": first}]
    found.expect_ids(found.asked_ids(terms=more, modality="image", top_k=24))
    found.result(second).get_by_test_id("open-result").focus()
    found.page.keyboard.press("-")
    found.expect_ids(
        found.asked_ids(terms=[*more, {"id": second, "weight": -0.5}], modality="image", top_k=24)
    )


def test_the_help_tells_the_keys(found: SearchPage) -> None:
    found.page.locator("body").press("?")
    sheet = found.page.locator("#help")
    expect(sheet).to_be_visible()
    for key in ("/", "Enter", "Esc", "?"):
        expect(sheet.locator("kbd", has_text=key).first).to_be_visible()
    found.page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    found.page.get_by_role("button", name="Keyboard and tips").click()
    expect(sheet).to_be_visible()
    found.find("help-close").click()
    expect(sheet).to_be_hidden()


def test_what_has_the_focus_can_be_seen(found: SearchPage) -> None:
    # Without transitions a style is there at once.
    found.page.emulate_media(reduced_motion="reduce")
    seen = set()
    for _ in range(25):
        found.page.keyboard.press("Tab")
        name, visible = found.page.evaluate(_FOCUS_SHOWS)
        seen.add(name)
        assert visible, name
    assert len(seen) > 10


def test_the_first_tab_stop_skips_to_the_content(page: Page, toy_server: Server) -> None:
    searching = SearchPage(page, toy_server).open(view="status")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(searching.page.locator("#main")).to_be_focused()


def test_from_right_to_left_arrows_lead_on_to_the_left(page: Page, toy_server: Server) -> None:
    page.add_init_script(
        "document.addEventListener('DOMContentLoaded', () => (document.documentElement.dir = 'rtl'))"
    )
    page.set_viewport_size({"width": 1440, "height": 900})
    searching = SearchPage(page, toy_server).open(text=SENTENCE).settled()
    first, second = searching.shown()[:2]

    def place(selector: str) -> FloatRect:
        box = page.locator(selector).bounding_box()
        assert box is not None
        return box

    # The box lies between the name at the right and the views at the left.
    box, views = place("#search-form"), place(".site-nav")
    assert views["x"] + views["width"] <= box["x"]
    assert box["x"] + box["width"] <= place(".brand")["x"]
    searching.result(first).get_by_test_id("open-result").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    lightbox = page.locator("#lightbox")
    expect(lightbox).to_have_attribute("data-id", first)
    page.keyboard.press("ArrowLeft")
    expect(lightbox).to_have_attribute("data-id", second)
    captions = lightbox.get_by_test_id("lightbox-captions").locator("li span")
    expect(captions.first).to_have_attribute("dir", "auto")
