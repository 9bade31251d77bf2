"""What ``-d`` may be: several of them, a photo, a list on stdin, and layouts that are guessed or told."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, TOY_DATA, TOY_IMAGES, clean_environment

from crossmodal.cli.arguments import read_settings
from crossmodal.data_sets import DataSet, open_data_set, open_data_sets
from crossmodal.errors import DataSetError, SettingsError
from crossmodal.records import IMAGE, Failure, Record
from crossmodal.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with photos in it and below it."""
    for name in ("cat.jpg", "2019/coffee.jpg", "2020/rocket.jpg"):
        copied(tmp_path / name)
    return tmp_path


def copied(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(TOY_IMAGES / path.name, path))


def opened(*names: Path | str, stdin: bytes = b"", null: bool = False) -> list[DataSet]:
    return open_data_sets(
        [str(name) for name in names], data_root=TOY_DATA.parent, stdin=io.BytesIO(stdin), null=null
    )


def photos(data_set: DataSet) -> list[str]:
    """The photos' file names; nothing may fail."""
    items = list(data_set)
    assert not [item for item in items if isinstance(item, Failure)], items
    return [
        Path(item.uri or "").name for item in items if isinstance(item, Record) and item.modality == IMAGE
    ]


def captions(data_set: DataSet) -> list[str]:
    return [item.text for item in data_set if isinstance(item, Record) and item.text]


# Several


def test_several_inputs_are_opened_each_once_and_in_order(folder: Path) -> None:
    sets = opened(folder / "2020", TOY_DATA, folder / "2019", folder / "2020")
    assert [data_set.name for data_set in sets] == [
        str(folder / "2020"),
        str(TOY_DATA),
        str(folder / "2019"),
    ]
    assert [photos(sets[0]), len(photos(sets[1])), photos(sets[2])] == [["rocket.jpg"], 15, ["coffee.jpg"]]
    with pytest.raises(DataSetError, match="There is no data set 'nowhere'"):
        opened(folder, "nowhere")


