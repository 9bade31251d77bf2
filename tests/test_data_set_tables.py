"""CSV and JSONL files: which columns are what, and what becomes of every cell."""

from __future__ import annotations

import base64
import json
import shutil
import socket
from pathlib import Path
from unicodedata import normalize
from urllib.parse import quote

import pytest

from crossmodal.data_sets import open_data_set
from crossmodal.errors import DataSetError
from crossmodal.filters import parse_filter
from crossmodal.records import IMAGE, TEXT, Failure, Record, caption_id, digest_of, photo_id

TOY_IMAGES = Path(__file__).resolve().parents[1] / "data" / "toy-data" / "images"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat.jpg", "coffee.jpg", "rocket.jpg"):
        shutil.copy(TOY_IMAGES / name, tmp_path)
    return tmp_path


def read(path: Path, split: str | None = None) -> list[Record | Failure]:
    return list(open_data_set(str(path), data_root=path.parent, split=split))


def outline(items: list[Record | Failure]) -> list[str]:
    assert not [item for item in items if isinstance(item, Failure)], items
    return [item.text or Path(item.uri or "").name for item in items if isinstance(item, Record)]


def csv_of(folder: Path, content: str | bytes) -> Path:
    path = folder / "photos.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl_of(folder: Path, *rows: object) -> Path:
    path = folder / "photos.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "image", ["image", "IMAGE", "Image Path", "path", "file_name", "filename", "uri", "url"]
)
@pytest.mark.parametrize("caption", ["caption", "Text", "sentence"])
def test_columns_have_many_names(folder: Path, image: str, caption: str) -> None:
    path = csv_of(folder, f"{caption},{image}\nA cat .,cat.jpg\n")
    assert outline(read(path)) == ["cat.jpg", "A cat ."]


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbfimage,caption\r\ncat.jpg,"A cat , caf\xc3\xa9 ."\r\n',
        b"image;caption\ncat.jpg;A cat , caf\xc3\xa9 .\n",
        b"image\tcaption\ncat.jpg\tA cat , caf\xc3\xa9 .\n",
        b"image | caption\ncat.jpg|A cat , caf\xc3\xa9 .",
        b'\n\nimage,caption\r\rcat.jpg,"A cat , caf\xc3\xa9 ."\r',
        b'image,caption\n\n  \n,\ncat.jpg,"A cat , caf\xc3\xa9 ."\n\n',
    ],
    ids=["bom-crlf", "semicolon", "tab", "bar-no-final-newline", "cr", "blank-lines"],
)
def test_csv_comes_in_many_spellings(folder: Path, content: bytes) -> None:
    assert outline(read(csv_of(folder, content))) == ["cat.jpg", "A cat , café ."]


def test_quotation_marks_hold_commas_line_ends_and_quotation_marks(folder: Path) -> None:
    path = csv_of(folder, 'image,caption\ncat.jpg,"A ""cat"" ,\nin two lines"\ncoffee.jpg,A 12" cup\n')
    assert outline(read(path)) == ["cat.jpg", 'A "cat" ,\nin two lines', "coffee.jpg", 'A 12" cup']


def tags_of(table: Path) -> list[dict[str, object]]:
    """The tags of each photo."""
    items = read(table)
    assert not [item for item in items if isinstance(item, Failure)], items
    return [dict(item.tags) for item in items if isinstance(item, Record) and item.modality == IMAGE]


def test_further_columns_become_tags(folder: Path) -> None:
    path = csv_of(
        folder,
        ",image,caption,place,year,price,code,rate,big,note\n"
        "0,cat.jpg,A cat .,home,2019,0.5,007,1.50,12345678901234567890,\n"
        "1,cat.jpg,Again .,town,-3,12.25,1e3,.5,9007199254740992,new\n",
    )
    photo, first, second = read(path)
    assert isinstance(photo, Record)
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert first.tags == {
        "column_1": 0,
        "place": "home",
        "year": 2019,
        "price": 0.5,
        "code": "007",
        "rate": 1.5,
        "big": "12345678901234567890",
    }
    assert photo.tags == first.tags, "a photo has the tags of its first row"
    assert second.tags == {
        "column_1": 1,
        "place": "town",
        "year": -3,
        "price": 12.25,
        "code": "1e3",
        "rate": 0.5,
        "big": "9007199254740992",
        "note": "new",
    }


