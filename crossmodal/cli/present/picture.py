"""One picture of all results: a contact sheet for each query, with ranks, scores and captions."""

from __future__ import annotations

import functools
import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.cli.present.console import counted, printable
from crossmodal.cli.questions import Answer, captions_of
from crossmodal.errors import DataError, ImageError, StoreUnwritable
from crossmodal.match import Match
from crossmodal.records import TEXT

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

__all__ = ["MAX_MATCHES", "draw_results", "text_width", "wrapped", "write_picture"]

MAX_MATCHES = 12

_WIDTH, _MARGIN, _SECTION_GAP = 1600, 80, 88
_CONTENT = _WIDTH - 2 * _MARGIN
_COLUMNS, _GUTTER = 4, 28
_PHOTO, _QUERY_PHOTO, _THUMBNAIL = (339, 254), (440, 440), (112, 84)

_PAPER, _MAT, _RULE = "#faf9f6", "#eeebe5", "#e2dfd8"
_INK, _SOFT, _ACCENT = "#1c1c1e", "#6c6a66", "#b04a26"

# Sizes of type, and the height of a line in each.
_QUERY, _CAPTION, _TEXT = 46, 27, 19
_QUERY_LINE, _CAPTION_LINE, _TEXT_LINE = 57, 35, 26
# Where a section begins below its title.
_TOP = 44

# Pillow carries Aileron with little more than ASCII. Where these are installed, they show what it lacks.
_WIDER_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "Helvetica.ttc",
    "arial.ttf",
)
_SPACE_BEFORE_MARK = re.compile(r" ([.,;:!?])(?=\s|$)")
# A code point that is assigned to nothing has the font's glyph for missing characters.
_UNASSIGNED = "\u0378"

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

    A photo that cannot be decoded leaves its place empty. Raises DataError for no answers at all.
    """
    from PIL import Image

    if not answers:
        raise DataError("There are no results to draw: the list of queries is empty.")
    sections = [_section(answer, content_of) for answer in answers]
    height = sum(section.height for section in sections) + _SECTION_GAP * (len(sections) - 1) + 2 * _MARGIN
    page = Image.new("RGB", (_WIDTH, height), _PAPER)
    top = _MARGIN
    for section in sections:
        if top > _MARGIN:
            page.paste(
                _RULE, (_MARGIN, top - _SECTION_GAP // 2, _WIDTH - _MARGIN, top - _SECTION_GAP // 2 + 2)
            )
        page.paste(section, (_MARGIN, top))
        top += section.height + _SECTION_GAP
    out = io.BytesIO()
    page.save(out, "PNG", optimize=True)
    return out.getvalue()


def _section(answer: Answer, content_of: ContentOf) -> Image:
    """One query with its matches: a sentence above photos in rows, or a photo beside lines of captions."""
    from PIL import Image

    matches = [] if answer.error else answer.matches[:MAX_MATCHES]
    if answer.modality == TEXT:
        title, noun, heading = "Sentence", "photo", wrapped(f"“{answer.question.asked}”", _QUERY, 1240, 3)
        left, top = 0, _TOP + len(heading) * _QUERY_LINE + 26
        draw_matches, row_height = _draw_photos, _PHOTO[1] + 34 + 4 * _TEXT_LINE
        height = top + max(-(-len(matches) // _COLUMNS) * row_height, 3 * _TEXT_LINE)
    else:
        title, noun, heading = "Photo", "caption", []
        left, top = _QUERY_PHOTO[0] + 64, _TOP
        draw_matches, row_height = _draw_captions, _THUMBNAIL[1] + 26
        height = top + max(len(matches) * row_height, _QUERY_PHOTO[1])
    section = Image.new("RGB", (_CONTENT, height), _PAPER)
    _write(section, 0, 18, title, _TEXT, _ACCENT)
    found = "best match" if len(matches) == 1 else f"best {counted(len(matches), noun)}" if matches else ""
    _write(section, _CONTENT, 18, found, _TEXT, _SOFT, anchor="rs")
    for number, line in enumerate(heading):
        _write(section, 0, _TOP + 42 + number * _QUERY_LINE, line, _QUERY, _INK)
    if not heading:
        section.paste(_framed(answer.question.image, _QUERY_PHOTO), (0, top))
    if matches:
        draw_matches(section, (left, top), row_height, matches, content_of)
    else:
        notice = wrapped(answer.error or "Nothing was found.", _CAPTION, _CONTENT - left, 3)
        for number, line in enumerate(notice):
            baseline = top + _CAPTION + number * _CAPTION_LINE
            _write(section, left, baseline, line, _CAPTION, _ACCENT if answer.error else _SOFT)
    return section


def _draw_photos(
    section: Image, corner: tuple[int, int], row_height: int, matches: Sequence[Match], content_of: ContentOf
) -> None:
    """Photos in rows, each above its rank, its score and its caption."""
    for place, match in enumerate(matches):
        x = corner[0] + place % _COLUMNS * (_PHOTO[0] + _GUTTER)
        y = corner[1] + place // _COLUMNS * row_height
        section.paste(_framed(content_of(match.id), _PHOTO), (x, y))
        baseline = y + _PHOTO[1] + 30
        _write(section, x, baseline, str(place + 1), _TEXT, _INK if place else _ACCENT)
        _write(section, x + _PHOTO[0], baseline, _score(match), _TEXT, _SOFT, anchor="rs")
        caption = next(iter(captions_of(match)), "")
        for number, line in enumerate(wrapped(caption, _TEXT, _PHOTO[0], 3), 1):
            _write(section, x, baseline + number * _TEXT_LINE, line, _TEXT, _SOFT)


def _draw_captions(
    section: Image, corner: tuple[int, int], row_height: int, matches: Sequence[Match], content_of: ContentOf
) -> None:
    """Captions below each other, each between its rank and the photo that it describes."""
    x, right = corner[0], _CONTENT - _THUMBNAIL[0]
    for place, match in enumerate(matches):
        y = corner[1] + place * row_height
        if place:
            section.paste(_RULE, (x, y - 13, _CONTENT, y - 12))
        lines = wrapped(match.text or "", _CAPTION, right - x - 210, 2)
        middle = y + _THUMBNAIL[1] // 2 + 9
        _write(section, x + 34, middle, str(place + 1), _CAPTION, _SOFT if place else _ACCENT, anchor="rs")
        for number, line in enumerate(lines):
            baseline = middle + number * _CAPTION_LINE - (len(lines) - 1) * _CAPTION_LINE // 2
            _write(section, x + 64, baseline, line, _CAPTION, _INK)
        _write(section, right - 28, middle - 2, _score(match), _TEXT, _SOFT, anchor="rs")
        content = content_of(match.photo_id) if match.photo_id else None
        section.paste(_framed(content, _THUMBNAIL), (right, y))


def _framed(content: bytes | None, size: tuple[int, int]) -> Image:
    """A whole photo in a frame of ``size``; an empty frame where it cannot be decoded."""
    from PIL import Image, ImageOps

    from crossmodal.images import decode_image

    try:
        photo = Image.fromarray(decode_image(content or b""))
        return ImageOps.pad(photo, size, Image.Resampling.LANCZOS, color=_MAT)
    except ImageError:
        return Image.new("RGB", size, _MAT)


def _score(match: Match) -> str:
    """The calibrated score, or the cosine where the model has no calibration."""
    return f"{match.cosine:.3f}" if match.score is None else f"{match.score:.0%}"


def wrapped(text: str, size: int, width: float, lines: int) -> list[str]:
    """``text`` broken into at most ``lines`` lines of ``width`` pixels; a text cut short ends in an ellipsis.

    Lines break between words, and inside a word only where it alone is too long.
    """
    # Captions of the common data sets are written in tokens: "A dog , on a beach ."
    words = re.findall(r"\S+ ?", _SPACE_BEFORE_MARK.sub(r"\1", printable(text)))
    found: list[str] = []
    for word in words:
        for piece in [word] if text_width(word.rstrip(), size) <= width else word:
            if found and text_width((found[-1] + piece).rstrip(), size) <= width:
                found[-1] += piece
            else:
                found.append(piece)
        # One line more says that the text has to be cut.
        if len(found) > lines:
            last = found[lines - 1].rstrip()
            while last and text_width(last + "…", size) > width:
                last = last[:-1].rstrip()
            found[lines - 1 :] = [last + "…"]
            break
    return [line.rstrip() for line in found]


def text_width(text: str, size: int) -> float:
    """The width of a line in pixels."""
    font, shown = _font_for(text, size)
    return font.getlength(shown)


def _write(
    section: Image, x: float, baseline: float, text: str, size: int, color: str, *, anchor: str = "ls"
) -> None:
    """One line of text on ``baseline``; ``anchor`` is Pillow's, ``rs`` for flush right."""
    from PIL import ImageDraw

    font, shown = _font_for(text, size)
    ImageDraw.Draw(section).text((x, baseline), shown, font=font, fill=color, anchor=anchor)


