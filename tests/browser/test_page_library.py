"""A library as people have it: every format is shown, and what each source says finds its photo."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zipfile import ZipFile

import httpx2
import pytest
from conftest import REPOSITORY, Server, start_server
from decoded_photos import reference
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, expect
from raw_files import raw_file
from videos import write_video

from browser.accessibility import assert_accessible
from browser.page_driver import Json, SearchPage, encoded, eventually, photo_ids
from crossmodal import PhotoIndex
from crossmodal.cli import main
from crossmodal.engine.engine import Engine
from crossmodal.images import sniff_mime_type
from crossmodal.images.formats import BROWSER_TYPES, FORMATS
from crossmodal.settings import Settings

FIXTURES = REPOSITORY / "tests" / "fixtures"
MODEL = "clip-mini"

VIDEO, RECEIPT, TOLD = "trip.webm", "receipt.png", "told.jpg"
EXIFTOOL = shutil.which("exiftool")

OF_2019 = [
    f"described.{ending}"
    for ending in ("avif", "gif", "heic", "jp2", "jpg", "jxl", "png", "psd", "tif", "webp")
]

FOUND: list[tuple[dict[str, Any], list[str]]] = [
    *(({"keywords": f"of {name.partition('.')[2]}"}, [name]) for name in OF_2019),
    ({"taken": "2019-07-04"}, OF_2019),
    ({"camera": "Canon EOS 5D"}, [name for name in OF_2019 if name != "described.gif"]),
    ({"location": {"$near": [48.86, 2.3], "$within_km": 2}}, OF_2019),
    ({"keywords": "market"}, ["words.jpg"]),
    ({"taken": {"$gte": "2018-05-06T07", "$lt": "2018-05-06T08"}}, ["words.jpg"]),
    ({"people": "Anna", "rating": {"$gte": 5}, "city": "Brest"}, ["beside.jpg"]),
    ({"description": "Google's first name"}, ["takeout-1.jpg"]),
    ({"description": "Google's second name"}, ["takeout-2.jpg"]),
    ({"taken_from": "file name", "year": 2018}, ["IMG_20180102_030405.jpg"]),
    ({"folder": "raw", "format": "DNG"}, ["camera.dng"]),
    ({"file": "sensor.nef"}, ["sensor.nef"]),
    ({"frames": {"$gt": 1}, "format": "TIFF"}, ["photo-pages.tif"]),
    ({"duration_seconds": {"$gte": 2}, "format": "WebM"}, [VIDEO]),
    *([({"keywords": "of exiftool", "rating": 3}, [TOLD])] if EXIFTOOL else []),
]


@dataclass(frozen=True)
class Library:
    """A folder, its index, and the names of its photos."""

    folder: Path
    workspace: Path
    names: list[str]


def another(quality: int) -> bytes:
    """The photo as another content."""
    held = BytesIO()
    reference().save(held, "JPEG", quality=quality)
    return held.getvalue()


def of_takeout(description: str) -> bytes:
    """What Google Takeout writes beside a photo."""
    said = {"description": description, "photoTakenTime": {"timestamp": "1500000000"}}
    return json.dumps(said).encode()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    for package in ("pyjpegxl", "rawpy", "av", "rapidocr"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("library") / "photos"
    shutil.copytree(FIXTURES / "formats", folder / "formats")
    shutil.copytree(FIXTURES / "metadata", folder / "metadata")
    written = {
        "raw/camera.dng": raw_file(preview=encoded(reference().resize((960, 640)))),
        "raw/sensor.nef": raw_file(standard=False, side=128),
        "takeout/takeout-1.jpg": another(61),
        "takeout/takeout-1.jpg.json": of_takeout("Google's first name"),
        "takeout/takeout-2.jpg": another(62),
        "takeout/takeout-2.jpg.supplemental-metadata.json": of_takeout("Google's second name"),
        "IMG_20180102_030405.jpg": another(63),
        "cut.jpg": another(95)[:-700],
        "broken.jpg": b"<html>not a photo</html>",
        "notes.txt": b"nothing",
    }
    for kind, name in (("MPO", "stereo.mpo"), ("PNG", "animation.apng"), ("BMP", "photo.bmp")):
        held = BytesIO()
        more = {} if kind == "BMP" else {"save_all": True, "append_images": [reference().rotate(180)]}
        reference().save(held, kind, **more)
        written[name] = held.getvalue()
    for path, content in written.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
    # One scene, so one moment.
    write_video(folder / VIDEO, ["rocket"], codec="vp8")
    picture = Image.new("RGB", (640, 240), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(44)
    pen.text((40, 40), "Oat milk   2,49\nTOTAL   2,49", fill="black", font=font)
    picture.save(folder / RECEIPT)
    if EXIFTOOL is not None:
        (folder / TOLD).write_bytes(another(64))
        told = ("-XMP-dc:Subject=of exiftool", "-IPTC:Headline=The brass lamp", "-XMP-xmp:Rating=3")
        subprocess.run([EXIFTOOL, "-q", "-overwrite_original", *told, folder / TOLD], check=True)
    workspace = folder.parent / "index"
    with PhotoIndex(workspace, model=MODEL) as index:
        summary = index.add(folder)
        failures = [Path(failure.source).name for failure in summary.failures]
        warned = [
            Path(warning.source).name for warning in summary.warnings if "could be read" in warning.reason
        ]
        ids = {record.id: str(record.file) for record in index if record.modality == "image"}
    assert (failures, warned) == (["broken.jpg"], ["cut.jpg"])
    names = list(ids.values())
    with Engine(Settings(workspace=workspace)) as engine:
        # Of the one that has some, as reading takes long.
        for read in engine.read_texts(skip=[id for id, name in ids.items() if name != RECEIPT]):
            assert read.error is None
    return Library(folder, workspace, names)


@pytest.fixture(scope="module")
def server(library: Library) -> Iterator[Server]:
    started = start_server("query_restful", "--workspace", library.workspace)
    yield started
    started.stop()


def test_every_photo_is_in_the_index(library: Library) -> None:
    endings = {ending for format in FORMATS for ending in format.extensions} | {".webm"}
    photos = [path for path in library.folder.rglob("*") if path.suffix in endings]
    assert sorted(library.names) == sorted(path.name for path in photos if path.name != "broken.jpg")
    types = {sniff_mime_type(path.read_bytes()) for path in photos}
    assert [format.name for format in FORMATS if not types & set(format.mime_types)] == []


def test_what_each_source_says_finds_its_photo(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    with PhotoIndex(library.workspace) as index:
        for wanted, names in FOUND:
            found = index.search("a cat", top_k=100, filter=wanted)
            assert sorted(str(match.file) for match in found) == sorted(names), wanted
        for words, name in (
            ("the lighthouse", "beside.jpg"),
            ("a heap of oranges", "words.jpg"),
            ("Google's second name", "takeout-2.jpg"),
            *([("the brass lamp", TOLD)] if EXIFTOOL else []),
        ):
            first = index.search(words, modality="text", hybrid=True)[0]
            photo = index.get(str(first.photo_id))
            assert photo is not None
            assert photo.file == name
        receipt = index.search("oat milk", hybrid=True)[0]
        assert (receipt.file, receipt.text_in_photo) == (RECEIPT, "Oat milk 2,49 · TOTAL 2,49")
        moment = index.search("a rocket")[0]
        assert (moment.file, moment.tags["time_seconds"]) == (VIDEO, 0.0)
    asked = ["search", "a cat", "--workspace", str(library.workspace), "--print", "paths"]
    assert main([*asked, "--filter", json.dumps({"people": "Anna"})]) == 0
    assert Path(capsys.readouterr().out.strip()).name == "beside.jpg"


def test_browsers_get_each_photo_in_a_format_that_they_show(server: Server, library: Library) -> None:
    ids = photo_ids(server)
    assert sorted(ids) == sorted(library.names)
    for name, id in ids.items():
        answer = httpx2.get(f"{server.url}/v1/documents/{id}/content")
        assert answer.status_code == 200, name
        if name == VIDEO:
            assert answer.headers["content-type"] == "video/webm"
            assert answer.content == (library.folder / VIDEO).read_bytes()
            continue
        assert sniff_mime_type(answer.content) == answer.headers["content-type"], name
        assert answer.headers["content-type"] in BROWSER_TYPES, name
        if name != "cut.jpg":
            # Browsers show that one as far as it goes.
            Image.open(BytesIO(answer.content)).load()


def test_no_answer_tells_where_the_folder_lies(server: Server, library: Library) -> None:
    body = {"data": ["a cat"], "parameters": {"top_k": 50}}
    for answer in (
        httpx2.get(f"{server.url}/v1/documents?limit=200"),
        httpx2.get(f"{server.url}/v1/tags"),
        httpx2.post(f"{server.url}/v1/search", json={"text": "a cat", "top_k": 50}),
        *(httpx2.post(f"{server.url}{path}", json=body) for path in ("/search", "/api/search")),
    ):
        assert answer.status_code == 200
        assert "described.heic" in answer.text
        assert str(library.folder) not in answer.text


def test_the_page_shows_every_photo_and_filters_by_what_is_known(
    page: Page, server: Server, library: Library
) -> None:
    names = photo_ids(server)
    shown = SearchPage(page, server).open()
    expect(shown.page.locator("[data-testid=gallery] [data-testid=result]")).to_have_count(len(library.names))
    shown.expect_drawn("[data-testid=gallery] img")

    def expect_found(*wanted: str) -> None:
        eventually(lambda: set(shown.settled().ids()), {names[name] for name in wanted})

    shown.search("a cat")
    shown.find("filters-button").click()
    shown.find("group-duplicates").uncheck()
    # A point and a distance from it.
    shown.find("filter-near").fill("48.86, 2.3")
    shown.find("filter-near").press("Enter")
    expect_found(*OF_2019)
    expect(shown.find("active-filter").first).to_have_text("within 5 km of 48.86, 2.3")
    shown.find("filter-km").fill("0.2")
    shown.find("filter-km").press("Enter")
    expect(shown.find("nothing-found")).to_be_visible()
    shown.find("filter-near").fill("somewhere")
    shown.find("filter-near").press("Enter")
    assert (
        shown.find("filter-near").evaluate("input => input.validationMessage").startswith("Write a latitude")
    )
    shown.find("active-filter").first.click()

    # A range of dates.
    def dated(end: str, day: str) -> None:
        page.locator(f"[data-testid=filter-{end}][data-field=taken]").fill(day)
        page.locator(f"[data-testid=filter-{end}][data-field=taken]").press("Enter")

    dated("min", "2018-05-06")
    dated("max", "2018-05-06")
    expect_found("words.jpg")
    expect(shown.find("active-filter").first).to_have_text("taken: 2018-05-06 to 2018-05-06")
    shown.find("active-filter").first.click()
    # A value of a list.
    page.locator("[data-testid=filter-field][data-field=people]").evaluate("panel => { panel.open = true; }")
    page.locator("[data-testid=filter-value][data-value=Anna]").check()
    expect_found("beside.jpg")
    shown.find("active-filter").first.click()

    # What is understood of a sentence is said, and can be taken away.
    shown.search("a person in July 2019")
    expect(shown.find("recognised")).to_contain_text("July 2019")
    expect_found(*OF_2019)
    shown.find("take-literally").click()
    expect_found(*library.names)


def test_photos_are_browsed_by_year_day_camera_and_folder(page: Page, server: Server) -> None:
    def listed(filter: Json | None = None) -> list[str]:
        narrowed = f"&filter={quote(json.dumps(filter))}" if filter else ""
        _, answer = server.request(f"/v1/documents?modality=image&limit=200&sort=-taken{narrowed}")
        return [document["id"] for document in answer["documents"]]

    browsed = SearchPage(page, server).open()

    def expect_shown(filter: Json | None = None) -> None:
        eventually(browsed.shown, listed(filter))

    # The newest come first, and the years stand at the side, but not over the filters.
    expect_shown()
    browsed.find("filters-button").click()
    expect(browsed.page.locator("#timeline")).to_be_hidden()
    panel = browsed.page.locator("#filters")
    assert panel.locator(".fields").evaluate("fields => fields.clientWidth") > 1000
    browsed.find("filters-button").click()
    _, tags = server.request("/v1/tags")
    years = next(field for field in tags["fields"] if field["name"] == "year")["values"]
    newest_first = sorted((each["value"] for each in years), reverse=True)
    expect(browsed.find("year")).to_have_text(["All", *map(str, newest_first)])
    page.locator("[data-testid=year][data-year='2019']").click()
    expect_shown({"year": 2019})
    expect(browsed.find("active-filter")).to_have_text("year: 2019")
    page.reload()
    expect_shown({"year": 2019})
    page.locator("[data-testid=year][data-year=all]").click()
    expect_shown()

    # From an open photo to those of its day, its camera, its folder and around it.
    photo = photo_ids(server)["described.jpg"]
    for link, filter in (
        ("same-day", {"taken": "2019-07-04"}),
        ("same-camera", {"camera": "Canon EOS 5D"}),
        ("same-folder", {"folder": "metadata"}),
    ):
        browsed.open(open=photo)
        expect(browsed.find("panel-path")).to_have_text("described.jpg")
        browsed.find(link).click()
        expect(page.locator("#lightbox")).to_be_hidden()
        expect_shown(filter)
    expect(browsed.find("nothing-left")).to_have_count(0)
    browsed.open(filter='{"year":1950}')
    browsed.find("nothing-left").get_by_role("button").click()
    expect_shown()


def test_a_map_leads_to_the_photos_of_a_place(page: Page, server: Server) -> None:
    _, placed = server.request("/v1/layout?by=place")
    browsed = SearchPage(page, server).open()
    page.locator("label:has([data-testid=as-map])").click()
    plane = browsed.find("plane")
    expect(plane).to_have_attribute("data-groups", re.compile(r"\d"))
    groups = int(plane.get_attribute("data-groups") or 0)
    assert 1 <= groups < len(placed["ids"])
    assert ("as", "map") in browsed.parameters()
    assert_accessible(page)
    # Drawn over and over, the map still knows which photos stand where.
    plane.focus()
    page.keyboard.press("+")
    expect(page.locator("#announcer")).to_have_text(re.compile(r"photos? in the middle"))
    in_the_middle = int(page.locator("#announcer").inner_text().split()[0])
    page.keyboard.press("Enter")
    expect(browsed.find("active-filter")).to_have_text(re.compile(r"within .* km of"))
    eventually(lambda: len(browsed.shown()), in_the_middle)
    assert {*browsed.shown()} <= {*placed["ids"]}
    filter = json.loads(dict(browsed.parameters())["filter"])
    _, listed = server.request(f"/v1/documents?limit=200&filter={quote(json.dumps(filter))}")
    assert {document["id"] for document in listed["documents"]} == {*browsed.shown()}
    # Back is the map, as it was left.
    page.go_back()
    expect(plane).to_have_attribute("data-groups", re.compile(r"\d"))
    page.locator("label:has([data-testid=as-rows])").click()
    expect(browsed.find("gallery")).to_be_visible()


def test_similar_photos_lie_together_and_open(page: Page, server: Server, library: Library) -> None:
    browsed = SearchPage(page, server).open(**{"as": "similar"})
    plane = browsed.find("plane")
    expect(plane).to_have_attribute("data-groups", re.compile(r"\d"))
    box = plane.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def groups() -> int:
        return int(plane.get_attribute("data-groups") or 0)

    for _ in range(20):
        page.mouse.wheel(0, 100)
    eventually(lambda: groups() < len(library.names), True)
    before = groups()
    for _ in range(40):
        page.mouse.wheel(0, -100)
    eventually(lambda: groups() > before, True)
    # To another place and back, by the keyboard.
    plane.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#lightbox")).to_have_attribute("data-id", re.compile("."))
    first = page.locator("#lightbox").get_attribute("data-id")
    _, layout = server.request("/v1/layout")
    places = dict(zip(layout["ids"], zip(layout["x"], layout["y"], strict=True), strict=True))
    assert len(places) == len(library.names)
    assert first in places
    page.keyboard.press("ArrowRight")
    expect(page.locator("#lightbox")).not_to_have_attribute("data-id", first)
    page.keyboard.press("Escape")
    expect(page.locator("#lightbox")).to_be_hidden()
    expect(plane).to_be_focused()


def test_a_first_visitor_finds_a_photo_its_folder_its_day_and_downloads_five(
    page: Page, server: Server, library: Library
) -> None:
    visitor = SearchPage(page, server).open()
    page.keyboard.type("described.jp")
    page.get_by_role("option", name="described.jpg").click()
    expect(visitor.find("active-filter")).to_have_text("file: described.jpg")
    names = {id: name for name, id in photo_ids(server).items()}
    visitor.result(photo_ids(server)["described.jpg"]).get_by_test_id("open-result").click()
    page.get_by_role("link", name="metadata").click()
    shown = visitor.find("gallery").get_by_test_id("result")
    eventually(lambda: {names[id] for id in visitor.shown()} >= set(OF_2019), True)
    visitor.result(photo_ids(server)["described.jpg"]).get_by_test_id("open-result").click()
    page.get_by_role("link", name="This day").click()
    eventually(lambda: {names[id] for id in visitor.shown()}, set(OF_2019))
    for number in range(5):
        shown.nth(number).hover()
        shown.nth(number).get_by_role("button", name="Select").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    with ZipFile(download.value.path()) as archive:
        saved = [Path(name).name for name in archive.namelist()]
    assert saved == [names[id] for id in visitor.shown()[:5]]
