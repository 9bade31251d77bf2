"""Whatever cannot be used gets one line with file, line and reason, and everything else is read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crossmodal.data_sets import Limits, open_data_set, photos
from crossmodal.data_sets.mentions import DEFAULT_LIMITS
from crossmodal.errors import DataSetError
from crossmodal.records import IMAGE, Failure, Record

ROOT = Path(__file__).resolve().parents[1]
TOY_IMAGES = ROOT / "data" / "toy-data" / "images"
GOOD = ["cat.jpg", "A cat .", "rocket.jpg", "A rocket ."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat.jpg", "rocket.jpg"):
        shutil.copy(TOY_IMAGES / name, tmp_path)
    return tmp_path


def read(path: Path, limits: Limits = DEFAULT_LIMITS) -> tuple[list[str], list[Failure]]:
    """The outline of what could be used, and the failures."""
    found = list(open_data_set(str(path), data_root=path.parent, limits=limits))
    records = [item.text or Path(item.uri or "").name for item in found if isinstance(item, Record)]
    return records, [item for item in found if isinstance(item, Failure)]


def failure_of_csv_row(folder: Path, row: bytes, limits: Limits = DEFAULT_LIMITS) -> Failure:
    """Reads ``row`` as line 3, between two good rows, and returns what is said of it."""
    path = folder / "photos.csv"
    path.write_bytes(b"image,caption\ncat.jpg,A cat .\n" + row + b"\nrocket.jpg,A rocket .\n")
    records, failures = read(path, limits)
    assert records == GOOD
    assert len(failures) == 1, failures
    assert failures[0].source == f"{path}, line 3"
    assert "\n" not in failures[0].reason
    return failures[0]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            b"cat.jpg,A cat , asleep .",
            "the row has 3 columns, and the header has 2 (image, caption); a caption with a comma needs "
            "quotation marks around it",
        ),
        (b"cat.jpg", "the row has 1 columns, and the header has 2 (image, caption)"),
        (b"cat.jpg," + b"x" * 10_000, "the caption has 10,000 characters, and the limit is 2,000"),
        (b'cat.jpg,"never closed', "a quotation mark opens and is never closed"),
        (b",A caption", "caption without a photo: the row names none"),
        (b"file://server/cat.jpg,A cat .", "file://server/cat.jpg names a file on another machine, server"),
        (
            b"data:image/png;base64,A cat .",
            "caption without a photo: data:image/png;base64 is not a data: URI: it has no comma; "
            "its caption was left out",
        ),
    ],
)
def test_a_bad_csv_row(folder: Path, row: bytes, reason: str) -> None:
    assert failure_of_csv_row(folder, row).reason == reason


def test_a_cell_above_pythons_limit(folder: Path) -> None:
    failure = failure_of_csv_row(folder, b"cat.jpg," + b"x" * 140_000)
    assert failure.reason.startswith("the row is not CSV: field larger than field limit (131072)")


def test_a_line_above_the_limit_is_not_kept_in_memory(folder: Path) -> None:
    failure = failure_of_csv_row(folder, b"cat.jpg," + b"x" * 3_000_000)
    assert failure.reason == "the line has more than 1,048,576 characters"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "{path} does not exist"),
        (lambda path: path.symlink_to("gone.jpg"), "{path} is a link to a file that does not exist"),
        (lambda path: path.symlink_to(path), "{path} cannot be read: Too many levels of symbolic links"),
        (lambda path: path.mkdir(), "{path} is a folder, not a file"),
        (lambda path: path.write_bytes(b""), "{path} is empty"),
        (os.mkfifo, "{path} is not a regular file but a device, pipe or socket"),
        (
            lambda path: path.write_bytes(bytes(101)),
            "{path} has 101 bytes, and the limit for a photo is 100; allow more with --max-photo-bytes",
        ),
    ],
    ids=["missing", "dangling-link", "link-loop", "folder", "empty", "pipe", "too-large"],
)
def test_a_photo_that_cannot_be_used_takes_its_captions_with_it(folder: Path, make, reason: str) -> None:
    for name in ("cat.jpg", "rocket.jpg"):
        (folder / name).write_bytes((folder / name).read_bytes()[-100:])
    make(folder / "bad.jpg")
    row = b"bad.jpg,One .\nbad.jpg,Two .\nbad.jpg,Three ."
    expected = reason.format(path=folder / "bad.jpg")
    failure = failure_of_csv_row(folder, row, limits=Limits(100))
    assert failure.reason == f"caption without a photo: {expected}; its 3 captions were left out"


def test_names_that_no_file_can_have(folder: Path) -> None:
    rows = [{"image": "a\0b.jpg"}, {"image": "x" * 300 + ".jpg"}, {"image": "cat.jpg"}]
    path = folder / "photos.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    records, failures = read(path)
    assert records == ["cat.jpg"]
    assert "is not a path that a file can have" in failures[0].reason
    assert failures[1].reason.endswith("cannot be read: File name too long")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"image": "cat.jpg"', "the line is not JSON: Expecting ',' delimiter at character 20"),
        ('["cat.jpg"]', "the line is not a JSON object but a list"),
        ('{"image": 7, "caption": "A cat ."}', "caption without a photo: the row names none"),
        ('{"caption": "A cat ."}', "caption without a photo: the row names none"),
        ('{"image": "cat.jpg", "caption": 7}', "the caption is not text but the number 7"),
        ('{"image": "cat.jpg", "caption": ["", 7]}', "the caption is not text but the number 7"),
        (
            '{"image": "cat.jpg", "caption": "\\ud800"}',
            "the line has an escape that is half a surrogate pair",
        ),
        ('{"image": "cat.jpg", "x": NaN}', "the line is not JSON that can be read: NaN is not a JSON number"),
        (
            '{"image": "cat.jpg", "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
            "the line is not JSON that can be read",
        ),
        ('{"image": "data:image/png;base64,!!"}', "data:image/png;base64,!! is not valid base64"),
        ('{"image": "data:,"}', "the photo in data:, is empty"),
        (
            '{"image": "cat.jpg", "place": "home"}',
            "the photo {folder}/cat.jpg is listed again, without a caption",
        ),
    ],
)
def test_a_bad_json_line(folder: Path, line: str, reason: str) -> None:
    path = folder / "photos.jsonl"
    good = [json.dumps({"image": name, "caption": said}) for name, said in (GOOD[:2], GOOD[2:])]
    path.write_text(f"{good[0]}\n{line}\n{good[1]}\n")
    records, failures = read(path)
    assert records == GOOD
    assert failures[0].source == f"{path}, line 2"
    assert failures[0].reason.startswith(reason.format(folder=folder))


def test_the_id_of_a_caption_does_not_depend_on_bad_ones(folder: Path) -> None:
    """Repairing the bad caption later adds one document and leaves the others as they are."""
    path = folder / "photos.csv"
    path.write_text(f"image,caption\ncat.jpg,{'long ' * 1000}\ncat.jpg,A cat .\n")
    before = [item for item in open_data_set(str(path), data_root=folder) if isinstance(item, Record)]
    path.write_text("image,caption\ncat.jpg,Repaired .\ncat.jpg,A cat .\n")
    after = [item for item in open_data_set(str(path), data_root=folder) if isinstance(item, Record)]
    assert before == [after[0], after[2]]


def test_an_open_quotation_mark_costs_one_row_and_not_the_file(folder: Path) -> None:
    path = folder / "photos.csv"
    rows = ['cat.jpg,"open', *(f"rocket.jpg,Rocket {n} ." for n in range(500)), 'cat.jpg,"open again']
    path.write_text("image,caption\n" + "\n".join(rows))
    records, failures = read(path)
    assert records == ["rocket.jpg", *(f"Rocket {n} ." for n in range(500))]
    assert [failure.source for failure in failures] == [f"{path}, line 2", f"{path}, line 503"]


def test_a_folder_with_bad_files_gives_the_good_ones(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "empty.png").write_bytes(b"")
    (folder / "b.jpg").mkdir()
    shutil.copy(TOY_IMAGES / "coffee.jpg", folder / "b.jpg" / "inside.jpg")
    (folder / "text.jpg").write_text("not an image")
    (folder / "loop").symlink_to("loop")
    os.close(os.open(os.fsencode(folder) + b"/caf\xe9.jpg", os.O_CREAT))
    records, failures = read(folder)
    assert sorted(records) == ["cat.jpg", "inside.jpg", "rocket.jpg", "text.jpg"], (
        "the loader judges text.jpg"
    )
    assert {Path(failure.source).name: failure.reason.partition(" ")[2] for failure in failures} == {
        "empty.png": "is empty",
        "b.jpg": "a folder, although its name is that of an image",
        r"caf\xe9.jpg": r"name of " + str(folder) + r"/caf\xe9.jpg is not valid UTF-8: rename it",
    }


DROP_PRIVILEGES = ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"]


def test_what_may_not_be_read_is_told(folder: Path) -> None:
    """In a process that file permissions bind, which root is not."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and setpriv is not installed to give that right up")
    (folder / "closed").mkdir()
    shutil.copy(TOY_IMAGES / "cat.jpg", folder / "closed")
    (folder / "rocket.jpg").chmod(0)
    (folder / "closed").chmod(0)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from crossmodal.data_sets import open_data_set\n"
        "for item in open_data_set(sys.argv[1], data_root=Path()):\n"
        "    print(getattr(item, 'reason', None) or item.uri)\n"
    )
    prefix = DROP_PRIVILEGES if os.geteuid() == 0 else []
    done = subprocess.run(
        [*prefix, sys.executable, "-c", script, folder], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (folder / "closed").chmod(0o700)
    assert done.stdout.splitlines() == [
        f"{folder}/cat.jpg",
        f"{folder}/rocket.jpg cannot be read: Permission denied",
        "the folder cannot be read: Permission denied",
    ]


def test_a_photo_that_is_still_being_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size when it was looked at is not its size when it was read."""
    checked_size = photos._checked_size
    monkeypatch.setattr(
        photos, "_checked_size", lambda path, most: checked_size(path, most) - ("cat" in path)
    )
    records, failures = read(folder)
    assert records == ["rocket.jpg"]
    assert [failure.reason for failure in failures] == [
        f"{folder}/cat.jpg changed while it was read: try again when it is complete"
    ]


def test_a_failure_is_one_line_whatever_the_file_is_called(folder: Path) -> None:
    (folder / "two\nlines \x1b[31m.jpg").write_bytes(b"")
    _, (failure,) = read(folder)
    assert failure == Failure(
        f"{folder}/two\\x0alines \\x1b[31m.jpg", f"{folder}/two\\x0alines \\x1b[31m.jpg is empty"
    )


@pytest.mark.parametrize("path", ["", "  ", "~nobody-has-this-name/photos", "x" * 5000, "a\0b"])
def test_a_path_that_cannot_be_one(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataSetError):
        open_data_set(path, data_root=tmp_path)


@pytest.mark.parametrize("names", [[], ["notes.txt", "letter.pdf"]])
def test_a_folder_with_nothing_to_use_says_what_is_in_it(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("words")
    with pytest.raises(DataSetError, match="There is nothing to use in") as caught:
        open_data_set(str(tmp_path), data_root=tmp_path)
    assert ("no image, only letter.pdf, notes.txt" if names else "no file at all") in str(caught.value)


def test_captions_without_any_folder_of_images(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("image,caption\ncat.jpg,A cat .\n")
    with pytest.raises(
        DataSetError, match=r"There is no photo for .*captions.txt: the photos should lie in .*images"
    ):
        open_data_set(str(tmp_path), data_root=tmp_path)


def coco_of(folder: Path, annotations: list[object]) -> Path:
    path = folder / "captions_x.json"
    images: list[object] = [{"id": 1, "file_name": "cat.jpg"}, {"id": 2, "file_name": "rocket.jpg"}]
    path.write_text(
        json.dumps({"images": [*images, {"id": "3", "file_name": "x.jpg"}], "annotations": annotations})
    )
    return path


def test_bad_entries_of_coco(folder: Path) -> None:
    good = [{"image_id": 1, "caption": "A cat ."}, {"image_id": 2, "caption": "A rocket ."}]
    path = coco_of(folder, [good[0], {"image_id": 77, "caption": "Lost ."}, "text", {"image_id": 1}, good[1]])
    records, failures = read(path)
    assert records == GOOD
    assert [(failure.source.removeprefix(f"{path}, "), failure.reason) for failure in failures] == [
        ("image 3", "the id is not a whole number but text"),
        ("annotation 2", "caption without a photo: no image has the id 77"),
        ("annotation 3", "the image_id is not a whole number but null"),
        ("annotation 4", "the caption is not text but null"),
    ]


def test_bad_entries_of_karpathys_file(folder: Path) -> None:
    path = folder / "dataset_x.json"
    good = [{"filename": name, "sentences": [{"raw": said}]} for name, said in (GOOD[:2], GOOD[2:])]
    bad = [
        {"sentences": []},
        7,
        {"filename": "gone.jpg", "sentences": [{"raw": "Lost ."}]},
        {"filename": "cat.jpg"},
    ]
    path.write_text(json.dumps({"images": [good[0], *bad, good[1]]}))
    records, failures = read(path)
    assert records == GOOD
    assert [failure.reason for failure in failures] == [
        "the image has no filename",
        "an image is an object, not the number 7",
        f"caption without a photo: {folder}/gone.jpg does not exist; its caption was left out",
        f"the photo {folder}/cat.jpg is listed again, without a caption",
    ]


def test_a_json_file_that_breaks_off_gives_what_came_before(folder: Path) -> None:
    path = folder / "dataset_x.json"
    whole = json.dumps({"images": [{"filename": "cat.jpg", "sentences": [{"raw": "A cat ."}]}] * 2})
    path.write_text(whole[: len(whole) * 2 // 3])
    records, failures = read(path)
    assert records == ["cat.jpg", "A cat ."]
    assert len(failures) == 1
    assert "is not a JSON object that can be read: at character" in failures[0].reason


def test_photos_of_a_folder_need_no_extension_that_tells_the_truth(folder: Path) -> None:
    shutil.copy(TOY_IMAGES / "coffee.jpg", folder / "really.png")
    found = {
        Path(item.uri or "").name: item
        for item in open_data_set(str(folder), data_root=folder)
        if isinstance(item, Record)
    }
    assert found["really.png"].mime_type == "image/jpeg"
    assert found["really.png"].modality == IMAGE
