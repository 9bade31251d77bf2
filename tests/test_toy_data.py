"""The toy data that ships: real photographs, several captions each, and a free licence for every one."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from crossmodal.data_sets import open_data_set
from crossmodal.images import decode_image
from crossmodal.records import IMAGE, TEXT, Record

DATA_ROOT = Path(__file__).resolve().parents[1] / "data"
TOY_DATA = DATA_ROOT / "toy-data"
FREE_LICENCES = ("CC0 1.0", "Public domain")


@pytest.fixture(scope="module")
def records() -> list[Record]:
    found = list(open_data_set("toy-data", data_root=DATA_ROOT))
    assert all(isinstance(item, Record) for item in found), found
    return [item for item in found if isinstance(item, Record)]


@pytest.fixture(scope="module")
def sources() -> dict[str, dict[str, str]]:
    with open(TOY_DATA / "SOURCES.csv", encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_it_has_fifteen_photographs_with_two_to_five_captions_each(records: list[Record]) -> None:
    photos = {record.id: Path(record.uri or "").name for record in records if record.modality == IMAGE}
    assert len(photos) == 15
    assert sorted(photos.values()) == sorted(path.name for path in (TOY_DATA / "images").iterdir())
    captions = Counter(record.photo_id for record in records if record.modality == TEXT)
    assert captions.keys() == photos.keys()
    assert all(2 <= count <= 5 for count in captions.values())
    assert captions.total() == 41


def test_no_caption_is_said_twice(records: list[Record]) -> None:
    captions = [record.text for record in records if record.modality == TEXT]
    assert len(set(captions)) == len(captions)


def test_each_photo_is_a_small_jpeg_that_decodes(records: list[Record]) -> None:
    photos = [record for record in records if record.modality == IMAGE]
    for photo in photos:
        assert photo.content is not None
        assert photo.mime_type == "image/jpeg"
        pixels = decode_image(photo.content)
        height, width, channels = pixels.shape
        assert channels == 3
        assert 300 <= max(height, width) <= 640
        assert pixels.std() > 10, f"{photo.uri} is blank"
    assert sum(len(photo.content or b"") for photo in photos) < 1_500_000


def test_each_photo_has_a_source_and_a_free_licence(
    records: list[Record], sources: dict[str, dict[str, str]]
) -> None:
    assert sorted(sources) == sorted(
        Path(record.uri or "").name for record in records if record.modality == IMAGE
    )
    for name, source in sources.items():
        assert source["licence"].startswith(FREE_LICENCES), f"{name}: {source['licence']}"
        assert all(source[column] for column in ("title", "author", "source", "changes")), name


def test_the_captions_say_what_the_photos_show(records: list[Record]) -> None:
    photo_of = {record.id: Path(record.uri or "").stem for record in records if record.modality == IMAGE}
    words_of: dict[str, str] = {}
    for record in records:
        if record.modality == TEXT:
            name = photo_of[record.photo_id or ""]
            words_of[name] = f"{words_of.get(name, '')} {record.text}".lower()
    for name, word in {
        "cat": "tabby",
        "raccoon": "raccoon",
        "coffee": "espresso",
        "astronaut": "astronaut",
    }.items():
        assert [other for other, words in words_of.items() if word in words] == [name]
