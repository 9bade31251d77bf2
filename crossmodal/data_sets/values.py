"""What JSON and CSV cells become as values of tags, and which of them mean the same split."""

from __future__ import annotations

import math
import re
from typing import Any

__all__ = ["cell_number", "has_lone_surrogate", "json_kind", "json_value", "printable", "same_split"]

_DEV = frozenset({"dev", "val", "validation", "valid"})

# Integers up to this survive every JSON reader, including those that hold numbers as float64.
_LARGEST_EXACT_INTEGER = 2**53

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]")
_NUMBER = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 40


def cell_number(cell: str) -> int | float | None:
    """The number that a CSV cell writes: ``12``, ``-4.50``, ``.5``, ``1e3``; None where it writes none.

    Digits behind a leading zero (``007``) are an id and no number, and so are whole numbers beyond 2**53,
    which would lose digits. Spaces around it don't count.
    """
    text = cell.strip()
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return None
    if text.lstrip("-").isdigit():
        whole = int(text)
        return whole if abs(whole) <= _LARGEST_EXACT_INTEGER else None
    number = float(text)
    return number if math.isfinite(number) else None


def json_value(value: Any) -> Any:
    """A value from JSON as a tag: unchanged, but integers beyond 2**53 become text, digit for digit."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST_EXACT_INTEGER:
        return str(value)
    if isinstance(value, list):
        return [json_value(element) for element in value]
    if isinstance(value, dict):
        return {key: json_value(element) for key, element in value.items()}
    return value


def json_kind(value: Any) -> str:
    """What kind of JSON value this is, in words for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the value {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}" if math.isfinite(value) else "not a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def printable(text: str) -> str:
    """``text`` on one line: control characters and bytes that were not UTF-8 are written as ``\\x0a``."""
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", readable)


def has_lone_surrogate(value: Any) -> bool:
    """Whether any text in a JSON value holds half a surrogate pair, which no UTF-8 can express."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return True
        return False
    if isinstance(value, list):
        return any(has_lone_surrogate(element) for element in value)
    if isinstance(value, dict):
        return any(has_lone_surrogate(key) or has_lone_surrogate(element) for key, element in value.items())
    return False


def same_split(name: Any, wanted: str) -> bool:
    """Whether two names mean the same split; dev, val and validation do, and letter case doesn't matter."""
    if not isinstance(name, str):
        return False
    left, right = name.strip().lower(), wanted.strip().lower()
    return left == right or (left in _DEV and right in _DEV)
