"""The picture of the results: the photos are really on it, in order, whole and at their place."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from crossmodal.cli.present.picture import (
    MAX_MATCHES,
    draw_results,
    text_width,
    wrapped,
    write_picture,
)
from crossmodal.cli.questions import Answer, Question
from crossmodal.errors import DataError, StoreUnwritable
from crossmodal.match import Match
from crossmodal.records import IMAGE, TEXT

IMAGES = Path(__file__).resolve().parents[1] / "data" / "toy-data" / "images"
PAPER = (250, 249, 246)
MAT = (238, 235, 229)
COLORS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (30, 200, 200), (200, 30, 200)]


def photo(color: tuple[int, int, int], size: tuple[int, int] = (400, 300)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "PNG")
    return out.getvalue()


class Page:
    """Answers to draw, with the bytes of the photos in them by id."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.photos: dict[str, bytes] = {}

    def sentence(self, asked: str, *found: tuple[bytes, str], error: str | None = None) -> Page:
        """A sentence that found photos, each with its caption."""
        matches = [
            Match(self._photo(content), IMAGE, 0.5, 0.25, captions=(("c", caption),) if caption else ())
            for content, caption in found
        ]
        self.answers.append(Answer(Question(asked, text=asked), IMAGE, matches, error))
        return self

    def photo(self, asked: bytes, *found: tuple[bytes, str], error: str | None = None) -> Page:
        """A photo that found captions, each with the photo that it describes."""
        matches = [
            Match("c", TEXT, 0.5, 0.25, text=caption, photo_id=self._photo(content))
            for content, caption in found
        ]
        self.answers.append(Answer(Question("x.jpg", image=asked), TEXT, matches, error))
        return self

    def draw(self) -> bytes:
        return draw_results(self.answers, content_of=self.photos.get)

    def _photo(self, content: bytes) -> str:
        id = str(len(self.photos))
        self.photos[id] = content
        return id


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
    found = [(photo(color), f"colour {n}") for n, color in enumerate(COLORS[:4])]
    page = pixels(Page().sentence("four colours", *found).draw())
    boxes = [box(page, color) for color in COLORS[:4]]
    assert page.shape[1] == 1600
    assert [found[0] for found in boxes] == sorted(found[0] for found in boxes)
    assert len({found[1] for found in boxes}) == len({found[3] for found in boxes}) == 1
    assert (boxes[0][0], boxes[-1][2]) == (80, 1519)
    for left, top, right, bottom in boxes:
        assert (right - left + 1) / (bottom - top + 1) == pytest.approx(4 / 3, abs=0.02)


def test_a_real_photo_is_shown_whole() -> None:
    content = (IMAGES / "cat.jpg").read_bytes()
    page = pixels(Page().sentence("a cat", (content, "")).draw())
    with Image.open(io.BytesIO(content)) as cat:
        scale = min(339 / cat.width, 254 / cat.height)
        width, height = round(cat.width * scale), round(cat.height * scale)
        expected = np.asarray(cat.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)).astype(
            int
        )
    differences = [
        np.abs(page[top : top + height, left : left + width].astype(int) - expected).mean()
        for top in range(150, 260)
        for left in range(80, 80 + 339 - width + 1)
    ]
    assert min(differences) < 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, MAX_MATCHES, MAX_MATCHES + 1])