def _font_for(text: str, size: int) -> tuple[FreeTypeFont, str]:
    """The font that lacks the fewest characters of ``text``, and the text as that font can show it."""
    fonts = [None, *_WIDER_FONTS]
    name = min(fonts, key=lambda name: sum(not _has(name, character) for character in set(text)))
    font = _font(name, size)
    assert font is not None
    if all(_has(name, character) for character in text):
        return font, text
    # "cafe" reads better than a box for its last letter.
    return font, "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


@functools.lru_cache(maxsize=64)
def _font(name: str | None, size: int) -> FreeTypeFont | None:
    """The font ``name``, Pillow's own for None; None where it is not installed."""
    from PIL import ImageFont

    if name is None:
        font = ImageFont.load_default(size)
        # Only a Pillow that was built without FreeType gives the old bitmap font; its wheels all have it.
        if not isinstance(font, ImageFont.FreeTypeFont):
            raise TypeError("this Pillow has no FreeType; install one of its official wheels")
        return font
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@functools.lru_cache(maxsize=4096)
def _has(name: str | None, character: str) -> bool:
    """Whether the font ``name`` is installed and has a glyph for ``character``."""
    font = _font(name, 24)
    if font is None or character.isspace():
        return font is not None
    missing, glyph = font.getmask(_UNASSIGNED), font.getmask(character)
    return (glyph.size, bytes(glyph)) != (missing.size, bytes(missing))
