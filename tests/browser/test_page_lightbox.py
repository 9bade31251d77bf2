"""The lightbox: one photo large, its captions and tags, the next and the previous one."""

from __future__ import annotations

import httpx2
import pytest
from conftest import REPOSITORY, TOY_IMAGES, Server
from playwright.sync_api import Locator, Page, Route, expect

from browser.page_driver import SearchPage, eventually, photo_ids
from browser.watch import Watch

SENTENCE = "a person at work"


@pytest.fixture
def found(page: Page, toy_server: Server) -> SearchPage:
    return SearchPage(page, toy_server).open().search(SENTENCE)


def opened(searching: SearchPage, document_id: str) -> Locator:
    """Clicks a result; the lightbox that shows it."""
    searching.result(document_id).get_by_test_id("open-result").click()
    return showing(searching, document_id)


def showing(searching: SearchPage, document_id: str) -> Locator:
    """The lightbox once it shows this document."""
    lightbox = searching.page.locator("dialog#lightbox[open]")
    expect(lightbox).to_have_attribute("data-id", document_id)
    return lightbox


def test_it_shows_the_photo_its_captions_and_its_tags(found: SearchPage) -> None:
    photo = photo_ids(found.server)["cameraman.jpg"]
    lightbox = opened(found, photo)
    status, document = found.server.request(f"/v1/documents/{photo}")
    assert status == 200
    found.expect_drawn("[data-testid=lightbox-image]")
    expect(lightbox.get_by_test_id("lightbox-image")).to_have_attribute("src", document["photo"]["content"])
    captions = lightbox.get_by_test_id("lightbox-captions").locator("li")
    expect(captions).to_have_text([caption["text"] for caption in document["captions"]])
    lightbox.get_by_test_id("all-tags").locator("summary").click()
    tags = lightbox.get_by_test_id("lightbox-tags")
    names, values = tags.locator("dt").all_inner_texts(), tags.locator("dd").all_inner_texts()
    shown = dict(zip(names, values, strict=True))
    assert shown.keys() == document["tags"].keys()
    assert shown.items() >= {"subject": "person", "tones": "black and white", "file": "cameraman.jpg"}.items()
    match = next(
        each for each in found.asked({"text": SENTENCE, "top_k": 15})["matches"] if each["id"] == photo
    )
    expect(lightbox).to_contain_text(f"cosine {match['cosine']:.3f}")


def test_a_photo_opened_before_the_server_has_told_of_itself_can_be_deleted(
    page: Page, toy_server: Server
) -> None:
    held: list[Route] = []
    page.route("**/v1/status", lambda route: held.append(route))
    searching = SearchPage(page, toy_server).open().search(SENTENCE)
    lightbox = opened(searching, photo_ids(toy_server)["cameraman.jpg"])
    expect(lightbox.get_by_test_id("lightbox-link")).to_be_visible()
    expect(lightbox.get_by_test_id("lightbox-delete")).to_have_count(0)
    for route in held:
        route.continue_()
    expect(lightbox.get_by_test_id("lightbox-delete")).to_be_visible()


def test_a_caption_is_shown_with_its_photo_and_the_photos_other_captions(found: SearchPage) -> None:
    caption = found.asked({"text": SENTENCE, "modality": "text"})["matches"][0]
    found.show("captions")
    lightbox = opened(found, caption["id"])
    expect(lightbox.get_by_test_id("lightbox-image")).to_have_attribute("src", caption["photo"]["content"])
    _, photo = found.server.request(f"/v1/documents/{caption['photo']['id']}")
    listed = lightbox.get_by_test_id("lightbox-captions").locator("li")
    expect(listed).to_have_count(len(photo["captions"]))
    expect(listed.first).to_have_text(caption["text"])


def test_arrows_walk_through_the_results_and_escape_gives_the_focus_back(found: SearchPage) -> None:
    first, second, third = found.shown()[:3]
    searched = len(found.sent)
    lightbox = opened(found, first)
    expect(lightbox.get_by_test_id("lightbox-previous")).to_be_disabled()
    found.page.keyboard.press("ArrowRight")
    showing(found, second)
    lightbox.get_by_test_id("lightbox-next").click()
    showing(found, third)
    found.page.keyboard.press("ArrowLeft")
    showing(found, second)
    assert dict(found.parameters())["open"] == second
    found.page.keyboard.press("Escape")
    expect(found.page.locator("#lightbox")).to_be_hidden()
    expect(found.result(second).get_by_test_id("open-result")).to_be_focused()
    assert found.parameters() == [("text", SENTENCE)]
    # Opening and closing searched nothing again.
    assert len(found.sent) == searched


