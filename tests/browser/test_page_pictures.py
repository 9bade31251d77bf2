"""A picture as the question: dropped, pasted, chosen, photographed or dragged from another page."""

from __future__ import annotations

import re

import pytest
from conftest import TOY_IMAGES, Server
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from browser.page_driver import (
    File,
    SearchPage,
    changed_file,
    data_uri,
    encoded,
    photo_ids,
    picture_in,
    toy_file,
)

# A camera that sees one photo, and whether it was switched off.
_CAMERA = """uri => {
    navigator.mediaDevices.getUserMedia = async () => {
        const image = new Image();
        image.src = uri;
        await image.decode();
        const {width, height} = image;
        const canvas = Object.assign(document.createElement("canvas"), {width, height});
        const draw = () => canvas.getContext("2d").drawImage(image, 0, 0);
        setInterval(draw, 50);
        draw();
        window.camera = canvas.captureStream(20);
        return window.camera;
    };
}"""


@pytest.fixture
def opened(page: Page, toy_server: Server) -> SearchPage:
    """The page as it opens."""
    return SearchPage(page, toy_server).open()


def assert_found_captions_of(searching: SearchPage, toy_name: str) -> None:
    """It itself and its own caption come first, and all stand in the order of the API."""
    expect(searching.page.locator("[data-testid=section-image] [data-testid=result]").first).to_be_visible()
    searching.settled()
    photo = photo_ids(searching.server)[toy_name]
    assert searching.ids("image")[0] == photo
    image = searching.sent[-1]["queries"][1]["image"]
    assert searching.ids("image") == searching.asked_ids(image=image, modality="image", top_k=48)
    found = searching.asked({"image": image, "modality": "text", "top_k": 48})["matches"]
    assert found[0]["photo"]["id"] == photo
    expect(searching.result(photo).get_by_test_id("found-caption")).to_contain_text(found[0]["text"])


def test_a_dropped_photo_finds_captions(opened: SearchPage) -> None:
    opened.drop(toy_file("cat.jpg"))
    assert_found_captions_of(opened, "cat.jpg")
    chip = opened.find("term")
    expect(chip).to_contain_text("cat.jpg")
    opened.expect_drawn("[data-testid=term] img")


