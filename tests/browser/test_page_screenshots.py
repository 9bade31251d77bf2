"""Writes docs/screenshots: what the page can do, light, dark and on a phone (`make screenshots`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from io import BytesIO

import httpx2
import pytest
from conftest import REPOSITORY, Server
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Route, expect

from browser.page_driver import File, SearchPage, changed_file, eventually, photo_ids

pytestmark = pytest.mark.screenshots

FOLDER = REPOSITORY / "docs" / "screenshots"
SIZES = {"light": (1280, 800), "dark": (1280, 800), "phone": (390, 844)}
# Of WebP, where the letters of the page still have clean edges.
QUALITY = 80
LIMIT_BYTES = 2_000_000

SENTENCE = "an animal among green leaves"


def drawn(searching: SearchPage, images: str) -> None:
    """Waits for images, and for the page to stand at its beginning."""
    searching.expect_drawn(images)
    searching.page.evaluate("() => scrollTo(0, 0)")
    eventually(lambda: searching.page.evaluate("() => scrollY"), 0)


def home(searching: SearchPage) -> None:
    searching.open()
    expect(searching.find("gallery")).to_be_visible()
    drawn(searching, "[data-testid=gallery] img")


def photos_found(searching: SearchPage) -> None:
    # The first search of a server also loads the model.
    searching.asked({"text": SENTENCE})
    searching.open(text=SENTENCE).settled()
    drawn(searching, "[data-testid=section-image] img")


def captions_found(searching: SearchPage) -> None:
    searching.open(text=SENTENCE, show="captions").settled()
    drawn(searching, "[data-testid=section-text] img")


def composed_terms(searching: SearchPage) -> None:
    names = photo_ids(searching.server)
    cat, raccoon = f"{names['cat.jpg']}~-0.5", f"{names['raccoon.jpg']}~1.5"
    searching.open(text=SENTENCE, id=[cat, raccoon]).settled()
    expect(searching.find("term").nth(2).locator("img")).to_be_visible()
    drawn(searching, "[data-testid=section-image] img")


def filters_open(searching: SearchPage) -> None:
    filter_ = '{"tones":{"$in":["colour"]},"subject":{"$in":["animal","plant"]}}'
    searching.open(text=SENTENCE, filter=filter_, hybrid=1).settled()
    searching.find("filters-button").click()
    expect(searching.find("filter-field").first).to_be_visible()


def lightbox(searching: SearchPage) -> None:
    searching.open(text=SENTENCE).settled()
    searching.result(photo_ids(searching.server)["raccoon.jpg"]).get_by_test_id("open-result").click()
    searching.expect_drawn("[data-testid=lightbox-image]")
    expect(searching.find("lightbox-more")).to_be_visible()


def photos_selected(searching: SearchPage) -> None:
    photos_found(searching)
    for number in (0, 2, 3):
        searching.find("select").nth(number).evaluate("ring => ring.click()")
    expect(searching.find("selection-count")).to_have_text("3 selected")


# Where some of the toy photos could have been taken: the Cape, Montreal, Pompeii, Uppsala, Stockholm, Berlin.
PLACES = {
    "rocket.jpg": (28.56, -80.58),
    "astronaut.jpg": (28.6, -80.6),
    "coffee.jpg": (45.51, -73.57),
    "coins.jpg": (40.75, 14.49),
    "retina.jpg": (59.86, 17.64),
    "stair-tower.jpg": (59.33, 18.07),
    "raccoon.jpg": (52.5, 13.29),
}


def map_of_places(searching: SearchPage) -> None:
    names = photo_ids(searching.server)
    for name, (latitude, longitude) in PLACES.items():
        tags = {"latitude": latitude, "longitude": longitude}
        answer = httpx2.patch(f"{searching.server.url}/v1/documents/{names[name]}", json={"tags": tags})
        answer.raise_for_status()
    searching.open(**{"as": "map"})
    with searching.page.expect_response("**/thumbnail"):
        expect(searching.find("plane")).to_have_attribute("data-groups", re.compile(r"[2-9]"))
    searching.page.wait_for_load_state("networkidle")


def status(searching: SearchPage) -> None:
    searching.open(view="status")
    expect(searching.find("models-table")).to_be_visible()
    expect(searching.find("latency-histogram")).to_be_visible()


READING = (
    home,
    photos_found,
    photos_selected,
    captions_found,
    composed_terms,
    filters_open,
    lightbox,
    status,
)

# What changes data has a server of its own.
WRITING = (map_of_places,)
# Elsewhere only what looks different there.
SHOWN = {
    "light": (*READING, *WRITING),
    "dark": (home, lightbox, map_of_places),
    "phone": (home, photos_found, photos_selected, lightbox, map_of_places),
}
PICTURES = [(state, kind) for kind, states in SHOWN.items() for state in states]

PHOTOS = ("coffee.jpg", "cat.jpg", "coins.jpg", "rocket.jpg", "raccoon.jpg", "retina.jpg", "grass.jpg")


def _holiday() -> list[File]:
    turn = Image.Transpose.ROTATE_90
    photos = [changed_file(name, f"IMG_{2041 + at}.jpg", turn=turn) for at, name in enumerate(PHOTOS)]
    broken = File("IMG_2040.jpg", b"\xff\xd8\xff\xe0 half a download")
    return [broken, *photos, File("notes.txt", b"", "text/plain")]


def adding_in_progress(searching: SearchPage) -> None:
    searching.open(view="add")
    seen: list[Route] = []

    def hold_the_second(route: Route) -> None:
        seen.append(route)
        if len(seen) == 1:
            route.continue_()

    searching.page.route("**/v1/documents", hold_the_second)
    files = _holiday()
    searching.find("choose-photos-input").set_input_files([file.for_chooser() for file in files])
    expect(searching.find("upload-words")).to_contain_text("4 of 8", timeout=60_000)
    searching.find("upload-run").evaluate("run => run.scrollIntoView()")


@pytest.fixture
def profile(browser: Browser, kind: str) -> Iterator[BrowserContext]:
    width, height = SIZES[kind]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if kind == "dark" else "light",
        reduced_motion="reduce",
        has_touch=kind == "phone",
        is_mobile=kind == "phone",
        locale="en-GB",
        timezone_id="Europe/London",
    )
    yield context
    context.close()


def take(searching: SearchPage, name: str, kind: str) -> None:
    """Writes a picture of the screen, with all images on it that have come."""
    searching.page.evaluate(
        "() => Promise.all([...document.images].filter(each => each.complete).map(each => each.decode()))"
    )
    screen = Image.open(BytesIO(searching.page.screenshot(animations="disabled", caret="hide")))
    assert screen.size == SIZES[kind]
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{name.replace('_', '-')}-{kind}.webp"
    screen.convert("RGB").save(file, "WEBP", quality=QUALITY, method=6)


@pytest.mark.parametrize(("state", "kind"), PICTURES, ids=lambda each: getattr(each, "__name__", each))
def test_looking(
    profile: BrowserContext,
    toy_server: Server,
    writable_server: Server,
    kind: str,
    state: Callable[[SearchPage], None],
) -> None:
    searching = SearchPage(profile.new_page(), writable_server if state in WRITING else toy_server)
    state(searching)
    take(searching, state.__name__, kind)


@pytest.mark.parametrize("kind", ["light"])
def test_adding(profile: BrowserContext, writable_server: Server, kind: str) -> None:
    searching = SearchPage(profile.new_page(), writable_server)
    adding_in_progress(searching)
    take(searching, adding_in_progress.__name__, kind)
    searching.page.unroute_all(behavior="ignoreErrors")


def test_they_stay_small() -> None:
    sizes = {file.name: file.stat().st_size for file in FOLDER.glob("*.webp")}
    assert len(sizes) == len(PICTURES) + 1
    assert sum(sizes.values()) <= LIMIT_BYTES, sizes
