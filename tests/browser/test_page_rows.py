"""Photos in rows: most of the screen is photo, what is said of them lies over it, and lists stay bounded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Server
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from browser.page_driver import SearchPage, eventually

SENTENCE = "an animal among green leaves"

# The share of a grid of points of the screen at which a photo is what one sees.
_PHOTO_SHARE = """() => {
    let photo = 0, all = 0;
    for (let x = 2; x < innerWidth; x += innerWidth / 80)
        for (let y = 2; y < innerHeight; y += innerHeight / 80) {
            all += 1;
            photo += Boolean(document.elementFromPoint(x, y)?.closest("#results .tile-photo"));
        }
    return photo / all;
}"""

_SHAPES = """() => [...document.querySelectorAll("#results .tile img")].map(image => {
    const {width, height} = image.getBoundingClientRect();
    return [width / height, image.naturalWidth / image.naturalHeight];
})"""

_ROWS = """() => [...document.querySelectorAll("#results .row")].map(row => [
    row.getBoundingClientRect().height,
    row.firstChild.getBoundingClientRect().left,
    row.lastChild.getBoundingClientRect().right,
])"""


def gallery(page: Page, server: Server) -> SearchPage:
    """The start page, once it shows its photos."""
    searching = SearchPage(page, server).open()
    expect(searching.find("gallery")).to_be_visible()
    return searching


def many(route: Route) -> None:
    """Answers a search with 48 photos: those that were found, again and again."""
    fetched = route.fetch()
    found = fetched.json()
    photos = found["results"][0]
    known = photos["matches"]
    photos["matches"] = [
        {**known[at % len(known)], "id": f"photo-{at}", "rank": at + 1, "score": 0.5} for at in range(48)
    ]
    photos["has_more"] = True
    route.fulfill(response=fetched, json=found)


@pytest.mark.parametrize(
    ("width", "height"),
    [
        (1440, 900),
        (2560, 1440),
        (390, 844),
        (844, 390),
        (360, 640),
        (768, 1024),
    ],
)
def test_most_of_the_screen_is_photo(browser: Browser, toy_server: Server, width: int, height: int) -> None:
    touched = min(width, height) < 800
    context = browser.new_context(
        viewport={"width": width, "height": height}, has_touch=touched, is_mobile=touched
    )
    searching = SearchPage(context.new_page(), toy_server)
    searching.page.route("**/v1/search", many)
    searching.open(text=SENTENCE).settled()
    expect(searching.find("result-count")).to_contain_text("photos")
    share = searching.page.evaluate(_PHOTO_SHARE)
    print(f"{width} x {height}: {share:.1%} of the first screen is photo")
    assert share >= 0.7
    assert searching.page.evaluate("() => document.documentElement.scrollWidth") <= width
    context.close()


def test_rows_reach_from_edge_to_edge_and_crop_nothing(page: Page, toy_server: Server) -> None:
    searching = gallery(page, toy_server)
    searching.expect_drawn("#results img")
    for shown, own in page.evaluate(_SHAPES):
        assert shown == pytest.approx(own, rel=0.03)
    *full, _ = page.evaluate(_ROWS)
    width = page.evaluate("() => document.documentElement.clientWidth")
    assert len(full) >= 2
    for height, left, right in full:
        assert 100 < height < 400
        assert left <= 4
        assert right == pytest.approx(width, abs=4)


def test_the_density_is_chosen_and_kept(page: Page, toy_server: Server) -> None:
    searching = gallery(page, toy_server)
    ids = searching.shown()
    rows = {}
    for size in ("large", "small", "medium"):
        page.locator(f"label:has([data-testid=density-{size}])").click()
        rows[size] = page.locator("#results .row").count()
        assert searching.shown() == ids
    assert rows["small"] < rows["medium"] < rows["large"]
    page.locator("label:has([data-testid=density-small])").click()
    page.reload()
    expect(searching.find("gallery")).to_be_visible()
    assert page.locator("#results .row").count() == rows["small"]
    expect(searching.find("density-small")).to_be_checked()


def test_a_photo_has_its_colour_before_it_comes_in_one_of_two_sizes(page: Page, toy_server: Server) -> None:
    page.route("**/thumbnail*", lambda route: None)
    searching = gallery(page, toy_server)
    _, listed = toy_server.request("/v1/documents?modality=image&limit=48")
    for document in listed["documents"]:
        photo = document["photo"]
        tile = searching.result(document["id"])
        red, green, blue = bytes.fromhex(photo["colour"][1:])
        expect(tile).to_have_css("background-color", f"rgb({red}, {green}, {blue})")
        widths = [round(side * max(1, photo["width"] / photo["height"])) for side in (200, 480)]
        wanted = ", ".join(
            f"{photo['thumbnail']}?size={side} {width}w"
            for side, width in zip((200, 480), widths, strict=True)
        )
        expect(tile.locator("img")).to_have_attribute("srcset", wanted)


def opacity(searching: SearchPage, id: str, part: str) -> float:
    place = searching.result(id).locator(part)
    return float(place.evaluate("each => getComputedStyle(each).opacity"))


def test_what_is_said_of_a_photo_shows_while_somebody_points_at_it(page: Page, toy_server: Server) -> None:
    page.emulate_media(reduced_motion="reduce")
    searching = SearchPage(page, toy_server).open(text=SENTENCE).settled()
    first, second = searching.ids()[:2]
    assert opacity(searching, first, ".tile-over") == opacity(searching, first, ".tile-actions") == 0
    searching.result(first).hover()
    assert opacity(searching, first, ".tile-over") == opacity(searching, first, ".tile-actions") == 1
    assert opacity(searching, second, ".tile-over") == 0
    page.mouse.move(0, 0)
    searching.result(second).get_by_test_id("open-result").focus()
    assert opacity(searching, second, ".tile-over") == opacity(searching, second, ".tile-actions") == 1


@pytest.fixture
def touched(browser: Browser) -> Iterator[BrowserContext]:
    """A telephone."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    yield context
    context.close()


