"""Every layout that a name or a path can have, read to its last photo and caption."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from crossmodal.data_sets import open_data_set
from crossmodal.errors import DataSetError
from crossmodal.records import IMAGE, TEXT, Failure, Record, caption_id, digest_of, photo_id

ROOT = Path(__file__).resolve().parents[1]
TOY_IMAGES = ROOT / "data" / "toy-data" / "images"
SHARED = ROOT / ".." / "shared" / "data"


def records_of(path: Path | str, data_root: Path = Path("nowhere"), split: str | None = None) -> list[Record]:
    found = list(open_data_set(str(path), data_root=data_root, split=split))
    assert not [item for item in found if isinstance(item, Failure)]
    return [item for item in found if isinstance(item, Record)]


def outline(records: list[Record]) -> list[str]:
    """Photos as their file name, captions as their text: the order in which a data set speaks."""
    return [record.text or Path(record.uri or "").name for record in records]


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """Three photos; the captions of the second come between and after those of the first."""
    folder = tmp_path / "photos"
    shutil.copytree(
        TOY_IMAGES, folder / "images", ignore=lambda _, names: [n for n in names if n[0] not in "cr"]
    )
    for name in ("cameraman.jpg", "coins.jpg", "raccoon.jpg", "retina.jpg"):
        (folder / "images" / name).unlink()
    (folder / "captions.txt").write_text(
        "image,caption\ncoffee.jpg,A cup .\ncat.jpg,A cat .\ncoffee.jpg,A spoon .\n", encoding="utf-8"
    )
    (folder / "dev.txt").write_text("rocket.jpg\ncat.jpg\n")
    return folder


def test_a_photo_comes_before_its_captions_and_those_without_any_come_last(kaggle: Path) -> None:
    records = records_of(kaggle)
    assert outline(records) == ["coffee.jpg", "A cup .", "cat.jpg", "A cat .", "A spoon .", "rocket.jpg"]
    cup, spoon = records[1], records[4]
    coffee = kaggle / "images" / "coffee.jpg"
    assert records[0].digest == digest_of(coffee.read_bytes())
    assert records[0].id == photo_id(records[0].digest)
    assert (cup.id, spoon.id) == tuple(caption_id(records[0].id, said) for said in ("A cup .", "A spoon ."))
    assert cup.photo_id == spoon.photo_id == records[0].id
    assert records[0].content == coffee.read_bytes()
    assert (records[0].mime_type, cup.mime_type) == ("image/jpeg", "text/plain")
    assert cup.uri == records[0].uri == str(coffee)
    assert all(record == record.hashed() and record.content_hash for record in records)


def test_a_relative_path_gives_the_same_ids(kaggle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = records_of(kaggle)
    monkeypatch.chdir(kaggle.parent)
    assert records_of("photos") == records_of("./photos/../photos") == absolute


@pytest.mark.parametrize("split", ["dev", "val", "DEV", "validation"])
def test_a_split_file_selects_photos_and_their_captions(kaggle: Path, split: str) -> None:
    assert outline(records_of(kaggle, split=split)) == ["cat.jpg", "A cat .", "rocket.jpg"]


def test_flickr8ks_own_split_files_are_known(kaggle: Path) -> None:
    (kaggle / "Flickr_8k.testImages.txt").write_text("coffee.jpg\n")
    assert outline(records_of(kaggle, split="test")) == ["coffee.jpg", "A cup .", "A spoon ."]


def test_a_split_that_is_not_there_is_refused_with_those_that_are(kaggle: Path) -> None:
    (kaggle / "letter.txt").write_bytes("Dear all".encode("utf-16"))
    (kaggle / "folder.txt").mkdir()
    with pytest.raises(DataSetError, match=r"The split test is not in .*: there are dev"):
        open_data_set(str(kaggle), data_root=kaggle, split="test")


def test_a_split_that_lists_a_missing_photo_says_where(kaggle: Path) -> None:
    (kaggle / "dev.txt").write_text("cat.jpg\ngone.jpg\n")
    *_, failure = open_data_set(str(kaggle), data_root=kaggle, split="dev")
    missing = f"{kaggle}/images/gone.jpg does not exist"
    assert failure == Failure(f"{kaggle}/dev.txt, line 2", missing)


@pytest.mark.parametrize("name", ["Images", "flickr30k_images", "flickr30k_images/flickr30k_images", "."])
def test_the_images_may_lie_in_folders_of_other_names(kaggle: Path, name: str) -> None:
    expected = outline(records_of(kaggle))
    shutil.move(kaggle / "images", kaggle / "moved")
    if name == ".":
        for path in (kaggle / "moved").iterdir():
            shutil.move(path, kaggle)
        (kaggle / "moved").rmdir()
    else:
        (kaggle / name).parent.mkdir(exist_ok=True)
        shutil.move(kaggle / "moved", kaggle / name)
    assert outline(records_of(kaggle)) == expected


def test_captions_txt_itself_is_a_path_too(kaggle: Path) -> None:
    def told(records: list[Record]) -> list[tuple[str, str | None, str | None]]:
        return [(record.id, record.text, record.uri) for record in records]

    assert told(records_of(kaggle / "captions.txt")) == told(records_of(kaggle)[:5])


def test_a_folder_of_images_is_walked_to_any_depth(tmp_path: Path) -> None:
    for path in (
        "b/deep/er/cat.JPG",
        "a.png",
        "b/coffee.jpeg",
        ".hidden.jpg",
        ".cache/x.jpg",
        "notes.txt",
        "README",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        # A photo in several files of one content comes once.
        (tmp_path / path).write_bytes((TOY_IMAGES / "cat.jpg").read_bytes() + path.encode())
    data_set = open_data_set(str(tmp_path), data_root=tmp_path)
    records = [item for item in data_set if isinstance(item, Record)]
    found = [str(Path(record.uri or "").relative_to(tmp_path)) for record in records]
    assert found == ["a.png", "b/coffee.jpeg", "b/deep/er/cat.JPG"]
    assert {record.mime_type for record in records} == {"image/jpeg"}, "by the bytes, not by the name"
    assert data_set.len_hint() == 3
    assert data_set.notes == [
        f"{tmp_path}: passed over 2 files that are not images (1 .txt, 1 without extension)",
        f"{tmp_path}: passed over 2 hidden files and folders",
    ]
    assert data_set.description == f"folder of images {tmp_path}"


def test_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(TOY_IMAGES / "cat.jpg", tmp_path / "elsewhere")
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a").symlink_to(tmp_path / "elsewhere")
    (folder / "b").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    data_set = open_data_set(str(folder), data_root=tmp_path)
    assert [item.uri for item in data_set if isinstance(item, Record)] == [str(folder / "a" / "cat.jpg")]
    assert data_set.notes == [f"{folder}: passed over 2 links to folders already visited"]


@pytest.fixture
def karpathy(tmp_path: Path) -> Path:
    (tmp_path / "f30k" / "images").mkdir(parents=True)
    images = []
    for name, split in [("cat.jpg", "train"), ("coffee.jpg", "val"), ("rocket.jpg", "test")]:
        shutil.copy(TOY_IMAGES / name, tmp_path / "f30k" / "images")
        sentences = [{"raw": f"{word} {name}", "tokens": [word.lower()]} for word in ("One", "Two")]
        images.append({"filename": name, "split": split, "imgid": len(images), "sentences": sentences})
    (tmp_path / "f30k" / "dataset_flickr30k.json").write_text(
        json.dumps({"images": images, "dataset": "flickr30k"})
    )
    return tmp_path


def test_karpathys_file_gives_photos_sentences_and_splits(karpathy: Path) -> None:
    records = records_of("f30k", karpathy)
    expected = [
        f"{word}{name}" for name in ("cat.jpg", "coffee.jpg", "rocket.jpg") for word in ("", "One ", "Two ")
    ]
    assert outline(records) == expected
    assert [record.tags["split"] for record in records] == ["train"] * 3 + ["val"] * 3 + ["test"] * 3
    assert outline(records_of("f30k", karpathy, "dev")) == expected[3:6]
    assert outline(records_of(karpathy / "f30k", split="test")) == expected[6:]
    assert outline(records_of(karpathy / "f30k" / "dataset_flickr30k.json")) == expected
    assert open_data_set("f30k", data_root=karpathy, split="test").len_hint() == 3
    with pytest.raises(DataSetError, match="its splits are train, val, test"):
        open_data_set("f30k", data_root=karpathy, split="restval")


def test_coco_joins_captions_with_photos_by_number(tmp_path: Path) -> None:
    folder = tmp_path / "coco"
    (folder / "val2017").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for name in ("cat.jpg", "coffee.jpg", "rocket.jpg"):
        shutil.copy(TOY_IMAGES / name, folder / "val2017")
    content = {
        "annotations": [
            {"image_id": 9, "id": 1, "caption": "A cup ."},
            {"image_id": 4, "id": 2, "caption": "A cat .\n"},
            {"image_id": 9, "id": 3, "caption": "A spoon ."},
        ],
        "images": [
            {"id": 4, "file_name": "cat.jpg"},
            {"id": 9, "file_name": "coffee.jpg"},
            {"id": 5, "file_name": "rocket.jpg"},
        ],
    }
    (folder / "annotations" / "captions_val2017.json").write_text(json.dumps(content))
    records = records_of("coco", tmp_path)
    assert outline(records) == ["coffee.jpg", "A cup .", "cat.jpg", "A cat .", "A spoon .", "rocket.jpg"]
    assert [record.tags["coco_image_id"] for record in records] == [9, 9, 4, 4, 9, 5]
    assert open_data_set("coco", data_root=tmp_path).len_hint() == 6
    assert records_of("coco", tmp_path, "val") == records_of("coco", tmp_path, "val2017") == records
    alone = records_of(folder / "annotations" / "captions_val2017.json")
    assert [(record.id, record.text, record.tags) for record in alone] == [
        (record.id, record.text, record.tags) for record in records
    ]
    with pytest.raises(DataSetError, match="there are val2017"):
        open_data_set("coco", data_root=tmp_path, split="test")


def test_without_content_photos_are_what_they_are_without_their_bytes(kaggle: Path) -> None:
    found = list(open_data_set(str(kaggle), data_root=kaggle, content=False))
    assert [item.modality for item in found if isinstance(item, Record)].count(IMAGE) == 3
    assert found == [replace(record, content=None) for record in records_of(kaggle)]


def test_a_photo_in_several_files_comes_once_with_all_its_captions(tmp_path: Path) -> None:
    for name in ("cat.jpg", "copy.jpg"):
        shutil.copy(TOY_IMAGES / "cat.jpg", tmp_path / name)
    (tmp_path / "photos.csv").write_text("image,caption\ncat.jpg,A cat .\ncopy.jpg,Its copy .\n")
    photo, *captions = records_of(tmp_path / "photos.csv")
    assert outline([photo, *captions]) == ["cat.jpg", "A cat .", "Its copy ."]
    assert {caption.photo_id for caption in captions} == {photo.id}


@pytest.mark.parametrize("name", ["f8k", "f30k", "coco"])
def test_a_data_set_that_was_not_fetched_says_how_to_get_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        DataSetError, match=rf"The data set {name} is not in .*{name}: get it with ./get_data.sh {name}"
    ):
        open_data_set(name, data_root=tmp_path)


def test_a_named_data_set_without_captions_is_not_taken_for_a_folder_of_images(tmp_path: Path) -> None:
    shutil.copytree(TOY_IMAGES, tmp_path / "f30k" / "images")
    with pytest.raises(DataSetError, match="has images and no captions: f30k is not whole"):
        open_data_set("f30k", data_root=tmp_path)


def test_a_path_that_is_not_there_names_every_layout(tmp_path: Path) -> None:
    with pytest.raises(DataSetError) as caught:
        open_data_set(str(tmp_path / "flickr9k"), data_root=tmp_path)
    message = str(caught.value)
    for part in (
        str(tmp_path / "flickr9k"),
        "toy-data, f8k, f30k, coco",
        "captions.txt",
        "captions_*.json",
        "JSONL",
    ):
        assert part in message


@pytest.mark.slow
def test_flickr8k_is_read_whole() -> None:
    folder = SHARED / "flickr8k"
    if not folder.is_dir():
        pytest.skip("the Flickr8k photos are not in ../shared/data")
    with open(folder / "captions.txt", encoding="utf-8", newline="") as file:
        rows = [(row["image"], row["caption"].strip()) for row in csv.DictReader(file)]
    photos: dict[str, str] = {}
    captions: list[tuple[str, str | None]] = []
    data_set = open_data_set(str(folder), data_root=Path("data"))
    for item in data_set:
        assert isinstance(item, Record), item
        if item.modality == TEXT:
            captions.append((photos[item.photo_id or ""], item.text))
        else:
            photos[item.id] = Path(item.uri or "").name
    # Two of its files have one content, and so are one photo, under the name of the first.
    same = {"3050606344_af711c726c.jpg": "2851198725_37b6027625.jpg"}
    assert captions == [(same.get(name, name), caption) for name, caption in rows]
    assert len(photos) == 6_999
    assert data_set.len_hint() == 42_000
    dev = (folder / "dev.txt").read_text().split()
    chosen = records_of(folder, split="dev")
    assert [Path(r.uri or "").name for r in chosen if r.modality == IMAGE] == dev
    assert sum(record.modality == TEXT for record in chosen) == 5_000


def test_a_link_made_later_does_not_change_the_path_of_a_photo(tmp_path: Path) -> None:
    deep = tmp_path / "nested" / "deep"
    deep.mkdir(parents=True)
    (deep / "cat.jpg").write_bytes((TOY_IMAGES / "cat.jpg").read_bytes())

    def uris() -> list[str | None]:
        items = open_data_set(str(tmp_path), data_root=tmp_path)
        return [item.uri for item in items if isinstance(item, Record)]

    before = uris()
    assert before == [str(deep / "cat.jpg")]
    # It comes first by name.
    (tmp_path / "aaa").symlink_to(deep)
    assert uris() == before
