"""Where photos were taken is told here and to admin keys only: tags, filters, orders, facets and bytes."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from conftest import TOY_IMAGES
from PIL import Image
from test_metadata_reading import (
    CAMERA,
    IPTC,
    SHOT,
    TOWER,
    WORDS,
    data_set,
    exif,
    photo,
    resources,
    with_segments,
)

from crossmodal import PhotoIndex, Record
from crossmodal.engine.engine import Engine
from crossmodal.metadata import PRIVATE, read_metadata
from crossmodal.metadata.locations import without_location
from crossmodal.metadata.video_locations import location_spans
from crossmodal.server.app import create_app
from crossmodal.server.serving import Serving
from crossmodal.settings import Settings

EVERYTHING = exif({**CAMERA, 0x0112: 1}, SHOT, TOWER)
PLACES = IPTC + data_set(90, b"Sevilla") + data_set(92, b"Triana")


def described(kind: str) -> bytes:
    """A photo that says where it was taken in each way that its format has."""
    if kind == "JPEG":
        blob = photo(exif=EVERYTHING, xmp=WORDS)
        segment = b"\xff\xed" + (len(resources(PLACES)) + 2).to_bytes(2) + resources(PLACES)
        # A second photo behind it, as phones write it, and the place of a video.
        return (
            blob[:2]
            + segment
            + blob[2:]
            + photo(exif=EVERYTHING)
            + b"\0\x1e\xa9xyz\0\x12\x15\xc7+48.8583+002.2945/"
        )
    if kind == "TIFF":
        made = exif({**CAMERA, 0x0100: 60, 0x0101: 40, 0x02BC: WORDS}, SHOT, TOWER)
        return made.tobytes().removeprefix(b"Exif\0\0")
    return photo(kind, exif=EVERYTHING, **({} if kind == "PNG" else {"xmp": WORDS}))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_locations_go_and_pixels_and_all_else_stay(kind: str) -> None:
    blob = described(kind)
    before = read_metadata(blob).tags
    assert "latitude" in before
    cleaned = without_location(blob)
    assert cleaned is not None
    after = read_metadata(cleaned)
    assert after.warnings == []
    kept = {name: value for name, value in before.items() if name not in PRIVATE}
    assert after.tags == kept
    assert len(cleaned) == len(blob)
    for said in (b"43,42.5N", b"Nice", b"Sevilla", b"Triana", b"+48.8583"):
        assert said not in cleaned
    if kind != "TIFF":
        assert np.array_equal(np.asarray(Image.open(BytesIO(blob))), np.asarray(Image.open(BytesIO(cleaned))))


def test_what_cannot_be_cleaned_for_sure_is_not_given() -> None:
    assert without_location(b"\0\0\0\x18ftypcrx " + bytes(100)) is None
    assert without_location(b"something else") is None
    # XMP in UTF-16 is read, and not written over.
    assert (
        without_location(
            with_segments((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + WORDS.decode().encode("utf-16")))
        )
        is None
    )
    plain = photo()
    assert without_location(plain) == plain


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("privacy") / "workspace"
    content = (TOY_IMAGES / "cat.jpg").read_bytes()
    content = (
        content[:2]
        + b"\xff\xe1"
        + (len(EVERYTHING.tobytes()) + 2).to_bytes(2)
        + EVERYTHING.tobytes()
        + content[2:]
    )
    tags = {
        "taken": "2019-07-04",
        "latitude": 48.8582222,
        "longitude": 2.2945,
        "city": "Paris",
        "camera": "NIKON D90",
    }
    with PhotoIndex(path) as index:
        index.add([Record("cat", "image", mime_type="image/jpeg", tags=tags, content=content)])
    return path


class Asker:
    """A server over an index, and who asks it from which address."""

    def __init__(self, engine: Engine, address: str, **settings: Any) -> None:
        self.settings = Settings(
            task="query_restful",
            workspace=engine.workspace.path,
            host="0.0.0.0",
            insecure_no_auth=True,
            **settings,
        )
        self.engine = engine
        self.address = address

    def ask(self, method: str, path: str, **options: Any) -> Any:
        async def asked() -> httpx2.Response:
            app = create_app(Serving("query", self.engine, self.settings))
            transport = httpx2.ASGITransport(app, client=(self.address, 1))
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return await http.request(method, path, **options)

        return asyncio.run(asked())


@pytest.fixture(scope="module")
def engine(workspace: Path) -> Iterator[Engine]:
    with Engine(Settings(task="query_restful", workspace=workspace)) as engine:
        yield engine


@pytest.fixture(scope="module", params=["127.0.0.1", "192.0.2.7", "option", "proxy"])
def asker(request: pytest.FixtureRequest, engine: Engine) -> tuple[Asker, bool, dict[str, str]]:
    """An asker, whether it may see places, and its headers."""
    if request.param == "option":
        return Asker(engine, "192.0.2.7", show_locations=True), True, {}
    if request.param == "proxy":
        return Asker(engine, "127.0.0.1"), False, {"x-forwarded-for": "192.0.2.7"}
    return Asker(engine, request.param), request.param == "127.0.0.1", {}


def test_nobody_else_gets_places_from_the_server(asker: tuple[Asker, bool, dict[str, str]]) -> None:
    server, sees, headers = asker

    def ask(method: str, path: str, **options: Any) -> Any:
        return server.ask(method, path, headers=headers, **options)

    private = {"latitude", "longitude", "city"}
    near = {"location": {"$near": [48.86, 2.3], "$within_km": 50}}
    found = ask("POST", "/v1/search", json={"text": "a cat in Paris"}).json()["results"][0]
    assert [one["text"] for one in found["recognised"]] == (["in Paris"] if sees else [])
    assert found["matches"][0]["tags"].keys() & private == (private if sees else set())
    assert found["matches"][0]["tags"]["camera"] == "NIKON D90"
    listed = ask("GET", "/v1/documents").json()["documents"][0]
    assert listed["tags"].keys() & private == (private if sees else set())
    assert ask("GET", "/v1/documents/cat").json()["tags"].keys() & private == (private if sees else set())
    facets = {field["name"] for field in ask("GET", "/v1/tags").json()["fields"]}
    assert facets & private == (private if sees else set())
    legacy = ask("POST", "/search", json={"data": ["a cat"], "parameters": {"top_k": 1}}).text
    assert ("48.858" in legacy) == sees
    for answer in (
        ask("POST", "/v1/search", json={"text": "a cat", "filter": near}),
        ask("POST", "/v1/search", json={"text": "a cat", "sort": "latitude"}),
        ask("POST", "/v1/search", json={"text": "a cat", "filter": {"$not": {"tags.city": "Rome"}}}),
        ask("GET", "/v1/documents", params={"sort": "-longitude"}),
        ask("GET", "/v1/documents", params={"filter": json.dumps({"$or": [near]})}),
    ):
        assert answer.status_code == (200 if sees else 403), answer.text
        assert sees or "--show-locations" in answer.json()["detail"]
    for path in ("/v1/documents/cat/content", "/images/cat"):
        content = ask("GET", path).content
        assert ("latitude" in read_metadata(content).tags) == sees
        assert read_metadata(content).tags["camera"] == "NIKON D90"


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def spans_of(folder: Path, content: bytes, mime_type: str = "video/mp4") -> list[bytes] | None:
    """What of a video is blanked; None where it is refused."""
    (folder / "video").write_bytes(content)
    with (folder / "video").open("rb") as file:
        spans = location_spans(file.fileno(), len(content), mime_type)
    return None if spans is None else [content[start:end] for start, end in spans]


HANDLER = box(b"hdlr", bytes(8) + b"vide" + bytes(12))
MOVIE = box(b"moov", box(b"trak", HANDLER)) + box(b"mdat", b"pixels")


@pytest.mark.parametrize(
    "place", [b"+48.8583+002.2944+035.1", b"+48.8583+002.2944CRSWGS_84", b"+4851-00217/"]
)
def test_coordinates_in_a_video_are_blanked_however_they_end(tmp_path: Path, place: bytes) -> None:
    assert spans_of(tmp_path, MOVIE) == []
    named = box(b"udta", box(b"\xa9xyz", b"\0\x10\0\0" + place + b"\0"))
    assert spans_of(tmp_path, box(b"ftyp", b"isom") + box(b"moov", named)) == [place]
    assert spans_of(tmp_path, b"\x1aE\xdf\xa3" + named, "video/x-matroska") == [place]


@pytest.mark.parametrize(
    "content",
    [
        MOVIE + box(b"uuid", b"exif:GPSLatitude"),
        MOVIE + box(b"meta", b""),
        MOVIE + MOVIE,
        MOVIE + b"end",
        box(b"moov", box(b"uuid", b'<rdf:Description photoshop:City="Paris"/>')),
        box(b"moov", box(b"uuid", b"<photoshop:City>Paris</photoshop:City>")),
        box(b"moov", b"exif:GPSLatitude"),
        box(b"moov", box(b"keys", b"mdtacom.apple.quicktime.location.name")),
        box(b"moov", box(b"hdlr", bytes(8) + b"text" + bytes(12))),
        box(b"moov", box(b"stsd", b"camm")),
        box(b"mdat", b"no index"),
    ],
)
def test_a_video_that_may_say_a_place_elsewhere_is_refused(tmp_path: Path, content: bytes) -> None:
    assert spans_of(tmp_path, content) is None


def test_the_box_of_a_telephone_s_place_is_blanked(tmp_path: Path) -> None:
    assert spans_of(tmp_path, box(b"moov", box(b"loci", b"Paris"))) == [b"Paris"]