def test_a_long_press_shows_it_on_a_telephone(touched: BrowserContext, toy_server: Server) -> None:
    searching = SearchPage(touched.new_page(), toy_server).open(text=SENTENCE).settled()
    first, second = searching.ids()[:2]
    box = searching.result(first).bounding_box()
    assert box is not None
    finger = touched.new_cdp_session(searching.page)
    point = {"x": box["x"] + 20, "y": box["y"] + box["height"] / 2}
    finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    eventually(lambda: opacity(searching, first, ".tile-over"), 1)
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(searching.result(first).get_by_test_id("more-like-this")).to_be_visible()
    expect(searching.page.locator("#lightbox")).to_be_hidden()
    # Elsewhere a tap opens as ever.
    searching.result(second).tap()
    expect(searching.page.locator("#lightbox")).to_have_attribute("data-id", second)


def test_ten_thousand_photos_keep_few_tiles(page: Page, toy_server: Server) -> None:
    """As many documents as a large index lists, in four pages."""
    _, listed = toy_server.request("/v1/documents?modality=image&limit=48")
    toys = listed["documents"]

    def answer(route: Route) -> None:
        begin = int(route.request.url.partition("after=")[2].partition("&")[0] or 0)
        documents = [{**toys[at % len(toys)], "id": f"photo-{at}"} for at in range(begin, begin + 2500)]
        following = str(begin + 2500) if begin < 7500 else None
        route.fulfill(json={**listed, "documents": documents, "next": following})

    page.route("**/v1/documents?modality=image*", answer)
    searching = SearchPage(page, toy_server).open()
    expect(searching.find("gallery")).to_be_visible()
    tiles = page.locator("#results [data-testid=result]")
    most = 0
    for _ in range(40):
        page.evaluate("() => scrollTo(0, document.documentElement.scrollHeight)")
        page.wait_for_timeout(100)
        most = max(most, tiles.count())
        if page.locator("#results [data-id=photo-9999]").count():
            break
    expect(page.locator("#results [data-id=photo-9999]")).to_be_in_viewport()
    assert most < 400
    page.evaluate("() => scrollTo(0, 0)")
    expect(page.locator("#results [data-id=photo-0]")).to_be_in_viewport()
    expect(page.locator("#results [data-id=photo-9999]")).to_have_count(0)


def test_all_ways_to_browse_fit_on_a_telephone(browser: Browser, toy_server: Server) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    searching = SearchPage(context.new_page(), toy_server).open()
    expect(searching.find("gallery")).to_be_visible()
    for name in ("as", "density", "filters-button"):
        box = searching.find(name).bounding_box()
        assert box is not None
        assert 0 <= box["x"] < box["x"] + box["width"] <= 360, name
    expect(searching.page.get_by_role("button", name="Filters")).to_be_visible()
    context.close()