def test_the_focus_stays_within_it(found: SearchPage) -> None:
    lightbox = opened(found, found.ids()[0])
    for _ in range(12):
        found.page.keyboard.press("Tab")
        inside = found.page.evaluate(
            "() => document.activeElement === document.body"
            " || document.querySelector('#lightbox').contains(document.activeElement)"
        )
        assert inside
    lightbox.get_by_test_id("lightbox-close").click()
    expect(lightbox).to_be_hidden()


def test_back_closes_it_and_its_address_opens_it(found: SearchPage) -> None:
    photo = found.ids()[1]
    opened(found, photo)
    address = found.page.url
    found.page.go_back()
    expect(found.page.locator("#lightbox")).to_be_hidden()
    found.page.go_forward()
    showing(found, photo)
    found.page.goto("about:blank")
    found.page.goto(address)
    showing(found, photo)
    found.settled()
    found.page.keyboard.press("Escape")
    expect(found.page.locator("#lightbox")).to_be_hidden()
    found.expect_ids(found.asked_ids(text=SENTENCE, modality="image", top_k=24))


def test_more_like_the_open_photo(found: SearchPage) -> None:
    photo = photo_ids(found.server)["cameraman.jpg"]
    opened(found, photo).get_by_test_id("lightbox-more").click()
    expect(found.page.locator("#lightbox")).to_be_hidden()
    found.expect_ids(found.asked_ids(terms=[{"text": SENTENCE}, {"id": photo}], modality="image", top_k=24))


def test_it_is_zoomed_and_moved(found: SearchPage) -> None:
    opened(found, found.ids()[0])
    found.expect_drawn("[data-testid=lightbox-image]")
    image = found.find("lightbox-image")

    def box() -> list[float]:
        place: list[float] = image.evaluate("image => Object.values(image.getBoundingClientRect().toJSON())")
        return place

    still = box()
    image.hover()
    found.page.mouse.wheel(0, -400)
    eventually(lambda: box()[2] > 1.1 * still[2], True)
    image.dblclick()
    eventually(box, still)
    image.dblclick()
    eventually(lambda: box()[2], pytest.approx(2.5 * still[2], rel=0.01))
    left = box()[0]
    found.page.mouse.move(500, 400)
    found.page.mouse.down()
    found.page.mouse.move(560, 400, steps=3)
    found.page.mouse.up()
    assert box()[0] == pytest.approx(left + 60, abs=2)
    found.page.keyboard.press("0")
    eventually(box, still)


def test_the_next_photo_is_there_before_it_is_asked_for(found: SearchPage) -> None:
    first, second = found.shown()[:2]
    with found.page.expect_request(f"**/{second}/content"):
        opened(found, first)


