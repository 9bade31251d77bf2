"""Where photos were taken is told here and to admin keys only: tags, filters, orders, facets and bytes."""

from __future__ import annotations

import asyncio
import json
import os
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
from videos import write_video

from crossmodal import PhotoIndex, Record
from crossmodal.engine.engine import Engine
from crossmodal.metadata import PRIVATE, read_metadata
from crossmodal.metadata.locations import without_location
from crossmodal.metadata.video_locations import location_spans
from crossmodal.server.app import create_app
from crossmodal.server.serving import Serving, Writing
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
            app = create_app(Serving("query", self.engine, self.settings, Writing(True)))
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
    # Nor does what takes a change back tell them.
    changed = ask("PATCH", "/v1/documents/cat", json={"tags": {"city": "Paris", "longitude": 2.2945}})
    assert changed.status_code == 200, changed.text
    assert changed.json()["undo"] == ({"tags": {"city": "Paris", "longitude": 2.2945}} if sees else {})
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
        spans = location_spans(file.fileno(), mime_type)
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


# Where one part of a film is, and one frame to begin at.
SEGMENTS = struct.pack(">5I2H3I", 0, 1, 90_000, 0, 0, 0, 1, 100, 9000, 0)
FRAMES = struct.pack(">4I2I3B", 0, 1, 0, 1, 0, 60, 1, 1, 1)


@pytest.mark.parametrize(
    "content",
    [
        MOVIE + box(b"uuid", b"exif:GPSLatitude"),
        MOVIE + box(b"meta", b""),
        MOVIE + box(b"gps ", b""),
        MOVIE + MOVIE,
        MOVIE + b"end",
        box(b"moov", box(b"uuid", b'<rdf:Description photoshop:City="Paris"/>')),
        box(b"moov", box(b"uuid", b"<photoshop:City>Paris</photoshop:City>")),
        box(b"moov", b"exif:GPSLatitude"),
        box(b"moov", box(b"keys", b"mdtacountry\0") + b"France"),
        box(b"moov", box(b"keys", b"mdtalocation\0") + b"Paris"),
        box(b"moov", box(b"keys", b"mdtacom.apple.quicktime.location.name")),
        box(b"moov", box(b"hdlr", bytes(8) + b"text" + bytes(12))),
        box(b"moov", box(b"stsd", b"camm")),
        box(b"moov", box(b"stsd", box(b"jpeg", b""))),
        box(b"moov", box(b"covr", b"")),
        MOVIE + box(b"moof", box(b"hdlr", bytes(8) + b"text" + bytes(12))),
        box(b"mdat", b"no index"),
        MOVIE + box(b"sidx", SEGMENTS + b"Paris"),
        MOVIE + box(b"sidx", b""),
        MOVIE + box(b"mfra", box(b"tfra", FRAMES) + box(b"xtra", b"Paris")),
        MOVIE + box(b"mfra", box(b"tfra", FRAMES + b"Paris")),
        MOVIE + box(b"mfra", b"Paris"),
        box(b"ftyp", b"isom\0\0\0\0\x30\xda\x02\x15") + MOVIE,
    ],
)
def test_a_video_that_may_say_a_place_elsewhere_is_refused(tmp_path: Path, content: bytes) -> None:
    assert spans_of(tmp_path, content) is None


def test_what_an_index_was_moved_from_is_blanked(tmp_path: Path) -> None:
    assert spans_of(tmp_path, box(b"free", b"+48.8583+002.2944/") + MOVIE) == [b"+48.8583+002.2944/"]
    large = struct.pack(">I4sQ", 1, b"skip", 16 + 5) + b"Paris"
    assert spans_of(tmp_path, MOVIE + large) == [b"Paris"]
    assert spans_of(tmp_path, box(b"wide", b"Rome") + MOVIE + box(b"pdin", b"Nice")) == [b"Rome", b"Nice"]
    track = box(b"trak", HANDLER + box(b"free", b"Paris")) + box(b"skip", b"\x30\xda\x02\x15")
    assert spans_of(tmp_path, box(b"moov", track)) == [b"Paris", b"\x30\xda\x02\x15"]
    for version in (b"", bytes(4)):
        tags = box(b"meta", version + box(b"ilst", b"") + box(b"free", b"Paris"))
        assert spans_of(tmp_path, box(b"moov", box(b"udta", tags))) == [b"Paris"]
    tables = box(b"sidx", SEGMENTS) + box(b"mfra", box(b"tfra", FRAMES) + box(b"mfro", bytes(8)))
    assert spans_of(tmp_path, box(b"ftyp", b"isom\0\0\2\0mp42") + MOVIE + tables) == []


