"""The picture of the results: the photos are really on it, in order, whole and at their place."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from crossmodal.cli.present.picture import MAX_MATCHES, PictureMatch, PictureQuery, draw_results, write_picture
from crossmodal.cli.present.typesetting import line_width, wrapped
from crossmodal.errors import DataError, StoreUnwritable

IMAGES = Path(__file__).resolve().parents[1] / "data" / "toy-data" / "images"
PAPER = (250, 249, 246)
MAT = (238, 235, 229)
COLORS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (30, 200, 200), (200, 30, 200)]


def photo(color: tuple[int, int, int], size: tuple[int, int] = (400, 300)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "PNG")
    return out.getvalue()


def pixels(content: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def box(page: npt.NDArray[np.uint8], color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what has exactly this colour."""
    rows, columns = np.nonzero((page == np.array(color, np.uint8)).all(axis=2))
    assert len(rows), f"{color} is not on the page"
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_photos_stand_in_reading_order_at_equal_heights_between_the_margins() -> None:
    matches = tuple(
        PictureMatch(0.5 - n / 10, photo(color), f"colour {n}") for n, color in enumerate(COLORS[:4])
    )
    page = pixels(draw_results([PictureQuery("four colours", matches=matches)]))
    boxes = [box(page, color) for color in COLORS[:4]]
    assert page.shape[1] == 1600
    assert [found[0] for found in boxes] == sorted(found[0] for found in boxes)
    assert len({found[1] for found in boxes}) == len({found[3] for found in boxes}) == 1
    assert (boxes[0][0], boxes[-1][2]) == (80, 1519)
    for left, top, right, bottom in boxes:
        assert (right - left + 1) / (bottom - top + 1) == pytest.approx(4 / 3, abs=0.02)


def test_a_real_photo_is_shown_whole() -> None:
    content = (IMAGES / "cat.jpg").read_bytes()
    page = pixels(draw_results([PictureQuery("a cat", matches=(PictureMatch(0.4, content),))]))
    with Image.open(io.BytesIO(content)) as cat:
        height = 340
        width = round(height * cat.width / cat.height)
        expected = np.asarray(cat.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)).astype(
            int
        )
    differences = [
        np.abs(
            page[top + 20 : top + height - 20, 100 : 80 + width - 20].astype(int) - expected[20:-20, 20:-20]
        ).mean()
        for top in range(150, 260)
    ]
    assert min(differences) < 1


@pytest.mark.parametrize("count", range(1, MAX_MATCHES + 4))
def test_any_number_of_results_fits(count: int) -> None:
    colors = [(20 * n + 5, 99, 7) for n in range(min(count, 12))]
    shapes = [(400, 300), (300, 400), (900, 300), (100, 700)]
    matches = tuple(
        PictureMatch(0.1, photo(colors[n] if n < 12 else (1, 2, 3), shapes[n % 4]), "word " * 30)
        for n in range(count)
    )
    page = pixels(draw_results([PictureQuery("many", matches=matches)]))
    boxes = [box(page, color) for color in colors]
    assert all(left >= 80 and right <= 1519 and bottom - top > 100 for left, top, right, bottom in boxes)
    assert [(top, left) for left, top, _, _ in boxes] == sorted((top, left) for left, top, _, _ in boxes)
    assert (page[:, :80] == PAPER).all()
    assert (page[:, 1521:] == PAPER).all()
    assert not (page == np.array((1, 2, 3), np.uint8)).all(axis=2).any()


def test_a_photo_query_stands_left_of_the_photos_of_its_captions() -> None:
    matches = tuple(
        PictureMatch(0.5, photo(color), f"A caption of colour {n} .") for n, color in enumerate(COLORS)
    )
    page = pixels(draw_results([PictureQuery(photo=photo((9, 9, 9), (300, 600)), matches=matches)]))
    left, _, right, _ = box(page, (9, 9, 9))
    boxes = [box(page, color) for color in COLORS]
    assert left == 80
    assert all(right < found[0] and found[2] == 1519 for found in boxes)
    tops = [found[1] for found in boxes]
    assert tops == sorted(tops)
    for above, below in itertools.pairwise(boxes):
        assert below[1] > above[3]
    # Between the photo and the thumbnails there is ink: the caption and its score.
    for found in boxes:
        assert (page[found[1] : found[3], right + 40 : found[0] - 10].min(axis=2) < 120).any()


def test_several_queries_stand_below_each_other() -> None:
    one = PictureQuery("one", matches=(PictureMatch(0.5, photo(COLORS[0])),))
    two = PictureQuery(photo=photo(COLORS[1]), matches=(PictureMatch(0.5, photo(COLORS[2]), "b"),))
    page = pixels(draw_results([one, two]))
    assert box(page, COLORS[0])[3] < box(page, COLORS[1])[1]


def test_a_photo_that_cannot_be_decoded_leaves_an_empty_mount() -> None:
    page = pixels(draw_results([PictureQuery("x", matches=(PictureMatch(0.5, b"no image"),))]))
    left, top, right, bottom = box(page, MAT)
    assert (right - left + 1) / (bottom - top + 1) == pytest.approx(4 / 3, abs=0.02)


def test_an_error_and_an_empty_result_are_told() -> None:
    failed = pixels(draw_results([PictureQuery(photo=b"", error="The file is empty.")]))
    empty = pixels(draw_results([PictureQuery("x")]))
    assert (failed == np.array((176, 74, 38), np.uint8)).all(axis=2).any()
    assert (empty.min(axis=2) < 120).sum() > 100


def test_from_what_a_query_prints_as_json() -> None:
    stored = {"p1": b"one", "p2": b"two"}
    photo_match = {"id": "p1", "modality": "image", "score": 0.5, "tags": {"captions": ["a", "b"]}}
    caption_match = {"id": "c", "modality": "text", "score": 0.25, "text": "c", "photo_id": "p2"}
    text = {"modality": "text", "query": "a dog", "error": None, "matches": [photo_match] * 20}
    image = {"modality": "image", "query": "x.jpg", "error": None, "matches": [caption_match]}
    assert PictureQuery.from_json(text, photo=None, content_of=stored.get) == PictureQuery(
        "a dog", matches=(PictureMatch(0.5, b"one", "a"),) * MAX_MATCHES
    )
    assert PictureQuery.from_json(image, photo=b"x", content_of=stored.get) == PictureQuery(
        photo=b"x", matches=(PictureMatch(0.25, b"two", "c"),)
    )


def test_no_queries_at_all() -> None:
    with pytest.raises(DataError, match="no results to draw"):
        draw_results([])


def test_writing_it(tmp_path: Path) -> None:
    query = PictureQuery("x", matches=(PictureMatch(0.5, photo(COLORS[0])),))
    write_picture([query], tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes() == draw_results([query])
    with pytest.raises(StoreUnwritable, match=r"cannot be written: No such file.*--picture"):
        write_picture([query], tmp_path / "nowhere" / "x.png")


def test_lines_break_between_words_and_fit() -> None:
    text = "A dog , on a beach , runs after a ball . " * 4
    lines = wrapped(text, 20, 300, 3)
    assert len(lines) == 3
    assert all(line_width(line, 20) <= 300 for line in lines)
    assert lines[0].startswith("A dog, on a beach, runs")
    assert lines[-1].endswith("…")
    assert " ".join(wrapped(text, 20, 300, 99)) == "A dog, on a beach, runs after a ball. " * 3 + (
        "A dog, on a beach, runs after a ball."
    )
    assert len("".join(wrapped("x" * 100, 20, 300, 99))) == 100
    assert wrapped("", 20, 300, 3) == []
