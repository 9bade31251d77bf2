"""What files, sidecars and names say of a photo becomes typed tags and captions, whatever the bytes are."""

from __future__ import annotations

import json
import random
import time
from io import BytesIO
from typing import Any

import pytest
from conftest import REPOSITORY
from PIL import Image, PngImagePlugin

from crossmodal.metadata import FIELDS, Metadata, find_sidecars, read_metadata, read_video_metadata
from crossmodal.metadata.fields import tags_section
from crossmodal.records import tags_beyond_limits
from crossmodal.videos.formats import VIDEO_FORMATS
from crossmodal.videos.reading import Moment, Video

CAMERA = {0x010F: "NIKON CORPORATION", 0x0110: "NIKON D90"}
SHOT = {
    0x9003: "2019:07:04 12:34:56",
    0x9011: "+02:00",
    0x829A: 1 / 250,
    0x829D: 2.8,
    0x8827: 400,
    0x920A: 50.0,
    0xA434: "NIKKOR 50mm f/1.8",
}
TOWER = {1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2)}
SAID = {
    "taken": "2019-07-04T12:34:56+02:00",
    "taken_from": "camera",
    "year": 2019,
    "month": 7,
    "camera": "NIKON D90",
    "lens": "NIKKOR 50mm f/1.8",
    "iso": 400,
    "aperture": 2.8,
    "exposure_seconds": 0.004,
    "focal_length_mm": 50,
    "latitude": 48.8582222,
    "longitude": 2.2945,
}


def exif(
    main: dict[int, Any] | None = None,
    shot: dict[int, Any] | None = None,
    place: dict[int, Any] | None = None,
) -> Image.Exif:
    made = Image.Exif()
    made.update(main or {})
    made.get_ifd(0x8769).update(shot or {})
    made.get_ifd(0x8825).update(place or {})
    return made


def photo(kind: str = "JPEG", size: tuple[int, int] = (60, 40), **options: Any) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, "teal").save(file, kind, **options)
    return file.getvalue()


