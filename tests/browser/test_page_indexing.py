"""The indexing view: files and folders are sent, progress and failures are told, and the photos are found."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import httpx2
import pytest
from conftest import REPOSITORY, Server
from PIL import Image
from playwright.sync_api import Page, Route, expect

from browser.page_driver import File, SearchPage, changed_file, photo_ids, write_files

BROKEN = File("broken.jpg", b"\xff\xd8\xff\xe0 not a picture after all")
FORMATS = REPOSITORY / "tests" / "fixtures" / "formats"
NOTES = File("notes.txt", b"nothing to see", "text/plain")
# Milliseconds: the first write starts the index Flow.
FIRST_WRITE = 90_000


@pytest.fixture
def adding(page: Page, writable_server: Server) -> SearchPage:
    """The view, ready for files."""
    searching = SearchPage(page, writable_server).open(view="add")
    expect(searching.find("drop-zone")).to_be_visible()
    return searching


def finished(adding: SearchPage, words: str = "Finished.") -> None:
    expect(adding.find("upload-words")).to_have_text(words, timeout=FIRST_WRITE)


def turned(toy_name: str, name: str) -> File:
    """A toy photo upside down: another photo than all that are indexed."""
    return changed_file(toy_name, name, turn=Image.Transpose.ROTATE_180)


def test_chosen_files_are_sent_failures_are_told_and_the_others_are_found(adding: SearchPage) -> None:
    good = [turned("cat.jpg", "cat upside down.jpg"), turned("rocket.jpg", "rocket.jpg")]
    adding.find("upload-tags").fill("place=harbour, vintage=2024")
    adding.find("choose-photos-input").set_input_files(
        [file.for_chooser() for file in (good[0], BROKEN, NOTES, good[1])]
    )
    finished(adding)
    progress = adding.find("upload-progress")
    assert progress.evaluate("bar => [bar.value, bar.max]") == [3, 3]
    expect(adding.find("upload-summary")).to_have_text("2 added, 1 failed, 1 other file left out")

    # The failure has the reason that the API gives.
    answer = httpx2.post(
        f"{adding.server.url}/v1/documents",
        files=[("file", (BROKEN.name, BROKEN.content, BROKEN.type))],
        timeout=60,
    )
    reason = answer.json()["results"][0]["error"]
    failure = adding.find("upload-failures").get_by_test_id("upload-outcome")
    expect(failure).to_have_count(1)
    expect(failure).to_contain_text(BROKEN.name)
    expect(failure).to_contain_text(reason)
    # What is not in the index cannot be opened.
    expect(failure.get_by_role("link")).to_have_count(0)
    assert adding.find("upload-left-out").locator("li").all_text_contents() == [NOTES.name]
    done = adding.find("upload-done").get_by_test_id("upload-outcome")
    expect(done).to_have_count(2)
    assert set(done.locator(".upload-name").all_inner_texts()) == {file.name for file in good}

    # What was added is found at once, by a sentence and by its tags.
    adding.find("upload-see").click()
    adding.search("a tabby cat with green eyes")
    ids = photo_ids(adding.server)
    assert ids["cat upside down.jpg"] in adding.ids()
    adding.expect_ids(adding.asked_ids(text="a tabby cat with green eyes", modality="image", top_k=24))
    adding.find("filters-button").click()
    adding.page.locator("[data-testid=filter-min][data-field=vintage]").fill("2020")
    adding.page.keyboard.press("Tab")
    adding.expect_ids(
        adding.asked_ids(
            text="a tabby cat with green eyes", modality="image", top_k=24, filter={"vintage": {"$gte": 2020}}
        )
    )
    assert adding.ids()[0] == ids["cat upside down.jpg"]
    assert len(adding.ids()) == 2
    expect(adding.find("active-filter")).to_have_text("vintage: at least 2020")
    adding.page.locator("[data-testid=filter-max][data-field=vintage]").fill("2023")
    adding.page.keyboard.press("Tab")
    expect(adding.find("nothing-found")).to_be_visible()


def test_a_folder_is_searched_to_any_depth_and_known_photos_are_skipped(
    adding: SearchPage, tmp_path: Path
) -> None:
    write_files(tmp_path / "holiday", turned("coffee.jpg", "first.jpg"), NOTES)
    write_files(tmp_path / "holiday" / "day two", turned("grass.jpg", "second.jpg"))
    for summary in ("2 added, 1 other file left out", "2 already there, 1 other file left out"):
        adding.find("choose-folder-input").set_input_files(tmp_path / "holiday")
        finished(adding)
        expect(adding.find("upload-summary")).to_have_text(summary)
        names = adding.find("upload-done").locator(".upload-name")
        assert set(names.all_inner_texts()) == {"holiday/first.jpg", "holiday/day two/second.jpg"}
        adding.open(view="add")


def test_dropped_files_are_sent(adding: SearchPage) -> None:
    adding.drop(turned("galaxies.jpg", "dropped.jpg"), on="[data-testid=drop-zone]")
    finished(adding)
    expect(adding.find("upload-summary")).to_have_text("1 added")
    # The link of a row opens the photo.
    adding.find("upload-done").get_by_role("link").click()
    expect(adding.page.locator("#lightbox")).to_have_attribute(
        "data-id", photo_ids(adding.server)["dropped.jpg"]
    )
    adding.expect_drawn("[data-testid=lightbox-image]")


def test_photos_that_browsers_do_not_know_are_chosen_sent_and_shown(adding: SearchPage) -> None:
    names = ("photo.heic", "photo-pages.tif", "photo.psd")
    chooser = adding.find("choose-photos-input")
    assert {".heic", ".dng", ".psd"} <= set((chooser.get_attribute("accept") or "").split(","))
    see_through = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    see_through.putpixel((20, 10), (0, 0, 255, 255))
    png = BytesIO()
    see_through.save(png, "PNG")
    files = [File(name, (FORMATS / name).read_bytes(), "") for name in names]
    files.append(File("see-through.png", png.getvalue()))
    chooser.set_input_files([file.for_chooser() for file in files])
    finished(adding)
    expect(adding.find("upload-summary")).to_have_text("4 added")
    ids = photo_ids(adding.server)
    for name in (*names, "see-through.png"):
        adding.page.goto(f"{adding.server.url}/?open={ids[name]}")
        adding.expect_drawn("[data-testid=lightbox-image]")
        image = adding.find("lightbox-image")
        width, height = (96, 64) if name in names else (40, 20)
        assert image.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [width, height]
        # As large as its place allows, and the white behind it no larger than the photo.
        box, place = image.bounding_box(), adding.page.locator(".lightbox-stage").bounding_box()
        assert box is not None
        assert place is not None
        assert box["width"] / box["height"] == pytest.approx(width / height, rel=0.02)
        assert min(place["width"] - box["width"], place["height"] - box["height"]) < 2
    pixels = Image.open(BytesIO(image.screenshot())).convert("RGB")
    assert pixels.getpixel((5, 5)) == (255, 255, 255)


def test_progress_is_shown_and_can_be_cancelled_and_gone_on_with(adding: SearchPage) -> None:
    files = [turned(name, f"many {name}") for name in ("gravel.jpg", "bricks.jpg", "coins.jpg", "retina.jpg")]
    files += [turned(name, f"many {name}") for name in ("raccoon.jpg", "dandelion.jpg")]
    held: list[Route] = []

    def hold_the_second(route: Route) -> None:
        held.append(route)
        if len(held) != 2:
            route.continue_()

    adding.page.route("**/v1/documents", hold_the_second)
    adding.find("choose-photos-input").set_input_files([file.for_chooser() for file in files])
    expect(adding.find("upload-words")).to_have_text(
        "4 of 6 photos: sending many raccoon.jpg and others", timeout=FIRST_WRITE
    )
    assert adding.find("upload-progress").evaluate("bar => [bar.value, bar.max]") == [4, 6]
    adding.find("upload-cancel").click()
    finished(adding, "Cancelled.")
    expect(adding.find("upload-summary")).to_have_text("4 added, 2 not sent")
    adding.find("upload-again").click()
    finished(adding)
    expect(adding.find("upload-summary")).to_have_text("2 added")
    assert len([name for name in photo_ids(adding.server) if name.startswith("many ")]) == 6


def test_files_that_are_no_photos_are_refused_before_anything_is_sent(adding: SearchPage) -> None:
    adding.find("choose-photos-input").set_input_files(NOTES.for_chooser())
    expect(adding.find("upload-no-photos")).to_contain_text("1 file, none of them")
    expect(adding.find("upload-run")).to_have_count(0)


def test_tags_that_cannot_be_read_are_said(adding: SearchPage) -> None:
    adding.find("upload-tags").fill("harbour")
    adding.find("choose-photos-input").set_input_files(turned("cat.jpg", "cat.jpg").for_chooser())
    expect(adding.find("upload-problem")).to_contain_text("“harbour” is not a tag")
    expect(adding.find("upload-run")).to_have_count(0)
