"""Ten thousand real photos, made of those at hand: the page stays small and smooth while somebody scrolls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Server, start_server
from photos import shared_photos
from PIL import Image, ImageOps
from playwright.sync_api import Page, expect

from browser.page_driver import SearchPage, eventually
from crossmodal import PhotoIndex
from crossmodal.documents import Document
from crossmodal.steps.encoding import ImageEncoder

pytestmark = pytest.mark.slow

PHOTOS = 10_000
SIDE = 13

# Counts, from now on, what the page holds at most and how long its frames take, in milliseconds.
_WATCH = """() => {
    const seen = window.seen = {tiles: 0, elements: 0, frames: []};
    let last = performance.now();
    const look = now => {
        seen.frames.push(now - last);
        last = now;
        const results = document.getElementById("results");
        seen.tiles = Math.max(seen.tiles, results.querySelectorAll(".tile").length);
        seen.elements = Math.max(seen.elements, document.getElementsByTagName("*").length);
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""


def others_of(paths: Sequence[Path], folder: Path, number: int) -> None:
    """Writes so many different photos: parts of those of ``paths`` in several shapes, some mirrored."""
    shapes = ((0, 0, 1, 1), (0, 0.1, 1, 0.8), (0.1, 0, 0.7, 1), (0.05, 0.2, 0.95, 0.75))
    folder.mkdir()

    def write(at: int) -> None:
        photo = Image.open(paths[at % len(paths)]).convert("RGB")
        left, top, right, bottom = shapes[at // len(paths) % len(shapes)]
        width, height = photo.size
        part = photo.crop((int(left * width), int(top * height), int(right * width), int(bottom * height)))
        if at // len(paths) // len(shapes) % 2:
            part = ImageOps.mirror(part)
        part.save(folder / f"{at:05}.jpg", quality=88)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(number)))


def by_colours(step: ImageEncoder, docs: Sequence[Document]) -> None:
    """Vectors of 512 numbers in no time: the photo as so many pixels. What is found does not matter here."""
    for doc in docs:
        small = Image.fromarray(doc.pixels).resize((SIDE, SIDE))
        vector = np.zeros(512, np.float32)
        vector[: SIDE * SIDE * 3] = np.asarray(small, np.float32).ravel() / 255 - 0.5
        doc.embedding, doc.pixels = vector / np.linalg.norm(vector), None


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("many")
    others_of(shared_photos("flickr8k", PHOTOS // 8), folder / "photos", PHOTOS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageEncoder, "_encode", by_colours)
        with PhotoIndex(folder / "index") as index:
            assert index.add(folder / "photos").added == PHOTOS
    server = start_server("query_restful", "--workspace", folder / "index")
    yield server
    server.stop()


def said(seen: dict[str, Any], what: str) -> None:
    frames = np.array(seen["frames"][5:])
    middle, most = np.percentile(frames, [50, 99])
    slow = (frames > 100).sum()
    print(
        f"{what}: at most {seen['tiles']} tiles and {seen['elements']:,} elements; {len(frames):,} frames, "
        f"median {middle:.0f} ms, 99% within {most:.0f} ms, {slow} longer than 100 ms"
    )


def test_scrolling_through_all_of_them_stays_small(page: Page, many: Server) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    searching = SearchPage(page, many).open()
    searching.expect_drawn("[data-testid=gallery] .row:first-child img")
    page.evaluate(_WATCH)
    page.mouse.move(700, 500)
    more = searching.find("gallery-more")
    _, listed = many.request("/v1/documents?modality=image&sort=-taken&limit=200")
    for _ in range(3000):
        page.mouse.wheel(0, 1200)
        if not more.count():
            break
    # The end of the list, which only a page that has all of them knows.
    last = page.locator("#results .row").last.locator("[data-testid=result]").last
    eventually(lambda: (page.mouse.wheel(0, 3000), last.is_visible())[1], True)
    seen = page.evaluate("() => ({...window.seen})")
    said(seen, "rows")
    assert page.locator("#results .row").count() > PHOTOS / 8
    assert seen["tiles"] < 400
    assert seen["elements"] < 12_000
    expect(last.locator("img")).to_be_visible()
    # Back at the beginning its photos are there, and those of the end are gone.
    end = last.get_attribute("data-id")
    page.evaluate("() => scrollTo(0, 0)")
    expect(searching.result(listed["documents"][0]["id"])).to_be_in_viewport()
    expect(searching.result(end or "")).to_have_count(0)


def test_all_of_them_are_drawn_on_a_plane(page: Page, many: Server) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    searching = SearchPage(page, many).open(**{"as": "similar"})
    plane = searching.find("plane")
    expect(plane).to_be_visible(timeout=180_000)
    page.evaluate(_WATCH)
    page.mouse.move(700, 500)
    for _ in range(25):
        page.mouse.wheel(0, -100)
        page.wait_for_timeout(40)
    for _ in range(25):
        page.mouse.wheel(0, 100)
        page.wait_for_timeout(40)
    seen = page.evaluate("() => ({...window.seen})")
    said(seen, "plane")
    assert seen["elements"] < 600
    plane.focus()
    page.keyboard.press("Control+a")
    expect(searching.find("selection-count")).to_have_text(f"{PHOTOS} selected")