def test_any_number_of_results_fits(count: int) -> None:
    colors = [(20 * n + 5, 99, 7) for n in range(min(count, 12))]
    shapes = [(400, 300), (300, 400), (900, 300), (100, 700)]
    found = [(photo(colors[n] if n < 12 else (1, 2, 3), shapes[n % 4]), "word " * 30) for n in range(count)]
    page = pixels(Page().sentence("many", *found).draw())
    boxes = [box(page, color) for color in colors]
    assert all(left >= 80 and right <= 1519 and bottom - top > 100 for left, top, right, bottom in boxes)
    # Photos of all shapes are centred in frames of one size.
    frames = [((top + bottom) // 20, (left + right) // 20) for left, top, right, bottom in boxes]
    assert frames == sorted(frames)
    assert (page[:, :80] == PAPER).all()
    assert (page[:, 1521:] == PAPER).all()
    assert not (page == np.array((1, 2, 3), np.uint8)).all(axis=2).any()


def test_a_photo_query_stands_left_of_the_photos_of_its_captions() -> None:
    found = [(photo(color), f"A caption of colour {n} .") for n, color in enumerate(COLORS)]
    page = pixels(Page().photo(photo((9, 9, 9), (300, 600)), *found).draw())
    left, _, right, _ = box(page, (9, 9, 9))
    boxes = [box(page, color) for color in COLORS]
    assert (left + right + 1) / 2 == 80 + 440 / 2
    assert all(right < found[0] and found[2] == 1519 for found in boxes)
    tops = [found[1] for found in boxes]
    assert tops == sorted(tops)
    for above, below in itertools.pairwise(boxes):
        assert below[1] > above[3]
    # Between the photo and the thumbnails there is ink: the caption and its score.
    for found in boxes:
        assert (page[found[1] : found[3], right + 40 : found[0] - 10].min(axis=2) < 120).any()


def test_several_queries_stand_below_each_other() -> None:
    both = Page().sentence("one", (photo(COLORS[0]), "")).photo(photo(COLORS[1]), (photo(COLORS[2]), "b"))
    page = pixels(both.draw())
    assert box(page, COLORS[0])[3] < box(page, COLORS[1])[1]


def test_a_photo_that_cannot_be_decoded_leaves_an_empty_frame() -> None:
    page = pixels(Page().sentence("x", (b"no image", "")).draw())
    left, top, right, bottom = box(page, MAT)
    assert (right - left + 1) / (bottom - top + 1) == pytest.approx(4 / 3, abs=0.02)


def test_an_error_and_an_empty_result_are_shown() -> None:
    failed = pixels(Page().photo(b"", error="The file is empty.").draw())
    empty = pixels(Page().sentence("x").draw())
    assert (failed == np.array((176, 74, 38), np.uint8)).all(axis=2).any()
    assert (empty.min(axis=2) < 120).sum() > 100


def test_scores_are_shown_and_cosines_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def noted(draw: object, x: float, baseline: float, text: str, *rest: object, **named: object) -> None:
        written.append(text)

    monkeypatch.setattr("crossmodal.cli.present.picture._write", noted)
    Page().sentence("x", (photo(COLORS[0]), "a caption")).photo(b"", (b"", "another")).draw()
    assert written.count("25%") == 2
    assert {"a caption", "another"} < set(written)
    written.clear()
    draw_results([Answer(Question("x", text="x"), IMAGE, [Match("p", IMAGE, 0.5)])], content_of={}.get)
    assert "0.500" in written


def test_no_queries_at_all() -> None:
    with pytest.raises(DataError, match="no results to draw"):
        Page().draw()


def test_writing_it(tmp_path: Path) -> None:
    page = Page().sentence("x", (photo(COLORS[0]), ""))
    write_picture(page.answers, tmp_path / "x.png", content_of=page.photos.get)
    assert (tmp_path / "x.png").read_bytes() == page.draw()
    with pytest.raises(StoreUnwritable, match=r"cannot be written: No such file.*--picture"):
        write_picture(page.answers, tmp_path / "nowhere" / "x.png", content_of=page.photos.get)


def test_lines_break_between_words_and_fit() -> None:
    text = "A dog , on a beach , runs after a ball . " * 4
    lines = wrapped(text, 20, 300, 3)
    assert len(lines) == 3
    assert all(text_width(line, 20) <= 300 for line in lines)
    assert lines[0].startswith("A dog, on a beach, runs")
    assert lines[-1].endswith("…")
    assert " ".join(wrapped(text, 20, 300, 99)) == "A dog, on a beach, runs after a ball. " * 3 + (
        "A dog, on a beach, runs after a ball."
    )
    assert len("".join(wrapped("x" * 100, 20, 300, 99))) == 100
    assert wrapped("", 20, 300, 3) == []
