"""One picture of all results: each query with what it found, set like the page of a catalogue."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.cli.answers import Answer, captions_of
from crossmodal.cli.present.typesetting import Color, draw_line, draw_tracked, line_width, wrapped
from crossmodal.errors import DataError, ImageError, StoreUnwritable
from crossmodal.match import Match
from crossmodal.records import IMAGE, TEXT

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["MAX_MATCHES", "draw_results", "write_picture"]

MAX_MATCHES = 12

_WIDTH = 1600
_MARGIN = 80
_CONTENT = _WIDTH - 2 * _MARGIN
_SECTION_GAP = 88
_GUTTER = 28
_RADIUS = 10

_PAPER: Color = (250, 249, 246)
_INK: Color = (28, 28, 30)
_SOFT: Color = (108, 106, 102)
_FAINT: Color = (160, 157, 150)
_HAIRLINE: Color = (226, 223, 216)
_MAT: Color = (238, 235, 229)
_ACCENT: Color = (176, 74, 38)

_LABEL, _QUERY, _CAPTION, _BODY, _SCORE = 17, 46, 19, 27, 19
# Wider or narrower photos are cropped to these, so that none is too small to be seen.
_NARROWEST, _WIDEST = 0.68, 1.9
_ROW_HEIGHT = 262
# One photo alone may be larger than one in a row, but not fill the page.
_TALLEST_ROW = 340
_QUERY_PHOTO = (440, 460)
_THUMBNAIL = (112, 84)


# The bytes of an indexed photo, by its id; None where there are none.
ContentOf = Callable[[str], bytes | None]


def write_picture(answers: Sequence[Answer], path: Path, *, content_of: ContentOf) -> None:
    """Writes the picture as a PNG file; raises StoreUnwritable where ``path`` cannot be written."""
    content = draw_results(answers, content_of=content_of)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise StoreUnwritable(
            f"The picture {path} cannot be written: {error.strerror}; choose another with --picture."
        ) from None


def draw_results(answers: Sequence[Answer], *, content_of: ContentOf) -> bytes:
    """The picture as a PNG, 1600 pixels wide; up to 12 matches of each query are shown.

    A photo that cannot be decoded is shown as an empty mount. Raises DataError for no answers at all.
    """
    from PIL import Image

    if not answers:
        raise DataError("There are no results to draw: the list of queries is empty.")
    sections = [
        (_text_section if answer.modality == TEXT else _photo_section)(answer, content_of)
        for answer in answers
    ]
    height = sum(section.height for section in sections) + _SECTION_GAP * (len(sections) - 1) + 2 * _MARGIN
    page = Image.new("RGB", (_WIDTH, height), _PAPER)
    draw = _draw_on(page)
    top = _MARGIN
    for position, section in enumerate(sections):
        if position:
            rule = top - _SECTION_GAP // 2
            draw.line((_MARGIN, rule, _WIDTH - _MARGIN, rule), fill=_HAIRLINE, width=2)
        page.paste(section, (_MARGIN, top))
        top += section.height + _SECTION_GAP
    out = io.BytesIO()
    page.save(out, "PNG", optimize=True)
    return out.getvalue()


def _text_section(answer: Answer, content_of: ContentOf) -> Image:
    """The sentence in large type above its photos in rows."""
    matches = answer.matches[:MAX_MATCHES]
    lines = wrapped(f"“{answer.question.asked}”", _QUERY, _CONTENT * 0.86, 3)
    if not lines[-1].endswith("”"):
        lines[-1] += "”"
    heading = _LABEL + 26 + len(lines) * round(_QUERY * 1.24) + 26
    photos = [_photo(match, content_of) for match in matches]
    rows = _rows([_aspect(photo) for photo in photos])
    laid_out = [_row(row, photos, matches) for row in rows]
    height = heading + sum(row.height for row in laid_out) + 34 * max(0, len(laid_out) - 1)
    section = _blank(height if matches and not answer.error else heading + 40)
    draw = _draw_on(section)
    _label(draw, "Sentence", _counted(len(matches), "photo"))
    baseline = _LABEL + 26 + round(_QUERY * 0.92)
    for line in lines:
        draw_line(draw, -2, baseline, line, _QUERY, _INK)
        baseline += round(_QUERY * 1.24)
    if answer.error or not matches:
        _notice(draw, 0, heading + 22, answer.error, _CONTENT)
        return section
    top = heading
    for row in laid_out:
        section.paste(row, (0, top))
        top += row.height + 34
    return section


def _photo_section(answer: Answer, content_of: ContentOf) -> Image:
    """The photo at the left, its captions in ranked lines at the right."""
    matches = answer.matches[:MAX_MATCHES]
    asked = _decoded(answer.question.image)
    width, height = _QUERY_PHOTO
    aspect = min(max(_aspect(asked), _NARROWEST), _WIDEST)
    size = (width, round(width / aspect)) if width / aspect <= height else (round(height * aspect), height)
    left = width + 64
    room = _CONTENT - left - 64 - _THUMBNAIL[0] - 28 - 90
    texts = [wrapped(_caption(match), _BODY, room, 2) for match in matches]
    line_height = round(_BODY * 1.3)
    heights = [max(_THUMBNAIL[1], len(lines) * line_height) + 26 for lines in texts]
    top = _LABEL + 26
    if answer.error or not matches:
        heights = []
    section = _blank(top + max(size[1], sum(heights) - 13 if heights else 40))
    draw = _draw_on(section)
    _label(draw, "Photo", _counted(len(matches), "caption"))
    _mount(section, asked, (0, top), size)
    if answer.error or not matches:
        _notice(draw, left, top + 30, answer.error, _CONTENT - left)
        return section
    for rank, (match, lines, row) in enumerate(zip(matches, texts, heights, strict=True), 1):
        if rank > 1:
            draw.line((left, top - 13, _CONTENT, top - 13), fill=_HAIRLINE, width=1)
        middle = top + (row - 26) / 2
        draw_line(
            draw,
            left + 34,
            middle + _BODY * 0.35,
            str(rank),
            _BODY,
            _ACCENT if rank == 1 else _FAINT,
            anchor="rs",
        )
        baseline = middle - (len(lines) - 1) * line_height / 2 + _BODY * 0.35
        for line in lines:
            draw_line(draw, left + 64, baseline, line, _BODY, _INK)
            baseline += line_height
        score_right = _CONTENT - _THUMBNAIL[0] - 28
        draw_line(draw, score_right, middle + _SCORE * 0.36, _score(match), _SCORE, _SOFT, anchor="rs")
        _mount(
            section,
            _photo(match, content_of),
            (_CONTENT - _THUMBNAIL[0], round(middle - _THUMBNAIL[1] / 2)),
            _THUMBNAIL,
        )
        top += row
    return section


def _rows(aspects: Sequence[float]) -> list[list[tuple[int, float]]]:
    """Positions and shown aspects of the photos of each row: as many rows as keep them near one height."""
    shown = [min(max(aspect, _NARROWEST), _WIDEST) for aspect in aspects]
    if not shown:
        return []
    count = max(1, round(sum(shown) * _ROW_HEIGHT / _CONTENT))
    target = sum(shown) / count
    rows: list[list[tuple[int, float]]] = [[]]
    filled = 0.0
    for position, aspect in enumerate(shown):
        # A photo opens the next row once more than half of it would stand beyond this one.
        if rows[-1] and len(rows) < count and filled + aspect / 2 > target * len(rows):
            rows.append([])
        rows[-1].append((position, aspect))
        filled += aspect
    return rows


def _row(row: list[tuple[int, float]], photos: Sequence[Image | None], matches: Sequence[Match]) -> Image:
    """One row of photos of equal height, each above its rank, score and caption."""
    gutters = _GUTTER * (len(row) - 1)
    height = min(_TALLEST_ROW, (_CONTENT - gutters) / sum(aspect for _, aspect in row))
    widths = [round(height * aspect) for _, aspect in row]
    height = round(height)
    spill = sum(widths) + gutters - _CONTENT
    if spill > 0:
        widths[-1] -= spill
    texts = [
        wrapped(_caption(matches[position]), _CAPTION, width, 3)
        for (position, _), width in zip(row, widths, strict=True)
    ]
    line_height = round(_CAPTION * 1.36)
    below = 38 + max(len(lines) for lines in texts) * line_height + 4
    canvas = _blank(height + below)
    draw = _draw_on(canvas)
    x = 0
    for (position, _), width, lines in zip(row, widths, texts, strict=True):
        _mount(canvas, photos[position], (x, 0), (width, height))
        baseline = height + 30
        rank = str(position + 1)
        draw_line(draw, x, baseline, rank, _CAPTION, _ACCENT if position == 0 else _INK)
        score_x = x + line_width(rank, _CAPTION) + 12
        draw_line(draw, score_x, baseline, _score(matches[position]), _CAPTION, _FAINT)
        for line in lines:
            baseline += line_height
            draw_line(draw, x, baseline, line, _CAPTION, _SOFT)
        x += width + _GUTTER
    return canvas


def _label(draw: ImageDraw, kind: str, found: str) -> None:
    draw_tracked(draw, 0, _LABEL, kind, _LABEL, _ACCENT)
    draw_line(draw, _CONTENT, _LABEL, found, _LABEL + 1, _FAINT, anchor="rs")


def _notice(draw: ImageDraw, x: int, baseline: int, error: str | None, width: int) -> None:
    for line in wrapped(error or "Nothing was found.", _BODY, width, 3):
        draw_line(draw, x, baseline, line, _BODY, _ACCENT if error else _SOFT)
        baseline += round(_BODY * 1.3)


def _mount(canvas: Image, photo: Image | None, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """Pastes a photo with rounded corners, cropped around its middle to ``size``."""
    from PIL import Image, ImageDraw, ImageOps

    # Drawn four times as large and reduced, because Pillow's own corners have steps.
    mask = Image.new("L", (size[0] * 4, size[1] * 4), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, *(side - 1 for side in mask.size)), _RADIUS * 4, fill=255)
    mask = mask.resize(size, Image.Resampling.LANCZOS)
    if photo is None:
        shown = Image.new("RGB", size, _MAT)
    else:
        shown = ImageOps.fit(photo, size, Image.Resampling.LANCZOS)
    canvas.paste(shown, corner, mask)


def _photo(match: Match, content_of: ContentOf) -> Image | None:
    """The photo that was found, or the one that a caption describes."""
    photo_id = match.id if match.modality == IMAGE else match.photo_id
    return _decoded(content_of(photo_id) if photo_id else None)


def _caption(match: Match) -> str:
    return next(iter(captions_of(match)), "") if match.modality == IMAGE else match.text or ""


def _score(match: Match) -> str:
    """The calibrated score, or the cosine where the model has no calibration."""
    return f"{match.cosine:.3f}" if match.score is None else f"{match.score:.0%}"


def _decoded(content: bytes | None) -> Image | None:
    from PIL import Image

    from crossmodal.images import decode_image

    if content is None:
        return None
    try:
        return Image.fromarray(decode_image(content))
    except ImageError:
        return None


def _aspect(photo: Image | None) -> float:
    return 4 / 3 if photo is None else photo.width / photo.height


def _blank(height: int) -> Image:
    from PIL import Image

    return Image.new("RGB", (_CONTENT, height), _PAPER)


def _draw_on(image: Image) -> ImageDraw:
    from PIL import ImageDraw

    return ImageDraw.Draw(image)


def _counted(number: int, noun: str) -> str:
    return "" if not number else "best match" if number == 1 else f"best {number} {noun}s"