def test_what_was_found_in_a_video_is_remembered_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = b"+48.8583+002.2944/"
    content = box(b"moov", box(b"udta", place))
    assert spans_of(tmp_path, content) == [place]
    with (tmp_path / "video").open("rb") as file, monkeypatch.context() as patch:
        patch.setattr(os, "pread", None)
        assert location_spans(file.fileno(), "video/mp4") == ((16, 16 + len(place)),)
    assert spans_of(tmp_path, box(b"moov", box(b"udta", b"nothing"))) == []


def test_the_box_of_a_telephone_s_place_is_blanked(tmp_path: Path) -> None:
    assert spans_of(tmp_path, box(b"moov", box(b"loci", b"Paris"))) == [b"Paris"]


def element(id: int, content: bytes, *, unknown: bool = False) -> bytes:
    size = b"\xff" if unknown else struct.pack(">Q", 1 << 56 | len(content))
    return id.to_bytes((id.bit_length() + 7) // 8) + size + content


def tag(name: bytes, value: bytes) -> bytes:
    return element(
        0x1254C367, element(0x7373, element(0x67C8, element(0x45A3, name) + element(0x4487, value)))
    )


def tracks(kind: int, codec: bytes = b"V_VP8") -> bytes:
    return element(0x1654AE6B, element(0xAE, element(0x83, bytes([kind])) + element(0x86, codec)))


HEAD = element(0x1A45DFA3, element(0x4282, b"webm"))
CLUSTER = element(0xE7, b"\0") + element(0xA3, b"\x81\0\0\x80+48.8583+002.2944/") + element(0xEC, b"left")


def matroska(*parts: bytes, unknown: bool = False) -> bytes:
    return HEAD + element(0x18538067, b"".join(parts), unknown=unknown)


@pytest.mark.parametrize("live", [False, True])
def test_a_film_of_matroska_is_blanked_where_it_says_a_place(tmp_path: Path, live: bool) -> None:
    parts = (
        *(tracks(1), tracks(2), element(0xEC, b"Rome"), element(0x1F43B675, CLUSTER, unknown=live)),
        *(
            tag(b"LOCATION", b"Paris"),
            tag(b"title", b"A trip to Paris"),
            tag(b"COMMENT", b"+48.8583+002.2944/"),
        ),
    )
    blanked = [b"Rome", b"left", b"Paris", b"+48.8583+002.2944/"]
    assert spans_of(tmp_path, matroska(*parts, unknown=live), "video/webm") == blanked


def room(*parts: bytes) -> bytes:
    return element(0xEC, b"Paris") + b"".join(parts)


@pytest.mark.parametrize(
    "content",
    [
        element(0x114D9B74, room(element(0x4DBB, element(0x53AB, b"\x1f") + element(0x53AC, b"\x40")))),
        element(0x114D9B74, element(0x4DBB, room(element(0x53AB, b"\x1f")))),
        element(0x1C53BB6B, element(0xBB, element(0xB3, b"\0") + element(0xB7, room(element(0xF1, b"\1"))))),
        element(0x1F43B675, element(0xE7, b"\0") + element(0xA0, room(element(0xA1, b"\x81frame")))),
        element(0x1F43B675, element(0xA0, element(0x75A1, element(0xA6, room(element(0xA5, b"alpha")))))),
        element(0x1549A966, room(element(0x4D80, b"writer"))),
        element(0x1654AE6B, element(0xAE, element(0x83, b"\1") + element(0xE0, room(element(0xB0, b"\4"))))),
        element(0x1254C367, element(0x7373, element(0x63C0, room()))),
        element(0x1254C367, element(0x7373, element(0x67C8, room(element(0x45A3, b"TITLE"))))),
    ],
)
def test_room_in_matroska_is_blanked_wherever_it_is(tmp_path: Path, content: bytes) -> None:
    assert spans_of(tmp_path, matroska(tracks(1), content), "video/x-matroska") == [b"Paris"]


@pytest.mark.parametrize(
    "content",
    [
        matroska(tracks(1), tracks(17)),
        matroska(tracks(1, b"V_MJPEG")),
        matroska(tracks(1), element(0x1941A469, b"cover")),
        matroska(tracks(1), tag(b"COMMENT", b"gpmd")),
        matroska(tracks(1)) + element(0x4282, b"Rome"),
        matroska(tracks(1)) + b"end",
        HEAD + b"\0\0\0\0",
        matroska(tracks(1), element(0x114D9B74, element(0x4DBB, element(0x53AC, b"near Paris")))),
        matroska(tracks(1), element(0x114D9B74, element(0x536E, b"Paris"))),
        matroska(tracks(1), element(0x1C53BB6B, element(0xBB, element(0x536E, b"Paris")))),
        matroska(tracks(1), element(0x1F43B675, element(0x536E, b"Paris"))),
        matroska(tracks(1), element(0x1F43B675, element(0xE7, b"near Paris"))),
        matroska(tracks(1), element(0x1F43B675, element(0xA0, element(0xA4, b"Paris")))),
        matroska(
            tracks(1),
            element(0x1F43B675, element(0xA0, element(0x75A1, element(0xA6, element(0xEE, b"\4"))))),
        ),
        matroska(tracks(1), element(0xBF, b"Paris")),
        # The head of an element goes on behind what it is in.
        HEAD + element(0x18538067, tracks(1) + b"\x15\x49") + b"\xa9\x66\x80" + element(0xEC, b""),
    ],
)
def test_a_film_of_matroska_that_may_say_more_is_refused(tmp_path: Path, content: bytes) -> None:
    assert spans_of(tmp_path, content, "video/x-matroska") is None


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def avi(stream: bytes, codec: bytes, *more: bytes) -> bytes:
    said = chunk(b"LIST", b"strl" + chunk(b"strh", stream + codec) + chunk(b"strf", codec))
    frames = chunk(b"LIST", b"movi" + chunk(b"00dc", b"pixel") + chunk(b"JUNK", b"Rome"))
    return chunk(b"RIFF", b"AVI " + chunk(b"LIST", b"hdrl" + said) + frames + b"".join(more))


def test_a_film_of_avi_is_blanked_where_it_says_a_place(tmp_path: Path) -> None:
    words = chunk(b"INAM", b"A trip to Paris") + chunk(b"ICNT", b"France")
    # Where a frame is; and the same for one stream, with room for further ones.
    where = chunk(b"idx1", struct.pack("<4s3I", b"00dc", 0x10, 4, 5))
    stream = struct.pack("<HBBI4s5I", 2, 0, 1, 1, b"00dc", 0, 0, 0, 4, 5) + b"Nice"
    content = avi(
        *(b"vids", b"H264", chunk(b"LIST", b"INFO" + words), where),
        chunk(b"LIST", b"movi" + chunk(b"LIST", b"rec " + chunk(b"00dc", b"pixel") + chunk(b"ix00", stream))),
        chunk(b"indx", stream),
    )
    blanked = [b"Rome", b"France", b"Nice", b"Nice"]
    assert spans_of(tmp_path, content, "video/x-msvideo") == blanked


@pytest.mark.parametrize(
    "content",
    [
        avi(b"txts", b"    "),
        avi(b"vids", b"MJPG"),
        avi(b"vids", b"H264", chunk(b"_PMX", b"photoshop:City")),
        avi(b"vids", b"H264", chunk(b"LIST", b"movi" + chunk(b"gps0", b""))),
        avi(b"vids", b"H264") + b"and so on",
        avi(b"vids", b"H264", chunk(b"idx1", b"00dc")),
        avi(b"vids", b"H264", chunk(b"idx1", b"City of Paris...")),
        avi(b"vids", b"H264", chunk(b"idx1", struct.pack("<4s3I", b"00dc", 0x10, 4, 1 << 30))),
        avi(b"vids", b"H264", chunk(b"indx", struct.pack("<HBBI4s3I", 2, 0, 1, 2, b"00dc", 0, 0, 0))),
        avi(b"vids", b"H264", chunk(b"indx", b"City of Paris and all around it")),
    ],
)
def test_a_film_of_avi_that_may_say_more_is_refused(tmp_path: Path, content: bytes) -> None:
    assert spans_of(tmp_path, content, "video/x-msvideo") is None


@pytest.mark.parametrize(
    ("name", "codec", "mime_type"),
    [
        ("a.mkv", "mpeg4", "video/x-matroska"),
        ("a.webm", "vp8", "video/webm"),
        ("a.avi", "mpeg4", "video/x-msvideo"),
    ],
)
def test_a_film_without_its_places_plays_as_before(
    tmp_path: Path, name: str, codec: str, mime_type: str
) -> None:
    av = pytest.importorskip("av", reason="the extra video")
    tags = {"location": "+48.8583+002.2944/", "place": "Eiffel", "title": "A trip"}
    content = write_video(tmp_path / name, ["cat"], codec=codec, tags=tags, seconds=1.0).read_bytes()
    with (tmp_path / name).open("rb") as file:
        spans = location_spans(file.fileno(), mime_type)
    assert spans
    blanked = bytearray(content)
    for start, end in spans:
        blanked[start:end] = b" " * (end - start)
    assert b"A trip" in blanked
    assert not any(place in blanked for place in (b"48.8583", b"Eiffel"))

    def pixels(file: bytes) -> list[bytes]:
        with av.open(BytesIO(file)) as container:
            return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]

    assert pixels(bytes(blanked)) == pixels(content)
