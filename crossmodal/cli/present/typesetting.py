"""Words in a picture: fonts that need no installation, line breaking, and what a font lacks."""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import TYPE_CHECKING

from crossmodal.cli.present.wording import printable

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

__all__ = ["Color", "draw_line", "draw_tracked", "line_width", "wrapped"]

Color = tuple[int, int, int]

# Pillow carries Aileron with little more than ASCII. These are looked for, where they happen to be
# installed, for what it lacks.
_WIDER_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "Helvetica.ttc",
    "arial.ttf",
)
_SPACE_BEFORE_MARK = re.compile(r" ([.,;:!?])(?=\s|$)")
# A code point that is assigned to nothing gets the font's sign for "no such character".
_UNASSIGNED = "\u0378"


def draw_line(
    draw: ImageDraw, x: float, baseline: float, text: str, size: int, color: Color, *, anchor: str = "ls"
) -> None:
    """One line of text standing on ``baseline``; ``anchor`` is Pillow's, ``rs`` for flush right."""
    font, shown = _set_in(text, size)
    draw.text((x, baseline), shown, font=font, fill=color, anchor=anchor)


def draw_tracked(draw: ImageDraw, x: float, baseline: float, text: str, size: int, color: Color) -> None:
    """A short label in capitals, spaced as capitals need it."""
    for character in text.upper():
        draw_line(draw, x, baseline, character, size, color)
        x += line_width(character, size) + size * 0.12


def line_width(text: str, size: int) -> float:
    """The width of a line in pixels."""
    font, shown = _set_in(text, size)
    return font.getlength(shown)


def wrapped(text: str, size: int, width: float, lines: int) -> list[str]:
    """``text`` broken into at most ``lines`` lines of ``width`` pixels; a text cut short ends in an ellipsis.

    Lines break between words, and inside a word only where it alone is too long.
    """
    found: list[str] = []
    # Captions of the common data sets are written in tokens: "A dog , on a beach ."
    rest = _SPACE_BEFORE_MARK.sub(r"\1", printable(text))
    while rest and len(found) < lines:
        taken = _fitting(rest, size, width)
        found.append(rest[:taken].rstrip())
        rest = rest[taken:].lstrip()
    if rest:
        last = found[-1]
        while last and line_width(last + "…", size) > width:
            last = last[:-1].rstrip()
        found[-1] = last + "…"
    return found


def _fitting(text: str, size: int, width: float) -> int:
    """How many characters of ``text`` the first line takes, at least one."""
    if line_width(text, size) <= width:
        return len(text)
    low, high = 1, len(text)
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if line_width(text[:middle], size) <= width else (low, middle)
    space = text.rfind(" ", 0, low + 1)
    return space if space > 0 else low


def _set_in(text: str, size: int) -> tuple[FreeTypeFont, str]:
    """A font for ``text``, and the text as that font can show it."""
    lacking = _lacking(None, text)
    if not lacking:
        return _own_font(size), text
    # The first of those that lack least; a font of every script in the world is seldom at hand.
    name = min(_WIDER_FONTS, key=lambda name: len(_lacking(name, text)))
    wider = _wider_font(name, size)
    if wider is not None and len(_lacking(name, text)) < len(lacking):
        return wider, text
    # "cafe" reads better than a box for its last letter.
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return _own_font(size), bare


def _lacking(name: str | None, text: str) -> set[str]:
    return {character for character in text if not _has(name, character)}


@functools.lru_cache(maxsize=64)
def _own_font(size: int) -> FreeTypeFont:
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    # Only a Pillow that was built without FreeType gives the old bitmap font; its wheels all have it.
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("this Pillow has no FreeType; install one of its official wheels")
    return font


@functools.lru_cache(maxsize=64)
def _wider_font(name: str, size: int) -> FreeTypeFont | None:
    from PIL import ImageFont

    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@functools.lru_cache(maxsize=4096)
def _has(name: str | None, character: str) -> bool:
    """Whether the font ``name`` (None for Pillow's own) has a glyph for ``character``."""
    if character.isspace():
        return True
    font = _own_font(24) if name is None else _wider_font(name, 24)
    if font is None:
        return False
    missing, glyph = font.getmask(_UNASSIGNED), font.getmask(character)
    return (glyph.size, bytes(glyph)) != (missing.size, bytes(missing))