def test_where_it_may_be_dropped_is_shown_during_the_drag(opened: SearchPage) -> None:
    overlay = opened.page.locator("#drop-overlay")
    expect(overlay).to_be_hidden()
    opened.page.evaluate(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["x"], "photo.jpg", {type: "image/jpeg"}));
            document.body.dispatchEvent(new DragEvent("dragenter", {dataTransfer: transfer, bubbles: true}));
        }"""
    )
    expect(overlay).to_be_visible()
    opened.page.evaluate(
        "() => document.body.dispatchEvent(new DragEvent('dragleave', "
        "{dataTransfer: new DataTransfer(), bubbles: true}))"
    )
    expect(overlay).to_be_hidden()


def test_a_picture_is_pasted_from_the_clipboard(opened: SearchPage, context: BrowserContext) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    # The clipboard takes PNG only, so the browser makes one of the photo.
    opened.page.evaluate(
        """async uri => {
            const image = new Image();
            image.src = uri;
            await image.decode();
            const {width, height} = image;
        const canvas = Object.assign(document.createElement("canvas"), {width, height});
            canvas.getContext("2d").drawImage(image, 0, 0);
            const png = await new Promise(resolve => canvas.toBlob(resolve, "image/png"));
            await navigator.clipboard.write([new ClipboardItem({"image/png": png})]);
        }""",
        data_uri(toy_file("coffee.jpg")),
    )
    opened.box.focus()
    opened.page.keyboard.press("Control+v")
    assert_found_captions_of(opened, "coffee.jpg")


def test_a_pasted_file_is_searched_with_and_pasted_text_is_text(
    opened: SearchPage, context: BrowserContext
) -> None:
    opened.paste(toy_file("dandelion.jpg"))
    assert_found_captions_of(opened, "dandelion.jpg")
    sent = len(opened.sent)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.page.evaluate("() => navigator.clipboard.writeText('https://example.org/cat.jpg')")
    opened.find("refine-box").focus()
    opened.page.keyboard.press("Control+v")
    expect(opened.find("refine-box")).to_have_value("https://example.org/cat.jpg")
    assert len(opened.sent) == sent


def test_a_chosen_photo_finds_captions(opened: SearchPage) -> None:
    with opened.page.expect_file_chooser() as chooser:
        opened.page.get_by_role("button", name="Search with a picture").click()
    chooser.value.set_files(toy_file("dandelion.jpg").for_chooser())
    assert_found_captions_of(opened, "dandelion.jpg")
    # The same file a second time is no second term.
    assert [kind for kind, _, _ in opened.terms()] == ["upload"]


def test_a_sentence_and_a_picture_together(opened: SearchPage) -> None:
    opened.search("in black and white")
    opened.drop(toy_file("cat.jpg"))
    expect(opened.find("term")).to_have_count(2)
    opened.settled()
    terms = opened.sent[-1]["queries"][0]["terms"]
    assert terms[0] == {"text": "in black and white"}
    opened.expect_ids(opened.asked_ids(terms=terms, modality="image", top_k=24))


def test_the_camera_takes_a_picture(page: Page, toy_server: Server) -> None:
    page.add_init_script(f"({_CAMERA})({data_uri(toy_file('dandelion.jpg'))!r})")
    searching = SearchPage(page, toy_server).open()
    page.get_by_role("button", name="Search with the camera").click()
    take = searching.find("camera-take")
    expect(take).to_be_enabled()
    # Some frames, so that what is taken is not an empty one.
    page.wait_for_function("() => document.querySelector('#camera video').currentTime > 0.3")
    take.click()
    assert_found_captions_of(searching, "dandelion.jpg")
    expect(page.locator("#camera")).to_be_hidden()
    assert page.evaluate("() => window.camera.getTracks().map(track => track.readyState)") == ["ended"]


def test_without_a_camera_it_says_what_to_do_instead(opened: SearchPage) -> None:
    opened.page.get_by_role("button", name="Search with the camera").click()
    said = opened.page.locator("#camera [role=status]")
    expect(said).to_have_text(re.compile("hoose a picture instead"))
    with opened.page.expect_file_chooser() as chooser:
        opened.page.get_by_role("button", name="Choose a picture instead").click()
    chooser.value.set_files(toy_file("cat.jpg").for_chooser())
    assert_found_captions_of(opened, "cat.jpg")


def test_pictures_are_scaled_down_to_1024_pixels_before_they_are_sent(opened: SearchPage) -> None:
    for size, sent in (
        ((3000, 2000), (1024, 683)),
        ((900, 2700), (341, 1024)),
        ((1024, 500), (1024, 500)),
        ((90, 60), (90, 60)),
    ):
        opened.open()
        opened.drop(changed_file("cat.jpg", "large.jpg", size=size))
        opened.page.locator("#results[data-kind=matches]").wait_for()
        images = [query["image"] for query in opened.sent[-1]["queries"]]
        assert [picture_in(image).size for image in images] == [sent, sent]


def test_a_turned_photo_is_sent_upright(opened: SearchPage) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # as a phone held upright writes it: turn by 90 degrees to the right
    photo = Image.open(TOY_IMAGES / "dandelion.jpg").convert("RGB").transpose(Image.Transpose.ROTATE_90)
    width, height = photo.size
    opened.drop(File("turned.jpg", encoded(photo, exif=exif)))
    assert_found_captions_of(opened, "dandelion.jpg")
    assert picture_in(opened.sent[-1]["queries"][0]["image"]).size == (height, width)


def test_a_file_that_is_no_picture_is_refused_in_words(opened: SearchPage) -> None:
    opened.drop(File("report.pdf", b"%PDF-1.4 nothing to see", "application/pdf"))
    expect(opened.find("toast")).to_contain_text("report.pdf (application/pdf) is not a picture")
    assert opened.sent == []
    assert opened.terms() == []


def test_an_address_alone_is_not_fetched_and_says_so(opened: SearchPage) -> None:
    requests: list[str] = []
    opened.page.on("request", lambda request: requests.append(request.url))
    opened.drop(uri_list="https://example.org/photos/cat.jpg", plain="https://example.org/photos/cat.jpg")
    toast = opened.find("toast")
    expect(toast).to_contain_text("only an address (https://example.org/photos/cat.jpg)")
    expect(toast).to_contain_text("Save the picture and drop the file")
    assert [url for url in requests if not url.startswith(opened.server.url)] == []
    assert opened.sent == []
    assert opened.terms() == []


def test_where_the_browser_hands_over_bytes_they_are_used(opened: SearchPage) -> None:
    opened.drop(toy_file("galaxies.jpg"), uri_list="https://example.org/photos/stars.jpg")
    assert_found_captions_of(opened, "galaxies.jpg")


def test_one_of_the_results_dragged_onto_the_box_is_that_photo(opened: SearchPage) -> None:
    opened.search("a cup of coffee")
    coffee = photo_ids(opened.server)["coffee.jpg"]
    opened.result(coffee).locator("img").drag_to(opened.box)
    opened.expect_ids(
        opened.asked_ids(terms=[{"text": "a cup of coffee"}, {"id": coffee}], modality="image", top_k=24)
    )
    assert opened.terms() == [("text", "a cup of coffee", 1), ("id", coffee, 1)]
    opened.drop(uri_list=f"{opened.server.url}/images/{photo_ids(opened.server)['cat.jpg']}")
    expect(opened.find("term")).to_have_count(3)


def test_a_link_leaves_pictures_out_and_says_so(opened: SearchPage, context: BrowserContext) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.search("a cat")
    opened.drop(toy_file("cat.jpg"))
    expect(opened.page.locator("#notice")).to_contain_text("kept in this tab only")
    opened.settled()
    opened.find("copy-link").click()
    expect(opened.find("toast")).to_contain_text("leaves out the pictures")
    link = opened.page.evaluate("() => navigator.clipboard.readText()")
    other = SearchPage(context.new_page(), opened.server)
    other.page.goto(link)
    other.settled()
    expect(other.page.locator("#notice")).to_contain_text("This link left out 1 uploaded picture")
    assert other.ids() == other.asked_ids(text="a cat", modality="image", top_k=24)


def test_back_and_forward_keep_the_picture(opened: SearchPage) -> None:
    opened.drop(toy_file("cat.jpg"))
    assert_found_captions_of(opened, "cat.jpg")
    with_picture = opened.ids()
    opened.page.go_back()
    expect(opened.find("gallery")).to_be_visible()
    opened.page.go_forward()
    opened.expect_ids(with_picture)
    assert len(opened.sent) == 1