def with_segments(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG with more segments behind its first marker."""
    blob = photo()
    more = b"".join(bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body for marker, body in segments)
    return blob[:2] + more + blob[2:]


def packet(properties: str, attributes: str = "") -> bytes:
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF'
        ' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
        ' xmlns:lr="http://ns.adobe.com/lightroom/1.0/"'
        ' xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f' {attributes}>{properties}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>   '
    ).encode()


WORDS = packet(
    '<dc:title><rdf:Alt><rdf:li xml:lang="de">Strand</rdf:li><rdf:li xml:lang="x-default">Beach</rdf:li>'
    "</rdf:Alt></dc:title><dc:description><rdf:Alt><rdf:li>A day at\n the sea</rdf:li></rdf:Alt>"
    "</dc:description><dc:subject><rdf:Bag><rdf:li>summer</rdf:li><rdf:li>sea</rdf:li></rdf:Bag></dc:subject>"
    "<lr:hierarchicalSubject><rdf:Bag><rdf:li>Places|France</rdf:li></rdf:Bag></lr:hierarchicalSubject>"
    "<Iptc4xmpExt:PersonInImage><rdf:Bag><rdf:li>Anna</rdf:li></rdf:Bag></Iptc4xmpExt:PersonInImage>"
    '<mwg-rs:Regions><rdf:Description><mwg-rs:RegionList><rdf:Bag><rdf:li mwg-rs:Name="Ben"'
    ' mwg-rs:Type="Face"/><rdf:li><rdf:Description mwg-rs:Name="Rex" mwg-rs:Type="Pet"/></rdf:li></rdf:Bag>'
    "</mwg-rs:RegionList></rdf:Description></mwg-rs:Regions>",
    'xmp:Rating="4" photoshop:City="Nice" photoshop:Country="France" exif:GPSLatitude="43,42.5N"'
    ' exif:GPSLongitude="7,15,30E"',
)


def data_set(number: int, value: bytes) -> bytes:
    return bytes((0x1C, 2, number)) + len(value).to_bytes(2) + value


def resources(block: bytes) -> bytes:
    padded = block + bytes(len(block) % 2)
    return b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(block).to_bytes(4) + padded


IPTC = b"".join(
    (
        data_set(5, "Märkte".encode("cp1252")),
        data_set(25, b"market"),
        data_set(25, b"fruit"),
        data_set(55, b"20180506"),
        data_set(60, b"070809+0100"),
        data_set(120, b"Oranges"),
        data_set(101, b"Spain"),
    )
)


def tags_of(content: bytes = b"", **known: Any) -> dict[str, Any]:
    read = read_metadata(content, **known)
    assert read.warnings == []
    return read.tags


def canon_raw() -> bytes:
    """The boxes of a CR3 that exiftool reads: each directory of EXIF has one of its own."""

    def box(kind: bytes, body: bytes) -> bytes:
        return (len(body) + 8).to_bytes(4) + kind + body

    main = {**CAMERA, 0x0100: 6000, 0x0101: 4000, 0x0112: 6}
    directories = ((b"CMT1", main), (b"CMT2", SHOT), (b"CMT3", {1: 1}), (b"CMT4", TOWER))
    inner = b"".join(
        box(kind, exif(values).tobytes().removeprefix(b"Exif\0\0")) for kind, values in directories
    )
    head = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48") + box(b"CNCV", b"CanonCR3_001/00.09.00/00.00.00")
    return (
        box(b"ftyp", b"crx \0\0\0\1crx isom") + box(b"moov", box(b"uuid", head + inner)) + box(b"mdat", b"0")
    )


def test_a_raw_file_of_canon_says_what_others_say() -> None:
    tags = tags_of(canon_raw())
    assert {name: tags.get(name) for name in SAID} == SAID
    assert (tags["width"], tags["height"], tags["orientation"]) == (4000, 6000, "portrait")
    whole = canon_raw()
    for length in range(0, len(whole), 7):
        found = read_metadata(whole[:length])
        assert found.tags.get("iso") in (None, 400)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_exif_is_read_from_each_format(kind: str) -> None:
    blob = photo(kind, exif=exif({**CAMERA, 0x0112: 6}, SHOT, TOWER))
    tags = tags_of(blob)
    assert {name: tags.get(name) for name in SAID} == SAID
    # Upright.
    assert (tags["width"], tags["height"], tags["orientation"]) == (40, 60, "portrait")
    assert tags["bytes"] == len(blob)


@pytest.mark.parametrize("head", [b"", b"IIRO", b"IIU\0"], ids=["tiff", "olympus", "panasonic"])
def test_a_file_that_is_built_like_exif_is_read_whole(head: bytes) -> None:
    made = exif({**CAMERA, 0x0100: 60, 0x0101: 40, 0x02BC: WORDS}, SHOT, TOWER)
    made.endian = "<"
    blob = made.tobytes().removeprefix(b"Exif\0\0")
    tags = tags_of(head + blob[len(head) :])
    assert {name: tags.get(name) for name in SAID} == SAID
    assert (tags["width"], tags["height"], tags["title"]) == (60, 40, "Beach")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "sidecar"])
def test_xmp_is_read_from_files_and_beside_them(kind: str) -> None:
    if kind == "sidecar":
        read = read_metadata(photo(), sidecars={"x.xmp": WORDS})
    elif kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", WORDS.decode(), zip=True)
        read = read_metadata(photo(kind, pnginfo=info))
    elif kind == "GIF":
        blob = photo(kind)
        block = b"\x21\xff\x0bXMP DataXMP" + WORDS + bytes((1, *range(255, -1, -1), 0))
        read = read_metadata(blob[:-1] + block + b";")
    else:
        read = read_metadata(photo(kind, xmp=WORDS))
    assert read.warnings == []
    assert {
        "title": "Beach",
        "description": "A day at the sea",
        "keywords": ["summer", "sea", "Places", "France"],
        "people": ["Anna", "Ben"],
        "rating": 4,
        "city": "Nice",
        "country": "France",
        "latitude": 43.7083333,
        "longitude": 7.2583333,
    }.items() <= read.tags.items()
    assert [(caption.kind, caption.text) for caption in read.captions] == [
        ("title", "Beach"),
        ("description", "A day at the sea"),
    ]


def test_iptc_is_read_with_the_letters_that_it_has() -> None:
    tags = tags_of(with_segments((0xED, resources(IPTC))))
    assert {
        "title": "Märkte",
        "description": "Oranges",
        "keywords": ["market", "fruit"],
        "country": "Spain",
        "taken": "2018-05-06T07:08:09+01:00",
        "taken_from": "iptc",
    }.items() <= tags.items()


TAKEOUT = {
    "title": "IMG_1.jpg",
    "description": "At the pier",
    "photoTakenTime": {"timestamp": "1562236496"},
    "geoData": {"latitude": 0.0, "longitude": 0.0},
    "geoDataExif": {"latitude": 50.1, "longitude": -5.5},
    "people": [{"name": "Anna"}],
}


def test_takeout_says_when_and_where_and_who() -> None:
    sidecar = {"IMG_1.jpg.json": json.dumps(TAKEOUT).encode()}
    assert {
        "taken": "2019-07-04T10:34:56+00:00",
        "taken_from": "sidecar",
        "description": "At the pier",
        "people": ["Anna"],
        "latitude": 50.1,
        "longitude": -5.5,
    }.items() <= tags_of(photo(), sidecars=sidecar).items()
    # Of the same moment the camera knows the local time.
    said = tags_of(photo(exif=exif(CAMERA, {0x9003: "2019:07:04 12:34:56"})), sidecars=sidecar)
    assert (said["taken"], said["taken_from"]) == ("2019-07-04T12:34:56", "camera")
    # One that was corrected afterwards counts.
    said = tags_of(photo(exif=exif(CAMERA, {0x9003: "2009:01:01 00:00:00"})), sidecars=sidecar)
    assert (said["taken"], said["taken_from"]) == ("2019-07-04T10:34:56+00:00", "sidecar")


LONG = "a" * 50


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("x.jpg", ["x.jpg.xmp", "x.xmp", "x.jpg.supplemental-metadata.json", "x.jpg.json"]),
        ("x.jpg", ["x.jpg.supplemen.json"]),
        ("x(1).jpg", ["x.jpg(1).json"]),
        ("x(1).jpg", ["x.jpg.supplemental-metadata(1).json"]),
        ("x-edited.jpg", ["x.jpg.supplemental-metadata.json"]),
        (f"{LONG}.jpg", [f"{LONG[:46]}.json"]),
        ("IMG_20190704_123456789_PORTRAIT.jpg", ["IMG_20190704_123456789_PORTRAIT.jpg.supplement.json"]),
        ("X.NEF", ["X.XMP"]),
    ],
)
def test_sidecars_are_found_by_each_spelling(name: str, beside: list[str]) -> None:
    others = {name, "y.jpg.json", "y.xmp", "x.json", "x(2).jpg.json", "metadata.json"}
    assert find_sidecars(name, {*beside, *others}) == beside


def test_what_stands_beside_a_photo_counts_before_what_is_in_it() -> None:
    blob = photo(exif=exif({**CAMERA, 0x010E: "in the file", 0x4746: 2}), xmp=WORDS)
    sidecar = packet("<dc:title><rdf:Alt><rdf:li>Better</rdf:li></rdf:Alt></dc:title>", 'xmp:Rating="-1"')
    tags = tags_of(blob, sidecars={"x.xmp": sidecar})
    assert (tags["title"], tags["rating"]) == ("Better", -1)
    # XMP before EXIF, and each speaks of what the others are silent about.
    assert (tags["description"], tags["camera"]) == ("A day at the sea", "NIKON D90")


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("IMG_20190704_123456.jpg", "2019-07-04T12:34:56"),
        ("PXL_20190704_123456789.jpg", "2019-07-04T12:34:56+00:00"),
        ("2019-07-04 12.34.56.jpg", "2019-07-04T12:34:56"),
        ("IMG-20190704-WA0001.jpg", "2019-07-04"),
        ("Screenshot_20190704-123456_Maps.png", "2019-07-04T12:34:56"),
        ("Screenshot 2019-07-04 at 3.12.45 PM.png", "2019-07-04T15:12:45"),
        ("Bildschirmfoto 2019-07-04 um 09.05.01.png", "2019-07-04T09:05:01"),
        ("20190704123456.jpg", "2019-07-04T12:34:56"),
        ("signal-2019-07-04-123456.jpeg", "2019-07-04T12:34:56"),
        ("FB_IMG_1562236496123.jpg", "2019-07-04T10:34:56+00:00"),
        ("IMG_20190230_123456.jpg", None),
        ("DSC_1234.jpg", None),
        ("120190704.jpg", None),
        ("order 2019070412.jpg", None),
    ],
)
def test_the_name_of_a_file_says_when(name: str, taken: str | None) -> None:
    tags = tags_of(photo(), name=name)
    assert tags.get("taken") == taken
    assert tags.get("taken_from") == ("file name" if taken else None)
    assert tags["file"] == name


def test_the_time_of_the_file_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Etc/GMT-3")
    time.tzset()
    try:
        tags = tags_of(photo(), name="a.jpg", modified=1562236496.5)
        assert (tags["taken"], tags["taken_from"]) == ("2019-07-04T13:34:56+03:00", "file time")
        assert (
            tags_of(photo(), name="IMG-20180101-WA1.jpg", modified=1562236496.5)["taken_from"] == "file name"
        )
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("SONY", "ILCE-7M3", "SONY ILCE-7M3"),
        ("OLYMPUS IMAGING CORP.  ", "E-M10", "OLYMPUS E-M10"),
        ("EASTMAN KODAK COMPANY", "KODAK DX3900 ZOOM", "KODAK DX3900 ZOOM"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("", "Mavic", "Mavic"),
    ],
)
def test_the_maker_stands_once_before_the_model(make: str, model: str, camera: str) -> None:
    assert tags_of(photo(exif=exif({0x010F: make, 0x0110: model})))["camera"] == camera


def test_each_folder_around_a_photo_is_a_value() -> None:
    assert tags_of(photo(), folder="2019/italy/rome")["folder"] == ["2019", "2019/italy", "2019/italy/rome"]
    assert "folder" not in tags_of(photo())


def test_values_that_say_nothing_are_left_out() -> None:
    blob = photo(
        exif=exif(
            {0x010E: "OLYMPUS DIGITAL CAMERA", 0x0132: "0000:00:00 00:00:00", 0x4746: 0},
            {0x9003: "    :  :     :  :  ", 0x829D: 0.0, 0xA434: "----", 0x8827: 65535},
            {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        )
    )
    assert tags_of(blob).keys() == {"format", "width", "height", "orientation", "bytes"}


LAUGHS = b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;'>]><x>&b;</x>"


@pytest.mark.parametrize(
    ("named", "block", "says"),
    [
        ("x.xmp", LAUGHS, "declares a document type"),
        ("x.xmp", b"<a>" * 100_000, "inside each other"),
        ("x.xmp", b"<a>" + b"<b/>" * 60_000 + b"</a>", "more than 50,000 elements"),
        ("x.xmp", b"not XML", "no XML"),
        ("x.xmp", b" " * (4 << 20) + b"<a/>", "4,194,308 bytes"),
        ("x.jpg.json", b"[" * 100_000, "no JSON"),
        ("x.jpg.json", b'{"name": "x"}', "not of Google Takeout"),
    ],
)
def test_a_sidecar_that_cannot_be_used_is_told_and_costs_nothing(named: str, block: bytes, says: str) -> None:
    read = read_metadata(photo(exif=exif(CAMERA)), sidecars={named: block})
    assert read.tags["camera"] == "NIKON D90"
    assert len(read.warnings) == 1
    assert named in read.warnings[0]
    assert says in read.warnings[0]


def test_damaged_blocks_are_told_and_the_others_read() -> None:
    blob = with_segments(
        (0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x>"),
        (0xED, resources(IPTC)),
    )
    read = read_metadata(blob)
    assert read.tags["title"] == "Märkte"
    assert len(read.warnings) == 1
    assert "XMP" in read.warnings[0]


@pytest.mark.parametrize("seed", range(4))
def test_no_damage_raises_hangs_or_makes_tags_that_are_too_large(seed: int) -> None:
    chance = random.Random(seed)
    photos = [
        photo(kind, exif=exif({**CAMERA, 0x0112: 6}, SHOT, TOWER), xmp=WORDS)
        for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF")
    ]
    for blob in [*photos, with_segments((0xED, resources(IPTC)))]:
        for _ in range(60):
            damaged = bytearray(blob[: chance.randrange(len(blob) + 1)] if chance.random() < 0.3 else blob)
            for _ in range(chance.randrange(1, 9)):
                if damaged:
                    damaged[chance.randrange(min(len(damaged), 1500))] = chance.choice((0, 1, 255, 127, 32))
            checked(read_metadata(bytes(damaged), sidecars={"x.xmp": bytes(damaged)[:900]}))


def checked(read: Metadata) -> None:
    assert read.tags.keys() <= FIELDS.keys()
    assert tags_beyond_limits(read.tags, "The tags") is None
    json.dumps(read.tags).encode()


def test_tags_that_are_too_large_together_are_shortened_and_told() -> None:
    many = "".join(f"<rdf:li>{number}{'ä' * 190}</rdf:li>" for number in range(300))
    sidecar = packet(f"<dc:subject><rdf:Bag>{many}</rdf:Bag></dc:subject>")
    read = read_metadata(photo(), folder="x/y", sidecars={"x.xmp": sidecar})
    checked(read)
    assert read.tags["folder"] == ["x", "x/y"]
    assert "keywords is left out" in read.warnings[0]


def test_the_table_in_the_documentation_is_made_of_the_fields() -> None:
    assert tags_section() in (REPOSITORY / "docs" / "library.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("said", "name", "taken"),
    [
        ("2019-12-31T23:30:00Z", "VID_20200101_003000.mp4", "2020-01-01T00:30:00"),
        # Written when the video ended.
        ("2019-12-31T23:31:10Z", "VID_20200101_003000.mp4", "2020-01-01T00:30:00"),
        ("2019-12-31T23:30:00Z", "VID_20200101_001200.mp4", "2019-12-31T23:30:00+00:00"),
        ("2019-12-31T23:30:00Z", "PXL_20191231_233000000.mp4", "2019-12-31T23:30:00+00:00"),
        ("2019-12-31T23:30:00Z", "2019-12-31.mp4", "2019-12-31T23:30:00+00:00"),
    ],
)
def test_the_local_time_of_a_video_is_in_its_name(said: str, name: str, taken: str) -> None:
    video = Video(VIDEO_FORMATS[0], 1, "", 4, 3, 70.0, (Moment(0.0, b""),), {"creation_time": said})
    tags = read_video_metadata(video, name=name).tags
    assert (tags["taken"], tags["taken_from"], tags["year"]) == (taken, "camera", int(taken[:4]))