def test_a_column_is_of_numbers_or_of_text_as_a_whole(folder: Path) -> None:
    """The case of a table whose scores were half numbers and half text."""
    path = csv_of(
        folder,
        "image,caption,camera,code,year,score,ok,when,note\n"
        'cat.jpg,a cat,Canon EOS,007,2019,4.50,true,2023-01-05,"x"\n'
        "coffee.jpg,a cup of coffee,CANON eos,07,2020,1e3,false,2023-11-20,\n"
        "rocket.jpg,a rocket,nikon,7,2021,NaN,TRUE,2024-02-01,Zürich\n",
    )
    cat, coffee, rocket = tags_of(path)
    assert [tags.get("score") for tags in (cat, coffee, rocket)] == [4.5, 1000, None]
    assert [tags["code"] for tags in (cat, coffee, rocket)] == ["007", "07", "7"]
    assert [tags["year"] for tags in (cat, coffee, rocket)] == [2019, 2020, 2021]
    assert (cat["ok"], cat["when"], rocket["note"]) == ("true", "2023-01-05", "Zürich")
    assert "note" not in coffee
    photos = [item for item in read(path) if isinstance(item, Record) and item.modality == IMAGE]
    wanted = parse_filter({"score": {"$gt": 4}})
    assert [wanted.matches(IMAGE, photo.tags) for photo in photos] == [True, True, False]


@pytest.mark.parametrize(
    ("cells", "tags"),
    [
        (("4.50", '"4.5"', "4"), [4.5, 4.5, 4]),
        (("52.5200", "", "-0.10"), [52.52, None, -0.1]),
        ((" 7 ", '" 8"', "9"), [7, 8, 9]),
        (("13.404953999999975", ".5", "1e-3"), [13.404953999999975, 0.5, 0.001]),
        (("nan", "2", "NaN"), [None, 2, None]),
        (("+49 30 1", "03012", "3012"), ["+49 30 1", "03012", "3012"]),
        (("00", "1", "2"), ["00", "1", "2"]),
        (("1", "9007199254740993", "2"), ["1", "9007199254740993", "2"]),
        (("1", "4,5", "2"), ["1", "4,5", "2"]),
        (("1.", "1e999", "0x10"), ["1.", "1e999", "0x10"]),
        (("1", "2", "n/a"), ["1", "2", "n/a"]),
        (("NaN", "", "NaN"), ["NaN", None, "NaN"]),
    ],
)
def test_the_kind_of_a_column(folder: Path, cells: tuple[str, ...], tags: list[object]) -> None:
    names = ("cat.jpg", "coffee.jpg", "rocket.jpg")
    rows = "".join(f"{name};{cell}\n" for name, cell in zip(names, cells, strict=True))
    found = tags_of(csv_of(folder, f"image;x\n{rows}"))
    assert [one.get("x") for one in found] == tags
    assert [type(one.get("x")) for one in found] == [type(tag) for tag in tags]


