"""What one source says of a photo, cleaned: text, lists of text, numbers and places."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from crossmodal.limits import SENTENCE
from crossmodal.metadata.fields import LATITUDE, LONGITUDE

__all__ = ["MAX_LISTED", "Found", "coordinates", "rounded", "text_of"]

# Keywords and people of one photo; more is no list that a person made.
MAX_LISTED = 256

_MAX_TEXT = SENTENCE.most
_MAX_WORDS = 200
_SPACE = re.compile(r"\s+")
# Line ends and tabs are made spaces before.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Found(dict[str, Any]):
    """The values that one source has, by the name of the tag."""

    def say(self, name: str, value: Any) -> None:
        """Keep ``value`` where it says something and no other is kept; of a list its distinct elements."""
        if isinstance(value, list):
            value = list(dict.fromkeys(element for element in value if element))[:MAX_LISTED]
        if value is not None and value != "" and value != [] and name not in self:
            self[name] = value

    def place(self, place: tuple[float, float] | None) -> None:
        """Keep the latitude and the longitude, where no place is kept."""
        if place is not None and LATITUDE not in self:
            self[LATITUDE], self[LONGITUDE] = place


def text_of(value: Any) -> str | None:
    """``value`` where it is text that says something: in NFC, in one line, cut to the length of a caption."""
    if not isinstance(value, str):
        return None
    # A character may become several in NFC, but never so many.
    text = _CONTROL.sub("", _SPACE.sub(" ", value[: 4 * _MAX_TEXT]))
    return unicodedata.normalize("NFC", text).strip()[:_MAX_TEXT].rstrip() or None


def texts_of(values: Iterable[Any]) -> list[str]:
    """Those of ``values`` that say something, as ``text_of`` makes them, cut to 200 characters."""
    return [text[:_MAX_WORDS] for value in values if (text := text_of(value))]


def coordinates(latitude: Any, longitude: Any) -> tuple[float, float] | None:
    """Degrees that are on the globe, to 7 decimals (a centimetre); None for others and for 0, 0.

    The point 0, 0 is what cameras and programs write that know of no place.
    """
    for value in (latitude, longitude):
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            return None
    if abs(latitude) > 90 or abs(longitude) > 180 or latitude == longitude == 0:
        return None
    return round(float(latitude), 7), round(float(longitude), 7)


def rounded(value: Any, digits: int = 6) -> float | int | None:
    """A positive number with so many significant digits, whole where it is; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    if not math.isfinite(number) or number <= 0:
        return None
    number = float(f"{number:.{digits}g}")
    return int(number) if number.is_integer() and number < 2**53 else number
