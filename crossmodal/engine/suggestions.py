"""What somebody may mean who has typed the beginning of it: tags, dates, places, folders and files."""

from __future__ import annotations

import re
import time
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from crossmodal.errors import ServiceError
from crossmodal.filters import field_name
from crossmodal.index.embedded.tokens import folded, is_unspaced
from crossmodal.index.protocols import FacetRequest
from crossmodal.metadata.locations import is_private
from crossmodal.query.recognition import MONTHS
from crossmodal.records import IMAGE
from crossmodal.shared_work import SharedWork
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
_MOST_DATES = 10_000

# Of each kind at most this share of what is shown, unless there is nothing else.
_SHARE = 0.5

# What begins with the words comes before what has them inside, among so many that have them.
_LOOKED_AT = 200

# While the index changes, what is known of it is at most so many times as old as it took to read.
_READING_SHARE = 20

# What takes no longer is read before the next answer.
_READ_AT_ONCE_SECONDS = 0.1

# Folding is done in one call, in which no other thread runs: of so many it takes about two milliseconds.
_FOLDED_AT_ONCE = 256

_BETWEEN_WORDS = re.compile(r"(?:[^\w\n]|_)+")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """``text`` that ``count`` photos go by, the ``tag`` that has it, and the ``filter`` that finds them."""

    kind: SuggestionKind
    text: str
    tag: str
    filter: Mapping[str, Any]
    count: int


# How many photos have it, the kind, the tag and its value, what is shown, and the words that find it.
_Value = tuple[int, SuggestionKind, str, str | float, str, str]


class Suggestions:
    """What the photos of an index go by, found by the beginnings of its words. Safe across threads."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._reading = SharedWork("suggestions", 1)
        self._known = _Vocabulary(())
        self._state: tuple[str, int] | None = None
        self._seconds = self._good_until = 0.0

    def close(self) -> None:
        """Gives up what is being read of the index."""
        self._reading.close()

    def find(self, text: str, limit: int = 10, *, places: bool = True) -> list[Suggestion]:
        """The ``limit`` best that begin with ``text``, or have words that do, the most frequent ones first.

        Case and accents don't count. Without ``places`` none says where photos were taken. Raises StoreError
        where the index cannot be read, ServiceError where it is closed meanwhile.
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
        """What is known; where reading it anew takes long, that is done meanwhile."""
        state = self._workspace.state()
        if state != self._state and time.monotonic() >= self._good_until:
            is_awaited = self._state is None or self._seconds < _READ_AT_ONCE_SECONDS
            try:
                reading = self._reading.begin("words", partial(self._read, state))
            except RuntimeError:
                # There are too many threads already. What is known will do, if there is anything.
                if self._state is None:
                    self._read(state, lambda: False)
            else:
                if is_awaited:
                    reading.result()
        return self._known

    def _read(self, state: tuple[str, int] | None, is_given_up: Callable[[], bool]) -> None:
        """Reads all that may be suggested."""
        began = time.monotonic()
        self._known, self._state = _Vocabulary(_values(self._workspace), is_given_up), state
        self._seconds = time.monotonic() - began
        self._good_until = time.monotonic() + _READING_SHARE * self._seconds


class _Vocabulary:
    """All suggestions, the most frequent ones first, and their words in one text, a line each.

    A word begins behind a space, so that one search of the text finds it, however many there are.
    """

    def __init__(self, values: Iterable[_Value], is_given_up: Callable[[], bool] = lambda: False) -> None:
        # By one number, which is compared more quickly than two.
        self._values = sorted(values, key=lambda value: _ORDER[value[1]] - len(_ORDER) * value[0])
        parts = []
        for start in range(0, len(self._values), _FOLDED_AT_ONCE):
            if is_given_up():
                raise ServiceError("The words of the index are not read, because it was closed meanwhile.")
            several = self._values[start : start + _FOLDED_AT_ONCE]
            parts.append(_words("".join([" " + value[-1].replace("\n", " ") + "\n" for value in several])))
        self._words = "".join(parts)
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
            yield found <= self._starts[line] + 1, _suggestion(self._values[line])
            at = self._starts[line + 1]


def _words(text: str) -> str:
    """``text`` without case and accents, a space between its words."""
    return _BETWEEN_WORDS.sub(" ", folded(text))


def _mixed(found: Sequence[Suggestion], limit: int) -> list[Suggestion]:
    """The first ``limit``, no kind with more than its share as long as there are others."""
    most = max(round(limit * _SHARE), 1)
    counted: Counter[str] = Counter()
    first: list[Suggestion] = []
    further: list[Suggestion] = []
    for suggestion in found:
        counted[suggestion.kind] += 1
        (first if counted[suggestion.kind] <= most else further).append(suggestion)
    return (first + further)[:limit]


def _suggestion(value: _Value) -> Suggestion:
    count, kind, tag, meant, text, _ = value
    return Suggestion(kind, text, tag, {field_name(tag): meant}, count)


def _values(workspace: Workspace) -> Iterator[_Value]:
    """All of an index."""
    for name, text, count in workspace.tag_values(IMAGE, without=_NOT_TYPED, longest=_LONGEST):
        yield count, _KINDS.get(name, "tag"), name, text, text, text
    for year in workspace.facet(IMAGE, FacetRequest("year", limit=_MOST_DATES)).values:
        if isinstance(year.value, float | int) and float(year.value).is_integer():
            said = f"{year.value:.0f}"
            yield year.count, "year", "year", int(year.value), said, said
    for month in workspace.facet(IMAGE, FacetRequest("month", limit=_MOST_DATES)).values:
        if month.value in range(1, 13):
            said = MONTHS[int(month.value) - 1].title()
            yield month.count, "month", "month", int(month.value), said, said
    for date in workspace.facet(IMAGE, FacetRequest("taken", per="month", limit=_MOST_DATES)).values:
        number = str(date.value)[-2:]
        if number.isdigit() and int(number) in range(1, 13):
            said = f"{MONTHS[int(number) - 1].title()} {str(date.value)[:4]}"
            yield date.count, "month", "taken", date.value, said, f"{said} {number} {date.value}"