@pytest.mark.parametrize(
    "line", ["index a b", "index -d a -d b", "-t index -d a --data_set b", "index a -d b"]
)
def test_the_command_line_takes_several(line: str) -> None:
    assert read_settings(line.split(), {}).data_sets == ("a", "b")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("evaluate -d a -d b", "--data_set is given 2 times, as a and b; evaluate takes one"),
        ("-t train -d a -d b -d c", "--data_set is given 3 times, as a, b and c; -t train takes one"),
        (
            "evaluate -d - --gap",
            "--data_set - has no meaning for evaluate, which reads its data several times",
        ),
        ("index a -0", "--null has no meaning without --data_set -"),
        (
            "search hello --exclude x",
            "--exclude has no meaning for search; it belongs to index, evaluate and embed",
        ),
        (
            "train -d a --read-as folder",
            "--read-as has no meaning for train; it belongs to index, evaluate and embed",
        ),
    ],
)
def test_what_would_say_nothing_is_refused(
    line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings(line.split(), {})
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {sentence}")


def test_one_data_set_is_asked_of_several() -> None:
    assert Settings(data_sets=("a",)).data_set == "a"
    with pytest.raises(SettingsError, match=r"-d is given 2 times \(a, b\)"):
        _ = Settings(data_sets=("a", "b")).data_set


# A photo, a list


@pytest.mark.parametrize("name", ["cat.jpg", "CAT.JPEG", "a photo without extension", "film.dat"])
def test_one_photo_is_an_input(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(TOY_IMAGES / "cat.jpg", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (data_set,) = opened(name)
    (record,) = data_set
    assert isinstance(record, Record)
    assert (record.uri, record.content) == (str(tmp_path / name), (TOY_IMAGES / "cat.jpg").read_bytes())
    assert (data_set.len_hint(), data_set.root, data_set.walked) == (1, None, False)
    with pytest.raises(DataSetError, match="is a photo, so --split dev cannot be used"):
        open_data_set(name, data_root=tmp_path, split="dev")


@pytest.mark.parametrize(
    ("list_of", "null"),
    [
        ("{0}/cat.jpg\n2019/coffee.jpg\n\n./2020/../2020/rocket.jpg", False),
        ("{0}/cat.jpg\r\n2019/coffee.jpg\r\nfile://{0}/2020/rocket.jpg\r\n", False),
        ("{0}/cat.jpg\0002019/coffee.jpg\0002020/rocket.jpg\0", True),
    ],
    ids=["lines", "windows", "zeros"],
)
def test_a_list_on_stdin(folder: Path, list_of: str, null: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (data_set,) = opened("-", stdin=list_of.format(folder).encode(), null=null)
    assert data_set.len_hint() is None
    assert photos(data_set) == ["cat.jpg", "coffee.jpg", "rocket.jpg"]
    assert not data_set.walked
    with pytest.raises(DataSetError, match="was read already"):
        list(data_set)


def test_a_name_with_a_line_end_needs_zeros(folder: Path) -> None:
    name = folder / "two\nlines .jpg"
    (folder / "cat.jpg").rename(name)
    (data_set,) = opened("-", stdin=os.fsencode(name), null=True)
    (record,) = data_set
    assert isinstance(record, Record)
    assert record.uri == str(name)


def test_what_a_list_names_wrongly_is_told_by_line(folder: Path) -> None:
    lines = [str(folder / "gone.jpg"), "x" * 9_000_000, "https://example.org/a.jpg", str(folder)]
    (data_set,) = opened("-", stdin="\n".join([*lines, str(folder / "cat.jpg")]).encode())
    items = list(data_set)
    assert [item.source for item in items if isinstance(item, Failure)] == [
        f"stdin, line {number}" for number in (1, 2, 3, 4)
    ]
    reasons = [item.reason for item in items if isinstance(item, Failure)]
    assert reasons[0].endswith("gone.jpg does not exist")
    assert reasons[1].endswith("has more than 4,096 bytes, and no path has")
    assert "nothing is ever fetched" in reasons[2]
    assert reasons[3] == f"{folder} is a folder, not a file"
    assert isinstance(items[-1], Record)


def test_a_list_goes_through_the_command_line_and_an_empty_one_is_an_error(folder: Path) -> None:
    def indexed(listed: bytes, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, REPOSITORY / "app.py", "index", "-", *arguments, "--workspace", "w", "--json"],
            cwd=folder,
            input=listed,
            capture_output=True,
            env=clean_environment(),
            check=False,
        )

    table = folder / "list.csv"
    table.write_text("image,caption\ncat.jpg,A cat .\n")
    listed = b"2019/coffee.jpg\0" + os.fsencode(folder / "cat.jpg") + b"\0"
    done = indexed(listed, "-0", folder / "2020", "-d", table)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["data_set"] == f"stdin, {folder / '2020'}, {table}"
    assert (report["photos"]["added"], report["captions"]["added"]) == (3, 1)
    guess = f"Read as CSV file {table}: photos in the column image, captions in caption"
    assert report["notes"] == [guess]
    assert done.stderr.decode().startswith(f"{guess}\n")
    done = indexed(b"\n\n")
    assert done.returncode == 1
    assert b"There was nothing to index in stdin: no photo and no caption." in done.stderr


# Guesses


def karpathy(path: Path, *names: str) -> None:
    images = [{"filename": name, "sentences": [{"raw": f"About {name}"}]} for name in names]
    path.write_text(json.dumps({"images": images}))


def coco(path: Path, *names: str) -> None:
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "annotations": [
            {"image_id": number, "caption": f"About {name}"} for number, name in enumerate(names)
        ],
    }
    path.write_text(json.dumps(content))


NO_DATA_SETS = {
    "the case": ("dataset_info.json", '{"name": "x"}'),
    "no images": ("dataset.json", '{"images": []}'),
    "others' images": ("dataset_photos.json", '{"images": ["cat.jpg"]}'),
    "Hugging Face's": ("dataset_infos.json", '{"default": {"features": {}}}'),
    "a list": ("captions_old.json", "[1, 2]"),
    "not JSON": ("captions_notes.json", "Dear all"),
    "empty": ("dataset.json", ""),
}


@pytest.mark.parametrize(("name", "content"), NO_DATA_SETS.values(), ids=NO_DATA_SETS)
@pytest.mark.parametrize("sub_folder", ["trip_images", "images", "2021"])
def test_a_file_that_looks_like_a_data_set_leaves_a_folder_of_photos_what_it_is(
    folder: Path, name: str, content: str, sub_folder: str
) -> None:
    copied(folder / sub_folder / "coins.jpg")
    (folder / name).write_text(content)
    data_set = open_data_set(str(folder), data_root=folder)
    assert sorted(photos(data_set)) == ["cat.jpg", "coffee.jpg", "coins.jpg", "rocket.jpg"]
    assert data_set.guess is not None
    assert f"{name} is no data set" in data_set.guess
    assert data_set.guess in data_set.notes


def test_half_a_folder_comes_whole(folder: Path) -> None:
    """images/ with captions.txt, and further folders of photos beside it."""
    copied(folder / "images" / "coins.jpg")
    copied(folder / "images" / "grass.jpg")
    (folder / "captions.txt").write_text("image,caption\ncoins.jpg,Old coins .\n2019/coffee.jpg,A cup .\n")
    data_set = open_data_set(str(folder), data_root=folder)
    assert photos(data_set) == ["coins.jpg", "coffee.jpg", "cat.jpg", "rocket.jpg", "grass.jpg"]
    assert captions(data_set) == ["Old coins .", "A cup ."]
    assert data_set.walked
    assert data_set.guess == (
        f"Read as Kaggle's Flickr layout in {folder}; --read-as folder takes the photos without captions"
    )
    assert data_set.len_hint() == 7
    assert data_set.notes == [data_set.guess], "captions.txt is not passed over"


def test_captions_of_a_folder_without_any_folder_called_images(folder: Path) -> None:
    (folder / "cat.jpg").unlink()
    (folder / "captions.txt").write_text("image,caption\n2019/coffee.jpg,A cup .\n")
    data_set = open_data_set(str(folder), data_root=folder)
    assert (photos(data_set), captions(data_set)) == (["coffee.jpg", "rocket.jpg"], ["A cup ."])


@pytest.mark.parametrize("write", [karpathy, coco])
def test_photos_that_a_benchmarks_list_does_not_name_are_counted(folder: Path, write) -> None:
    copied(folder / "images" / "coins.jpg")
    copied(folder / "images" / "grass.jpg")
    write(folder / f"{'dataset' if write is karpathy else 'captions'}_x.json", "coins.jpg")
    data_set = open_data_set(str(folder), data_root=folder)
    assert photos(data_set) == ["coins.jpg"]
    assert data_set.notes[1:] == [
        f"{folder}: left out 4 photos that the file of captions doesn't name; --read-as folder takes "
        "every photo, without captions"
    ]
    assert len(photos(open_data_set(str(folder), data_root=folder, read_as="folder"))) == 5


def test_what_is_guessed_of_a_file_is_said(folder: Path) -> None:
    (folder / "list.csv").write_text("Photo;text;place;year\ncat.jpg;A cat .;home;2019\n")
    data_set = open_data_set(str(folder / "list.csv"), data_root=folder)
    assert data_set.guess == (
        f"Read as CSV file {folder}/list.csv: photos in the column Photo, captions in text, tags in "
        "place, year"
    )
    assert open_data_set("toy-data", data_root=TOY_DATA.parent).guess is None
    assert open_data_set(str(folder / "2019"), data_root=folder).guess is None


def test_a_layout_that_is_told_is_not_guessed(folder: Path) -> None:
    copied(folder / "images" / "coins.jpg")
    (folder / "captions.txt").write_text("image,caption\ncoins.jpg,Kaggle .\n")
    karpathy(folder / "dataset_k.json", "coins.jpg")
    coco(folder / "captions_c.json", "coins.jpg")
    said = {}
    for layout in ("auto", "folder", "kaggle", "karpathy", "coco"):
        data_set = open_data_set(str(folder), data_root=folder, read_as=layout)
        said[layout] = (len(photos(data_set)), captions(data_set))
        assert (data_set.guess is None) == (layout != "auto")
    about = ["About coins.jpg"]
    assert said == {
        "auto": (4, ["Kaggle ."]),
        "folder": (4, []),
        "kaggle": (4, ["Kaggle ."]),
        "karpathy": (1, about),
        "coco": (1, about),
    }
    shutil.copy(folder / "captions.txt", folder / "words.dat")
    assert captions(open_data_set(str(folder / "words.dat"), data_root=folder, read_as="table")) == [
        "Kaggle ."
    ]
    assert captions(open_data_set(str(folder / "words.dat"), data_root=folder, read_as="kaggle")) == [
        "Kaggle ."
    ]


@pytest.mark.parametrize(
    ("name", "layout", "message"),
    [
        (".", "kaggle", "cannot be read as kaggle: it has no captions.txt"),
        (".", "karpathy", r"cannot be read as karpathy: it has no dataset\*.json of that format"),
        (".", "coco", r"cannot be read as coco: it has no captions_\*.json of that format"),
        (".", "table", "is a folder, and --read-as table reads a file: give one of list.csv with -d"),
        ("list.csv", "folder", "list.csv is a file, and --read-as folder reads a folder"),
        ("list.csv", "coco", "is not a JSON object"),
        (
            "k.json",
            "coco",
            "is not in the format that --read-as coco asks for: its images begin with a filename",
        ),
    ],
)
def test_a_layout_that_is_told_and_is_not_there(folder: Path, name: str, layout: str, message: str) -> None:
    (folder / "list.csv").write_text("image\ncat.jpg\n")
    karpathy(folder / "k.json", "cat.jpg")
    with pytest.raises(DataSetError, match=message):
        open_data_set(str(folder / name), data_root=folder, read_as=layout)


def test_captions_that_are_no_table_say_how_to_take_the_photos(folder: Path) -> None:
    (folder / "captions.txt").write_text("Our summer\n")
    with pytest.raises(DataSetError, match="--read-as folder takes the photos without captions"):
        open_data_set(str(folder), data_root=folder)
    assert len(photos(open_data_set(str(folder), data_root=folder, read_as="folder"))) == 3