def test_a_cell_that_makes_a_column_of_numbers_text_is_named(folder: Path) -> None:
    path = csv_of(folder, "image,x,y\ncat.jpg,1,a\ncoffee.jpg,n/a,b\nrocket.jpg,3,4\n")
    data_set = open_data_set(str(path), data_root=folder)
    assert len(list(data_set)) == 3
    assert data_set.notes[1:] == [
        f"{path}: the column x is text, because 1 cell is no number, such as 'n/a' in line 3; the other 2 "
        "are numbers, and compare as text"
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_row_with_an_empty_caption_is_a_photo_without_one(folder: Path, name: str) -> None:
    rows = [("cat.jpg", ""), ("coffee.jpg", "A cup ."), ("coffee.jpg", "  "), ("rocket.jpg", " \t")]
    written = (
        "image,caption\n" + "".join(f'{photo},"{said}"\n' for photo, said in rows)
        if name == "a.csv"
        else "".join(json.dumps({"image": photo, "caption": said}) + "\n" for photo, said in rows)
    )
    (folder / name).write_text(written)
    assert outline(read(folder / name)) == ["cat.jpg", "coffee.jpg", "A cup .", "rocket.jpg"]


WORDS = (
    "image,caption,place\ncat.jpg,Die Katze schläft \u2013 müde…,Zürich\ncoffee.jpg,un café noir,Orléans\n"
)


@pytest.mark.parametrize(
    ("codec", "mark", "label"),
    [
        ("cp1252", b"", "read as Windows-1252, because it isn't UTF-8"),
        ("utf-16-le", b"\xff\xfe", "read as UTF-16"),
        ("utf-16-be", b"\xfe\xff", "read as UTF-16"),
        ("utf-16-le", b"", "read as UTF-16"),
        ("utf-16-be", b"", "read as UTF-16"),
        ("utf-32-le", b"\xff\xfe\0\0", "read as UTF-32"),
        ("utf-8", b"\xef\xbb\xbf", None),
        ("utf-8", b"", None),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_encodings_are_recognised_and_said(
    folder: Path, codec: str, mark: bytes, label: str | None, line_end: str
) -> None:
    path = csv_of(folder, mark + WORDS.replace("\n", line_end).encode(codec))
    data_set = open_data_set(str(path), data_root=folder)
    items = list(data_set)
    said = ["cat.jpg", "Die Katze schläft \u2013 müde…", "coffee.jpg", "un café noir"]
    assert outline(items) == said
    assert [item.tags["place"] for item in items if isinstance(item, Record)][::2] == ["Zürich", "Orléans"]
    notes = [note for note in data_set.notes if "read as" in note]
    assert len(notes) == (label is not None)
    assert label is None or notes[0].startswith(f"{path}: {label}")


def test_latin_1_is_named_where_it_is_that(folder: Path) -> None:
    path = csv_of(folder, "image,caption\ncat.jpg,un café\n".encode("latin-1"))
    data_set = open_data_set(str(path), data_root=folder)
    assert outline(list(data_set)) == ["cat.jpg", "un café"]
    assert "read as Latin-1" in data_set.notes[-1]


def test_bytes_without_a_character_in_windows_1252_lose_no_row(folder: Path) -> None:
    content = b"image,caption\ncat.jpg,caf\xe9 \x81\ncoffee.jpg,\x93cup\x94\n"
    assert outline(read(csv_of(folder, content))) == ["cat.jpg", "café \x81", "coffee.jpg", "“cup”"]


def test_a_few_wrong_bytes_do_not_make_utf_8_something_else(folder: Path) -> None:
    rows = ["coffee.jpg,Ein Kaffee in Zürich", "rocket.jpg,猫在桌子上睡觉", "cat.jpg,Кошка спит"]
    content = "\n".join(["image,caption", *rows]).encode() + b"\ncat.jpg,A caf\xe9 ."
    path = csv_of(folder, content)
    *items, failure = read(path)
    assert outline(items)[1::2] == ["Ein Kaffee in Zürich", "猫在桌子上睡觉", "Кошка спит"]
    assert failure == Failure(f"{path}, line 5", r"the row is not valid UTF-8: A caf\xe9 .")


def test_damaged_utf_16_costs_its_row(folder: Path) -> None:
    whole = WORDS.encode("utf-16-le")
    at = whole.index("ä".encode("utf-16-le"))
    path = csv_of(folder, b"\xff\xfe" + whole[:at] + b"\x00\xd8" + whole[at + 2 :] + b"x")
    failures = [item for item in read(path) if isinstance(item, Failure)]
    assert [failure.source for failure in failures] == [f"{path}, line 2", f"{path}, line 4"]
    assert all("is not valid UTF-16" in failure.reason for failure in failures)
    assert outline([item for item in read(path) if isinstance(item, Record)]) == [
        "coffee.jpg",
        "un café noir",
    ]


def test_captions_of_every_script_are_read(folder: Path) -> None:
    said = [
        "un café noir sur la table",
        "un cafe\u0301 noir sur la table ronde",
        "Straße im Regen",
        "猫在桌子上睡觉",
        "\uff23\uff21\uff26\uff25 sign",
        "Кошка спит на диване",
    ]
    rows = [{"image": "cat.jpg", "text": text} for text in said]
    composed = [normalize("NFC", text) for text in said]
    assert outline(read(jsonl_of(folder, *rows)))[1:] == composed
    table = csv_of(folder, "image,text\n" + "".join(f"cat.jpg,{text}\n" for text in said))
    assert outline(read(table))[1:] == composed


def test_backslashes_stay(folder: Path) -> None:
    said = r'a\b \n "C:\photos\new" \\server'
    quoted = said.replace('"', '""')
    path = csv_of(folder, f'image,caption,place\ncat.jpg,"{quoted}",D:\\x\n')
    photo, caption = read(path)
    assert isinstance(photo, Record)
    assert isinstance(caption, Record)
    assert (caption.text, photo.tags) == (said, {"place": "D:\\x"})


def test_a_path_of_windows_is_found(folder: Path) -> None:
    (folder / "2019").mkdir()
    (folder / "cat.jpg").rename(folder / "2019" / "cat.jpg")
    shutil.copy(folder / "coffee.jpg", folder / "with\\backslash.jpg")
    path = csv_of(folder, "image\n2019\\cat.jpg\nwith\\backslash.jpg\ngone\\x.jpg\n")
    *items, failure = read(path)
    assert [item.uri for item in items if isinstance(item, Record)] == [
        str(folder / "2019" / "cat.jpg"),
        str(folder / "with\\backslash.jpg"),
    ]
    assert isinstance(failure, Failure)
    assert failure.reason == f"{folder}/gone\\x.jpg does not exist"


def test_json_values_stay_what_they_are(folder: Path) -> None:
    tags = {"n": 1, "x": 1.5, "flag": False, "words": ["a", 2], "nested": {"a": [None]}, "zip": "007"}
    items = read(
        jsonl_of(folder, {"image": "cat.jpg", "caption": "A cat .", "id": 2**60, "none": None, **tags})
    )
    for item in items:
        assert isinstance(item, Record)
        assert item.tags == {**tags, "id": str(2**60)}


def test_a_json_caption_may_be_a_list_or_absent(folder: Path) -> None:
    path = jsonl_of(
        folder,
        {"image": "cat.jpg", "captions": ["One .", "Two ."]},
        {"image": "coffee.jpg", "caption": None},
        {"image": "rocket.jpg"},
        {"image": "cat.jpg", "caption": "Three ."},
    )
    items = read(path)
    assert outline(items) == ["cat.jpg", "One .", "Two .", "coffee.jpg", "rocket.jpg", "Three ."]
    cat, last = items[0], items[-1]
    assert isinstance(cat, Record)
    assert isinstance(last, Record)
    assert (last.photo_id, last.id) == (cat.id, caption_id(cat.id, "Three ."))


def test_a_table_without_captions_is_a_list_of_photos(folder: Path) -> None:
    assert outline(read(csv_of(folder, "path\ncat.jpg\nrocket.jpg\n"))) == ["cat.jpg", "rocket.jpg"]


def test_equal_captions_of_a_photo_stay_two(folder: Path) -> None:
    items = read(csv_of(folder, "image,caption\ncat.jpg,A cat .\n./cat.jpg,A cat .\n"))
    assert outline(items) == ["cat.jpg", "A cat .", "A cat ."]
    cat = photo_id(digest_of((folder / "cat.jpg").read_bytes()))
    assert [item.id for item in items if isinstance(item, Record)] == [
        cat,
        caption_id(cat, "A cat ."),
        caption_id(cat, "A cat .", 1),
    ]


def test_a_column_split_selects(folder: Path) -> None:
    path = csv_of(folder, "image,caption,split\ncat.jpg,A cat .,train\ncoffee.jpg,A cup .,val\n")
    assert outline(read(path, split="dev")) == ["coffee.jpg", "A cup ."]
    with pytest.raises(DataSetError, match="its splits are train, val"):
        read(path, split="test")
    with pytest.raises(DataSetError, match="it has no column named split"):
        read(csv_of(folder, "image\ncat.jpg\n"), split="test")


def test_photos_may_be_absolute_paths_paths_upwards_and_file_uris(folder: Path) -> None:
    (folder / "lists").mkdir()
    spaced = shutil.copy(TOY_IMAGES / "grass.jpg", folder / "my lawn #1.jpg")
    path = jsonl_of(
        folder / "lists",
        {"image": str(folder / "cat.jpg")},
        {"image": "../coffee.jpg"},
        {"image": "file://" + quote(str(spaced))},
        {"image": f"file://localhost{folder}/rocket.jpg"},
    )
    assert [item.uri for item in read(path) if isinstance(item, Record)] == [
        str(folder / name) for name in ("cat.jpg", "coffee.jpg", "my lawn #1.jpg", "rocket.jpg")
    ]


@pytest.mark.parametrize("form", ["base64", "percent"])
def test_a_data_uri_is_decoded(folder: Path, form: str) -> None:
    blob = (folder / "cat.jpg").read_bytes()
    payload = f";base64,{base64.b64encode(blob).decode()}" if form == "base64" else "," + quote(blob)
    uri = "data:image/png" + payload
    photo, caption = read(jsonl_of(folder, {"uri": uri, "caption": "A cat ."}))
    assert isinstance(photo, Record)
    assert isinstance(caption, Record)
    assert photo.content == blob
    assert photo.mime_type == "image/jpeg", "by the bytes, not by what the URI claims"
    assert photo.id == photo_id(digest_of(blob))
    assert caption.photo_id == photo.id
    assert photo.uri is not None
    assert photo.uri.startswith("urn:sha256:")
    assert len(photo.uri) == 75


@pytest.mark.parametrize("scheme", ["http", "HTTPS", "ftp", "s3"])
def test_nothing_is_ever_fetched(folder: Path, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"{scheme}://127.0.0.1:{server.getsockname()[1]}/a.jpg"
        path = csv_of(folder, f"image,caption\n{address},A photo .\ncat.jpg,A cat .\n")
        failure, *rest = read(path)
        with pytest.raises(TimeoutError):
            server.accept()
    assert failure == Failure(
        f"{path}, line 2",
        f"{address} is a web address, and nothing is ever fetched: download the photo and give its path",
    )
    assert outline(rest) == ["cat.jpg", "A cat ."]


@pytest.mark.parametrize("rows", [3, 1000])
def test_the_length_is_estimated(folder: Path, rows: int) -> None:
    names = ("cat.jpg", "coffee.jpg", "rocket.jpg")
    lines = "".join(f"{folder}/{name},Caption {n} .\n" for n in range(rows // 2 + 1) for name in names)
    path = csv_of(folder, "image,caption\n" + lines)
    data_set = open_data_set(str(path), data_root=folder)
    length = sum(isinstance(item, Record) for item in data_set)
    hint = data_set.len_hint()
    assert hint is not None
    assert abs(hint - length) <= 0.02 * length
    counts = [item.modality for item in data_set if isinstance(item, Record)]
    assert (counts.count(IMAGE), counts.count(TEXT)) == (3, length - 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "picture,words\nx.jpg,A\n",
            r"first line is 'picture,words', and it must name one of image, ",
        ),
        ("a.jsonl", '{"picture": "x.jpg"}\n', r"it has picture, and needs one of image, "),
        ("a.csv", "", "is empty: its first line must name the columns"),
        ("a.csv", "image,caption\n", "has no row"),
        ("a.jsonl", "\n", "has no JSON object"),
        ("a.csv", "image,caption,caption\n", "more than one column named caption"),
        ("a.csv", "image,caption\n".encode("utf-16"), "has no row"),
        (
            "a.json",
            "[]",
            "is not a JSON object that can be read: at character 0, '{' should stand there, not '",
        ),
        ("a.json", '{"photos": []}', "neither Karpathy's nor COCO's format: its keys are photos"),
        ("a.npz", "PK", "has no known layout"),
    ],
)
def test_a_file_that_is_no_data_set_is_refused(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataSetError, match=message):
        open_data_set(str(tmp_path / name), data_root=tmp_path)
