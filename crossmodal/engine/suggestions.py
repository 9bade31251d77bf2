"""What somebody may mean who has typed the beginning of it: tags, dates, places, folders and files."""

from __future__ import annotations

import re
import threading
import time
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from crossmodal.filters import field_name
from crossmodal.index.embedded.tokens import folded, is_unspaced
from crossmodal.index.protocols import FacetRequest
from crossmodal.metadata.locations import is_private
from crossmodal.query.recognition import MONTHS
from crossmodal.records import IMAGE
from crossmodal.workspace import Workspace

__all__ = ["Suggestion", "SuggestionKind", "Suggestions"]

# Of those that as many photos have the first ones come first.
SuggestionKind = Literal["tag", "year", "month", "place", "camera", "folder", "file"]
_ORDER = {kind: number for number, kind in enumerate(get_args(SuggestionKind))}

# Of any other tag the values are suggested as such.
_KINDS: Mapping[str, SuggestionKind] = {
    "city": "place",
    "region": "place",
    "country": "place",
    "camera": "camera",
    "folder": "folder",
    "file": "file",
}

# Dates come by year and month, sentences are captions, and nobody types the others.
_NOT_TYPED = ("description", "format", "orientation", "taken", "taken_from", "title", "video_id")
_LONGEST = 100

# Of each kind at most this share of what is shown, unless there is nothing else.
_SHARE = 0.5

# What begins with the words comes before what has them inside, among so many that have them.
_LOOKED_AT = 200

# While the index changes, what is known of it is at most so many times as old as it took to read.
_READING_SHARE = 20

_BETWEEN_WORDS = re.compile(r"(?:[^\w\n]|_)+")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """``text`` that ``count`` photos go by, the ``tag`` that has it, and the ``filter`` that finds them."""

    kind: SuggestionKind
    text: str
    tag: str
    filter: Mapping[str, Any]
    count: int


class Suggestions:
    """What the photos of an index go by, found by the beginnings of its words. Safe across threads."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._reading = threading.Lock()
        self._known = _Vocabulary(())
        self._state: tuple[str, int] | None = None
        self._good_until = 0.0

    def find(self, text: str, limit: int = 10, *, places: bool = True) -> list[Suggestion]:
        """The ``limit`` best that begin with ``text``, or have words that do, the most frequent ones first.

        Case and accents don't count. Without ``places`` none says where photos were taken.
        """
        words = _words(text).strip()
        if not words:
            return []
        found = [
            (not begins, number, suggestion)
            for number, (begins, suggestion) in enumerate(self._current().with_words(words))
            if places or not is_private(suggestion.tag)
        ]
        found.sort(key=lambda each: each[:2])
        return _mixed([suggestion for *_, suggestion in found], limit)

    def _current(self) -> _Vocabulary:
        with self._reading:
            state = self._workspace.state()
            if state != self._state and time.monotonic() >= self._good_until:
                began = time.monotonic()
                self._known, self._state = _Vocabulary(list(_suggestions(self._workspace))), state
                ended = time.monotonic()
                self._good_until = ended + _READING_SHARE * (ended - began)
            return self._known


class _Vocabulary:
    """All suggestions, the most frequent ones first, and their words in one text, a line each.

    A word begins behind a space, so that one search of the text finds it, however many there are.
    """

    def __init__(self, suggestions: Sequence[tuple[Suggestion, str]]) -> None:
        ordered = sorted(suggestions, key=lambda each: (-each[0].count, _ORDER[each[0].kind]))
        self._suggestions = [suggestion for suggestion, _ in ordered]
        lines = "\n ".join(said.replace("\n", " ") for _, said in ordered)
        self._words = _words(f" {lines}\n")
        self._starts = array("Q", [0])
        at = 0
        while (at := self._words.find("\n", at) + 1) > 0:
            self._starts.append(at)

    def with_words(self, words: str) -> Iterator[tuple[bool, Suggestion]]:
        """The first that have ``words``, and whether they begin with them."""
        needle = words if is_unspaced(words[0]) else f" {words}"
        at = 0
        for _ in range(_LOOKED_AT):
            found = self._words.find(needle, at)
            if found < 0:
                return
            line = bisect_right(self._starts, found) - 1
            yield found <= self._starts[line] + 1, self._suggestions[line]
            at = self._starts[line + 1]


def _words(text: str) -> str:
    """``text`` without case and accents, a space between its words."""
    return _BETWEEN_WORDS.sub(" ", folded(text))


def _mixed(found: Sequence[Suggestion], limit: int) -> list[Suggestion]:
    """The first ``limit``, no kind with more than its share as long as there are others."""
    most = max(round(limit * _SHARE), 1)
    counted: Counter[str] = Counter()
    first, further = [], []
    for suggestion in found:
        counted[suggestion.kind] += 1
        (first if counted[suggestion.kind] <= most else further).append(suggestion)
    return (first + further)[:limit]


def _suggestions(workspace: Workspace) -> Iterator[tuple[Suggestion, str]]:
    """All of an index, each with the words that find it."""
    for name, value, count in workspace.tag_values(IMAGE, without=_NOT_TYPED, longest=_LONGEST):
        kind = _KINDS.get(name, "tag")
        yield Suggestion(kind, value, name, {field_name(name): value}, count), value
    for year, count, _ in workspace.facet(IMAGE, FacetRequest("year", limit=1000)).values:
        if isinstance(year, float | int) and float(year).is_integer():
            said = f"{year:.0f}"
            yield Suggestion("year", said, "year", {"year": int(year)}, count), said
    for month, count, _ in workspace.facet(IMAGE, FacetRequest("month", limit=12)).values:
        if month in range(1, 13):
            name = MONTHS[int(month) - 1].title()
            yield Suggestion("month", name, "month", {"month": int(month)}, count), name
    for date, count, _ in workspace.facet(IMAGE, FacetRequest("taken", per="month", limit=10_000)).values:
        year, _, month = str(date).partition("-")
        if month.isdigit() and int(month) in range(1, 13):
            said = f"{MONTHS[int(month) - 1].title()} {year}"
            yield Suggestion("month", said, "taken", {"taken": date}, count), f"{said} {month} {date}"
