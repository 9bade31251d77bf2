"""The part of a text that shows why a query found it."""

from __future__ import annotations

from collections.abc import Collection

from crossmodal.index.embedded.tokens import words_of_query, words_of_text

__all__ = ["snippet_of"]

# About a line of a table or two under a thumbnail.
_LONGEST = 160

_BETWEEN_LINES = " · "
_CUT = "…"

# Words of one stem begin alike, and differ in an ending.
_LONGEST_ENDING = 3
_SHORTEST_STEM = 3


def snippet_of(text: str, query: str) -> str:
    """About ``_LONGEST`` characters of ``text``: from the line on that has most words of ``query``."""
    words = set(words_of_query(query))
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    best = max(range(len(lines)), key=lambda number: (_found(lines[number], words), -number))
    shown = _BETWEEN_LINES.join(
        _around(lines[best], words) if n == best else lines[n] for n in range(best, len(lines))
    )
    before = _CUT + " " if best else ""
    if len(shown) <= _LONGEST:
        return before + shown
    return before + shown[:_LONGEST].rsplit(" ", 1)[0] + " " + _CUT


def _around(line: str, words: Collection[str]) -> str:
    """A long line from a little before its first word that is looked for."""
    if len(line) <= _LONGEST:
        return line
    parts = line.split()
    first = next((place for place, part in enumerate(parts) if _found(part, words)), 0)
    start = max(first - 5, 0)
    return (_CUT + " " if start else "") + " ".join(parts[start:])


def _found(line: str, words: Collection[str]) -> int:
    there = set(words_of_text(line))
    return sum(any(_alike(word, other) for other in there) for word in words)


def _alike(one: str, other: str) -> bool:
    if one == other:
        return True
    same = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        same += 1
    return same >= _SHORTEST_STEM and max(len(one), len(other)) - same <= _LONGEST_ENDING