def test_captions_tags_and_stars_are_changed_and_taken_back(page: Page, writable_server: Server) -> None:
    searching = SearchPage(page, writable_server).open()
    id = photo_ids(writable_server)["coffee.jpg"]

    def document() -> tuple[dict[str, str], object, object]:
        _, answer = writable_server.request(f"/v1/documents/{id}")
        captions = {each["id"]: each["text"] for each in answer["captions"]}
        return captions, *map(answer["tags"].get, ("keywords", "rating"))

    captions, keywords, rating = before = document()
    lightbox = opened(searching, id)
    listed = lightbox.get_by_test_id("lightbox-captions").locator("li")

    def taken_back(*texts: str) -> None:
        """Waits for these captions, and takes the change back by the button on its message."""
        eventually(lambda: sorted(document()[0].values()), sorted(texts))
        lightbox.get_by_test_id("undo").last.click()
        eventually(document, before)

    # Somebody else changes it meanwhile, and this page doesn't know.
    httpx2.patch(
        f"{writable_server.url}/v1/documents/{id}", json={"add": {"captions": ["theirs"]}}
    ).raise_for_status()
    captions, keywords, rating = before = document()
    first, *others = captions.values()
    add = lightbox.get_by_test_id("add-caption")
    add.fill("a cup on a table")
    add.press("Enter")
    taken_back(first, *others, "a cup on a table")
    expect(listed).to_have_count(len(captions))
    lightbox.get_by_test_id("caption-edit").first.click()
    field = lightbox.get_by_test_id("caption-text")
    field.fill("coffee, mostly")
    field.press("Enter")
    taken_back("coffee, mostly", *others)

    # A caption that is removed is there until that can't be taken back any more.
    expect(listed).to_have_count(len(captions))
    lightbox.get_by_test_id("caption-remove").first.click()
    expect(listed).to_have_count(len(others))
    lightbox.get_by_test_id("undo").last.click()
    expect(listed).to_have_count(len(captions))
    assert document() == before
    page.clock.install()
    lightbox.get_by_role("button", name="Remove the caption: theirs").click()
    expect(listed).to_have_count(len(others))
    page.clock.run_for(9000)
    left = {each: text for each, text in captions.items() if text != "theirs"}
    eventually(document, (left, keywords, rating))
    page.clock.resume()

    tag = lightbox.get_by_test_id("add-keyword")
    tag.fill("breakfast")
    tag.press("Enter")
    eventually(lambda: document()[1:], (["breakfast"], rating))
    lightbox.get_by_test_id("undo").last.click()
    eventually(lambda: document()[1:], (keywords, rating))
    lightbox.get_by_test_id("star-4").click()
    eventually(lambda: document()[1:], (keywords, 4))
    lightbox.get_by_test_id("undo").last.click()
    eventually(lambda: document()[1:], (keywords, rating))


def test_what_the_file_says_is_removed(page: Page, writable_server: Server) -> None:
    file = REPOSITORY / "tests" / "fixtures" / "metadata" / "described.jpg"
    sent = {"file": (file.name, file.read_bytes(), "image/jpeg")}
    id = httpx2.post(f"{writable_server.url}/v1/documents", files=sent, timeout=60).json()["results"][0]["id"]

    def said() -> list[object]:
        _, answer = writable_server.request(f"/v1/documents/{id}")
        return [answer["tags"].get(name) for name in ("keywords", "rating")]

    assert said() == [["of jpg"], 4]
    lightbox = showing(SearchPage(page, writable_server).open(open=id), id)
    lightbox.get_by_role("button", name="Remove the tag of jpg").click()
    expect(lightbox.get_by_test_id("keyword")).to_have_count(0)
    lightbox.get_by_test_id("star-4").click()
    expect(lightbox.get_by_test_id("star-4")).to_have_attribute("aria-pressed", "false")
    eventually(said, [None, None])
    lightbox.get_by_test_id("undo").first.click()
    eventually(said, [["of jpg"], None])
    writable_server.request("/v1/documents/deletion", {"ids": [id]})


def test_the_original_is_downloaded(found: SearchPage) -> None:
    lightbox = opened(found, photo_ids(found.server)["cat.jpg"])
    with found.page.expect_download() as download:
        lightbox.get_by_test_id("lightbox-download").click()
    assert download.value.suggested_filename == "cat.jpg"
    assert download.value.path().read_bytes() == (TOY_IMAGES / "cat.jpg").read_bytes()


def test_photos_of_the_start_page_open_as_well(page: Page, toy_server: Server) -> None:
    searching = SearchPage(page, toy_server).open()
    tiles = searching.page.locator("[data-testid=gallery] [data-testid=result]")
    expect(tiles).to_have_count(15)
    first, second = (str(tiles.nth(number).get_attribute("data-id")) for number in (0, 1))
    opened(searching, first)
    page.keyboard.press("ArrowRight")
    showing(searching, second).get_by_test_id("lightbox-more").click()
    searching.settled()
    searching.expect_ids(searching.asked_ids(id=second, modality="image", top_k=24))
    assert second not in searching.ids()


def test_an_id_that_is_not_there_is_said(page: Page, toy_server: Server, watch: Watch) -> None:
    watch.expect("status of 404")
    searching = SearchPage(page, toy_server).open(open="no-such-document")
    _, problem = toy_server.request("/v1/documents/no-such-document")
    expect(searching.page.locator("#lightbox")).to_contain_text(problem["detail"])
    searching.find("lightbox-close").click()
    expect(searching.find("gallery")).to_be_visible()
