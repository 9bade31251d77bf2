"""Invariants of the stream: nothing lost, nothing invented, stable ids, and memory that does not grow."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossmodal.data_sets import json_stream, open_data_set
from crossmodal.data_sets.json_stream import array_elements, top_level_keys
from crossmodal.data_sets.values import cell_number
from crossmodal.records import IMAGE, TEXT, Failure, Record

TOY_IMAGES = Path(__file__).resolve().parents[1] / "data" / "toy-data" / "images"
PHOTOS = ("cat.jpg", "coffee.jpg", "rocket.jpg")

# Any text that a caption can hold; control characters apart from line ends would not come from an editor.
captions = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], include_characters="\n"), max_size=40
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in PHOTOS:
        shutil.copy(TOY_IMAGES / name, folder)
    return folder


def written(folder: Path, suffix: str, content: str) -> Path:
    with tempfile.NamedTemporaryFile(
        "w", suffix=suffix, dir=folder, delete=False, encoding="utf-8", newline=""
    ) as file:
        file.write(content)
    return Path(file.name)


def without_origin(items: Iterable[Record | Failure]) -> list[Record]:
    """The records, whichever table they come from."""
    return [replace(item, origin=None) for item in items if isinstance(item, Record)]


@given(rows=st.lists(st.tuples(st.sampled_from((*PHOTOS, "gone.jpg")), captions), min_size=1, max_size=12))
def test_every_row_becomes_a_caption_or_a_failure(photos: Path, rows: list[tuple[str, str]]) -> None:
    """CSV and JSONL of the same rows give the same stream, and each row is accounted for."""
    table = written(photos, ".csv", "")
    with open(table, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    lines = written(photos, ".jsonl", "".join(json.dumps({"image": i, "caption": c}) + "\n" for i, c in rows))
    try:
        items = list(open_data_set(str(table), data_root=photos))
        assert without_origin(open_data_set(str(lines), data_root=photos)) == without_origin(items)
    finally:
        table.unlink()
        lines.unlink()
    photo_of = {
        item.id: Path(item.uri or "").name for item in items if isinstance(item, Record) and not item.text
    }
    said = [
        (photo_of[r.photo_id or ""], r.text) for r in items if isinstance(r, Record) and r.modality == TEXT
    ]
    assert said == [
        (photo, normalize("NFC", text.strip()))
        for photo, text in rows
        if photo != "gone.jpg" and text.strip()
    ]
    assert sorted(photo_of.values()) == sorted({photo for photo, _ in rows} - {"gone.jpg"})
    assert not [item for item in items if isinstance(item, Failure) and "gone.jpg" not in item.reason]
    assert any(isinstance(item, Failure) and "gone.jpg" in item.reason for item in items) == (
        "gone.jpg" in dict(rows)
    )
    # What has one id is one thing: the same caption of the same photo, again.
    things = {(item.id, item.photo_id, item.text) for item in items if isinstance(item, Record)}
    assert len({id for id, _, _ in things}) == len(things)


@given(
    content=st.dictionaries(st.text(max_size=4), json_values | st.lists(json_values, max_size=6), max_size=5)
)
@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_object_is_read_in_pieces_as_it_is_read_whole(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any], indent: int | None
) -> None:
    path = written(tmp_path_factory.getbasetemp(), ".json", json.dumps(content, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK_CHARACTERS", 3)
        assert top_level_keys(path) == list(content)
        for key, value in content.items():
            assert list(array_elements(path, key)) == (value if isinstance(value, list) else [])
    path.unlink()


@given(number=st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_that_is_written_is_read_again(number: float) -> None:
    exact = isinstance(number, float) or abs(number) <= 2**53
    assert cell_number(str(number)) == (number if exact else None)


@given(cell=st.from_regex(r"\A[-+0-9.e ]{0,12}\Z"))
def test_a_cell_is_the_number_that_python_reads_or_none(cell: str) -> None:
    number = cell_number(cell)
    assert number is None or number == float(cell)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_captions(photos: Path) -> None:
    """15,000 captions of three photos are 2 MB of text; the stream holds one photo and one row at a time."""
    caption = "A caption that goes on . " * 6
    table = written(
        photos, ".csv", "image,caption\n" + "".join(f"{PHOTOS[n % 3]},{caption}{n}\n" for n in range(15_000))
    )
    data_set = open_data_set(str(table), data_root=photos)
    items = iter(data_set)
    assert sum(1 for _ in islice(items, 1_000)) == 1_000
    tracemalloc.start()
    modalities = Counter(item.modality for item in items if isinstance(item, Record))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    table.unlink()
    assert modalities == {TEXT: 15_003 - 1_000}
    assert peak < 1_000_000


def test_memory_holds_one_photo_at_a_time(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.jpg").write_bytes((TOY_IMAGES / "raccoon.jpg").read_bytes() + bytes([number]))
    size = (tmp_path / "0.jpg").stat().st_size
    data_set = open_data_set(str(tmp_path), data_root=tmp_path)
    # Once before, for what is loaded at the first use (the table of mime types).
    assert sum(1 for _ in data_set) == 40
    tracemalloc.start()
    photos = sum(item.modality == IMAGE for item in data_set if isinstance(item, Record))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert photos == 40
    assert peak < 4 * size


def test_a_huge_file_named_like_a_photo_is_never_read(tmp_path: Path) -> None:
    with open(tmp_path / "film.jpg", "wb") as file:
        file.truncate(8 << 30)
    (failure,) = open_data_set(str(tmp_path), data_root=tmp_path)
    assert failure == Failure(
        f"{tmp_path}/film.jpg",
        f"{tmp_path}/film.jpg has 8,589,934,592 bytes, and the limit for a photo is 67,108,864; "
        "allow more with --max-photo-bytes",
    )


def test_iterating_again_reads_again(photos: Path) -> None:
    data_set = open_data_set(str(photos), data_root=photos)
    assert list(data_set) == list(data_set)
    assert len(data_set.notes) == len(set(data_set.notes))
