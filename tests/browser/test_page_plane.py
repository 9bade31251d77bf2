"""Photos on a plane are selected like those in rows: by clicks, by a rectangle and by keys."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from zipfile import ZipFile

import pytest
from conftest import Server
from playwright.sync_api import Browser, Locator, Page, expect

from browser.accessibility import assert_accessible
from browser.page_driver import SearchPage, eventually, photo_ids


@pytest.fixture(scope="module", autouse=True)
def laid_out(toy_server: Server) -> None:
    """The map is computed once, as slowly as other work on the machine lets it."""
    while toy_server.request("/v1/layout")[1]["computing"]:
        time.sleep(0.2)


@pytest.fixture
def similar(page: Page, toy_server: Server) -> SearchPage:
    """The photos of the toy index, those that are alike together."""
    shown = SearchPage(page, toy_server).open(**{"as": "similar"})
    expect(shown.find("plane")).to_have_attribute("data-groups", re.compile(r"[1-9]"))
    return shown


def drawn_over(shown: SearchPage, left: float, top: float, right: float, bottom: float) -> None:
    """Draws a rectangle with the mouse; places are shares of the plane."""
    box = shown.find("plane").bounding_box()
    assert box is not None
    mouse = shown.page.mouse
    mouse.move(box["x"] + left * box["width"], box["y"] + top * box["height"])
    mouse.down()
    mouse.move(box["x"] + right * box["width"], box["y"] + bottom * box["height"], steps=4)
    mouse.up()


def selected(shown: SearchPage) -> int:
    said = shown.find("selection-count")
    return int(said.inner_text().split()[0]) if said.is_visible() else 0


def pressed(shown: SearchPage, mode: str) -> Locator:
    button = shown.find("plane-select")
    expect(button).to_have_attribute("aria-pressed", "false")
    if mode == "button":
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
    return button


@pytest.mark.parametrize("mode", ["button", "Shift"])
def test_a_rectangle_selects_what_lies_in_it(similar: SearchPage, mode: str) -> None:
    pressed(similar, mode)
    total = len(photo_ids(similar.server))
    if mode == "Shift":
        similar.page.keyboard.down("Shift")
    drawn_over(similar, 0.01, 0.01, 0.5, 0.99)
    eventually(lambda: 0 < selected(similar) < total, True)
    left = selected(similar)
    # In the other direction; what was selected stays.
    drawn_over(similar, 0.99, 0.99, 0.5, 0.01)
    eventually(lambda: selected(similar), total)
    assert left < total
    if mode == "Shift":
        similar.page.keyboard.up("Shift")
    assert_accessible(similar.page)
    with similar.page.expect_download() as download:
        similar.find("selection-download").click()
    with ZipFile(download.value.path()) as archive:
        assert {name.rpartition("/")[2] for name in archive.namelist()} == {*photo_ids(similar.server)}
    # With nothing to select a drag moves the plane as ever.
    similar.find("select-none").click()
    expect(similar.find("selection-count")).to_be_hidden()


def test_clicks_select_once_something_is_selected(similar: SearchPage) -> None:
    page, plane = similar.page, similar.find("plane")
    plane.focus()
    page.keyboard.press("x")
    eventually(lambda: selected(similar) > 0, True)
    in_the_middle = selected(similar)
    expect(page.locator("#announcer")).to_have_text(f"{in_the_middle} selected.")
    page.keyboard.press("x")
    eventually(lambda: selected(similar), 0)
    page.keyboard.press("Control+a")
    eventually(lambda: selected(similar), len(photo_ids(similar.server)))
    page.keyboard.press("Escape")
    eventually(lambda: selected(similar), 0)

    # The group in the middle is found by its cursor.
    box = plane.bounding_box()
    assert box is not None
    spots = [(x * 12, y * 12) for y in range(1, int(box["height"] // 12)) for x in range(1, 40)]
    for x, y in spots:
        page.mouse.move(box["x"] + box["width"] / 3 + x, box["y"] + y)
        if plane.evaluate("canvas => canvas.style.cursor") == "pointer":
            break
    page.keyboard.down("Control")
    page.mouse.down()
    page.mouse.up()
    page.keyboard.up("Control")
    eventually(lambda: selected(similar) > 0, True)
    expect(page.locator("#lightbox")).to_be_hidden()
    page.mouse.down()
    page.mouse.up()
    eventually(lambda: selected(similar), 0)
    # Without a selection a click opens.
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("#lightbox")).to_have_attribute("data-id", re.compile("."))


@pytest.fixture
def telephone(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    yield context.new_page()
    context.close()


def test_a_finger_draws_the_rectangle_on_a_telephone(telephone: Page, toy_server: Server) -> None:
    shown = SearchPage(telephone, toy_server).open(**{"as": "similar"})
    expect(shown.find("plane")).to_have_attribute("data-groups", re.compile(r"[1-9]"))
    shown.find("plane-select").tap()
    box = shown.find("plane").bounding_box()
    assert box is not None
    finger = telephone.context.new_cdp_session(telephone)
    ends = [(box["x"] + 4, box["y"] + 4), (box["x"] + box["width"] - 4, box["y"] + box["height"] - 4)]
    for kind, (x, y) in (("touchStart", ends[0]), ("touchMove", ends[1])):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    eventually(lambda: selected(shown), len(photo_ids(toy_server)))
    # The bar of the selection leaves the buttons of the plane free.
    shown.find("plane-select").click()
    expect(shown.find("plane-select")).to_have_attribute("aria-pressed", "false")


def test_groups_have_names_that_come_with_zooming(page: Page, toy_server: Server) -> None:
    ids = photo_ids(toy_server)
    names = [
        {"text": "animals", "ids": ["gone", ids["cat.jpg"]], "level": 0},
        {"text": "space", "ids": [ids["rocket.jpg"]], "level": 0},
        {"text": "nothing", "ids": ["gone"], "level": 0},
        {"text": "cats", "ids": [ids["cat.jpg"]], "level": 1},
    ]
    page.route("**/v1/layout/names", lambda route: route.fulfill(json={"names": names}))
    shown = SearchPage(page, toy_server).open(**{"as": "similar"})
    plane = shown.find("plane")
    expect(plane).to_have_attribute("data-names", "Animals, Space")
    for _ in range(3):
        shown.find("plane-in").click()
    expect(plane).to_have_attribute("data-names", "Cats")
    for _ in range(4):
        shown.find("plane-out").click()
    expect(plane).to_have_attribute("data-names", "Animals, Space")
