"""Every view for everybody: axe-core finds nothing serious, and nothing is wider than the screen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from conftest import Server
from playwright.sync_api import Browser, Page, expect

from browser.accessibility import assert_accessible
from browser.page_driver import SearchPage, photo_ids, toy_file
from browser.watch import Watch

SENTENCE = "a man at work"

# What can be seen and reaches beyond the right edge, unless it lies in a frame that scrolls or clips.
_BEYOND_THE_EDGE = """() => {
    const frames = element => {
        for (let each = element.parentElement; each && each !== document.body; each = each.parentElement)
            if (getComputedStyle(each).overflowX !== "visible") return true;
        return false;
    };
    return [...document.body.querySelectorAll("*")]
        .filter(each => each.checkVisibility() && each.getBoundingClientRect().right > innerWidth + 1)
        .filter(each => !frames(each))
        .map(each => each.tagName + "." + each.className);
}"""


def home(searching: SearchPage) -> None:
    searching.open()
    expect(searching.find("gallery")).to_be_visible()
    expect(searching.find("example").first).to_be_visible()


def similar_photos(searching: SearchPage) -> None:
    searching.open(**{"as": "similar"})
    expect(searching.find("plane")).to_be_visible()


def photos_found(searching: SearchPage) -> None:
    searching.open(text=SENTENCE).settled()


def captions_found(searching: SearchPage) -> None:
    searching.open(text=SENTENCE, show="captions", hybrid=1).settled()


def terms_and_filters(searching: SearchPage) -> None:
    filter_ = json.dumps({"tones": {"$in": ["black and white"]}})
    searching.open(text=[SENTENCE, "a city~-0.5"], filter=filter_, min_score=0.001).settled()
    searching.find("filters-button").click()
    expect(searching.find("filter-field").first).to_be_visible()


def picture_query(searching: SearchPage) -> None:
    searching.open()
    searching.drop(toy_file("cat.jpg"))
    expect(searching.find("term")).to_be_visible()
    searching.settled()


def lightbox(searching: SearchPage) -> None:
    searching.open(text=SENTENCE, open=photo_ids(searching.server)["cameraman.jpg"]).settled()
    # On a telephone the panel waits until it is asked for.
    if searching.find("lightbox-info").get_attribute("aria-expanded") == "false":
        searching.find("lightbox-info").click()
    expect(searching.find("lightbox-captions")).to_be_visible()


def nothing_found(searching: SearchPage) -> None:
    searching.open(text=SENTENCE, min_score=1)
    expect(searching.find("nothing-found")).to_be_visible()


def error(searching: SearchPage) -> None:
    searching.open(id="gone")
    expect(searching.find("error")).to_be_visible()


def status(searching: SearchPage) -> None:
    searching.open(view="status")
    expect(searching.find("models-table")).to_be_visible()


def add_photos(searching: SearchPage) -> None:
    searching.open(view="add")
    expect(searching.find("drop-zone")).to_be_visible()


def help_sheet(searching: SearchPage) -> None:
    searching.open()
    if searching.page.locator("#menu-button").is_visible():
        searching.page.locator("#menu-button").click()
    searching.page.get_by_role("button", name="Keyboard and tips").click()
    expect(searching.page.locator("#help")).to_be_visible()


def message(searching: SearchPage) -> None:
    searching.open()
    searching.drop(uri_list="https://example.org/a-rather-long-name-of-a-photo-somewhere.jpg")
    expect(searching.find("toast")).to_be_visible()


STATES: tuple[Callable[[SearchPage], None], ...] = (
    *(home, similar_photos, photos_found, captions_found, terms_and_filters, picture_query, lightbox),
    *(nothing_found, error, status, add_photos, help_sheet, message),
)


@pytest.fixture(
    scope="module",
    # Each colour scheme and each width once; the other two pairs are slow ones.
    params=[
        pytest.param((scheme, width), id=f"{scheme}-{width}px", marks=marks)
        for scheme, width, marks in (
            ("light", 1280, ()),
            ("dark", 390, ()),
            ("dark", 1280, pytest.mark.slow),
            ("light", 390, pytest.mark.slow),
        )
    ],
)
def shown(request: pytest.FixtureRequest, browser: Browser, toy_server: Server) -> Iterator[SearchPage]:
    """A page of one colour scheme and width, kept for all states."""
    scheme, width = request.param
    context = browser.new_context(
        color_scheme=scheme,
        viewport={"width": width, "height": 844},
        has_touch=width < 500,
        reduced_motion="reduce",
        locale="en-US",
    )
    context.set_default_timeout(20_000)
    watch = Watch(context)
    watch.expect("status of 404")
    yield SearchPage(context.new_page(), toy_server)
    assert watch.problems() == []
    context.close()


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_axe_finds_nothing_serious(shown: SearchPage, state: Callable[[SearchPage], None]) -> None:
    state(shown)
    assert_accessible(shown.page)


def test_nothing_is_wider_than_a_small_phone(page: Page, toy_server: Server, watch: Watch) -> None:
    watch.expect("status of 404")
    page.set_viewport_size({"width": 320, "height": 740})
    searching = SearchPage(page, toy_server)
    for state in STATES:
        state(searching)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 320, state.__name__
        assert page.evaluate(_BEYOND_THE_EDGE) == [], state.__name__


def test_the_theme_is_chosen_and_kept(page: Page, toy_server: Server) -> None:
    page.emulate_media(color_scheme="light")
    searching = SearchPage(page, toy_server).open()
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Use the dark theme").click()
    expect(page.get_by_role("button", name="Use the light theme")).to_be_visible()
    assert page.evaluate(background) != light
    page.reload()
    assert page.evaluate(background) != light
    page.get_by_role("button", name="Use the light theme").click()
    assert page.evaluate(background) == light
    # Unless somebody chose, it is the system's.
    page.emulate_media(color_scheme="dark")
    searching.open()
    assert page.evaluate(background) != light
