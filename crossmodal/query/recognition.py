"""Years, months, days, places and names of files in a sentence, and the filters that they stand for.

"beach in July 2019" looks for "beach" among what was taken in that month. What stands in quotation marks is
never taken apart, and what the index knows nothing of stays in the sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["MONTHS", "Knowledge", "Recognised", "Understood", "understand"]

MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_MONTH_NUMBERS = {name: number for number, name in enumerate(MONTHS, 1)} | {
    **{name[:3]: number for number, name in enumerate(MONTHS, 1) if name != "may"},
    "sept": 9,
}
_MONTH = "|".join(sorted(_MONTH_NUMBERS, key=len, reverse=True))
_YEAR = r"(?:18[3-9]|19\d|20\d)\d"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
# What may stand before a date or a place and says nothing without it.
_BEFORE = r"(?:(?:in|on|from|of|during|taken\s+in|taken\s+on)\s+)?"

# Tried in this order, so that a day is not taken for its year.
_DATES = tuple(
    re.compile(rf"(?<![\w.-]){_BEFORE}{pattern}(?![\w-]|\.\w)", re.IGNORECASE)
    for pattern in (
        rf"(?P<year>{_YEAR})-(?P<month>0[1-9]|1[0-2])(?:-(?P<day>0[1-9]|[12]\d|3[01]))?",
        rf"(?P<day>{_DAY})(?:st|nd|rd|th)?\.?\s+(?:of\s+)?(?P<name>{_MONTH})\.?,?\s+(?P<year>{_YEAR})",
        rf"(?P<name>{_MONTH})\.?\s+(?P<day>{_DAY})(?:st|nd|rd|th)?,?\s+(?P<year>{_YEAR})",
        rf"(?P<name>{_MONTH})\.?,?\s+(?P<year>{_YEAR})",
        rf"(?P<year>{_YEAR})\s+(?P<name>{_MONTH})",
        rf"(?P<year>{_YEAR})",
    )
)
# A month by itself may be a word ("may", "march") or a name ("April"): only after such a word.
_BARE_MONTH = re.compile(
    rf"(?<![\w-])(?:in|during|from|taken\s+in)\s+(?P<name>{'|'.join(MONTHS)})(?![\w-])", re.IGNORECASE
)

_FILE = re.compile(r"(?<![\w./\\-])[\w()+-][\w()+.-]*\.[a-z][a-z0-9]{2,4}(?![\w.])", re.IGNORECASE)

_WORD = re.compile("[^\\W\\d_][\\w'\u2019.-]*|\\d+")
_MOST_WORDS = 5
_IN_PLACE = re.compile(r"(?:in|at|near|from|around|of|taken\s+in)\s+\Z", re.IGNORECASE)
# Places that are also words: only with a capital letter, or after such a word.
# fmt: off
_ALSO_WORDS = frozenset(
    {
        "bar", "bath", "battle", "bay", "best", "big", "boat", "buffalo", "chad", "china", "cork",
        "deal", "flint", "georgia", "guinea", "hull", "jersey", "jordan", "male", "man", "mobile",
        "most", "nice", "of", "orange", "phoenix", "reading", "rice", "rugby", "salt", "sandwich",
        "split", "spa", "turkey", "wall", "wells",
    }
)
# fmt: on

_QUOTED = re.compile(r'"[^"]*"|“[^”]*”|„[^“”]*[“”]|«[^»]*»')
_LEFT_OVER = re.compile(r"\s+(?=[,.;:!?])|(?:\A|(?<=\s))[,;:]+(?=\s|\Z)|[\s,;:]+\Z|\A[\s,;:]+")


@dataclass(frozen=True, slots=True)
class Recognised:
    """The words ``text`` of a sentence, and the filter that they stand for, as JSON."""

    text: str
    filter: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Understood:
    """What is left of a sentence to search for, all of it where nothing would be; and what was recognised."""

    text: str
    recognised: tuple[Recognised, ...]


class Knowledge(Protocol):
    """What an index knows of: only that is recognised."""

    def has(self, filter: Mapping[str, Any]) -> bool:
        """Whether a photo matches ``filter``."""
        ...

    def place(self, words: str) -> Mapping[str, Any] | None:
        """The filter for the place of that name, whatever its case; None where there is none."""
        ...


def understand(sentence: str, known: Knowledge) -> Understood:
    """What ``sentence`` means for an index that has what is ``known``."""
    taken: list[tuple[int, int, Recognised]] = []
    closed = [found.span() for found in _QUOTED.finditer(sentence)]

    def free(start: int, end: int) -> bool:
        return all(end <= first or start >= last for first, last in [*closed, *(one[:2] for one in taken)])

    for start, end, wanted in (
        *_files(sentence),
        *_dates(sentence),
    ):
        if free(start, end) and known.has(wanted):
            taken.append((start, end, Recognised(sentence[start:end], wanted)))
    for start, end, words in _names(sentence):
        if free(start, end) and (wanted_place := _place(sentence, start, words, known)) is not None:
            first = _IN_PLACE.search(sentence[:start])
            start = first.start() if first and free(first.start(), end) else start
            taken.append((start, end, Recognised(sentence[start:end], wanted_place)))
    taken.sort(key=lambda one: one[0])
    left = _without(sentence, [one[:2] for one in taken])
    return Understood(left or sentence, tuple(one[2] for one in taken))


def _files(sentence: str) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    for found in _FILE.finditer(sentence):
        yield *found.span(), {"file": {"$eqi": found[0]}}


def _dates(sentence: str) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    for pattern in _DATES:
        for found in pattern.finditer(sentence):
            groups = found.groupdict()
            date = groups["year"]
            name = groups.get("name")
            month = _MONTH_NUMBERS[name.lower()] if name else int(groups.get("month") or 0)
            if month:
                date += f"-{month:02d}"
                if groups.get("day"):
                    date += f"-{int(groups['day']):02d}"
            yield *found.span(), {"taken": date}
    for found in _BARE_MONTH.finditer(sentence):
        yield *found.span(), {"month": _MONTH_NUMBERS[found["name"].lower()]}


def _names(sentence: str) -> Iterator[tuple[int, int, str]]:
    """Each run of up to five words, the longest ones first."""
    words = list(_WORD.finditer(sentence))
    for count in range(min(_MOST_WORDS, len(words)), 0, -1):
        for first in range(len(words) - count + 1):
            start, end = words[first].start(), words[first + count - 1].end()
            yield start, end, sentence[start:end]


def _place(sentence: str, start: int, words: str, known: Knowledge) -> Mapping[str, Any] | None:
    if words.lower() in _ALSO_WORDS and not (words[0].isupper() or _IN_PLACE.search(sentence[:start])):
        return None
    return known.place(words)


def _without(sentence: str, spans: list[tuple[int, int]]) -> str:
    """The sentence without these parts, and without the spaces and commas that they leave."""
    kept, at = [], 0
    for start, end in spans:
        kept.append(sentence[at:start])
        at = end
    left = " ".join(" ".join([*kept, sentence[at:]]).split()) if spans else sentence
    previous = None
    while spans and previous != left:
        previous = left
        left = _LEFT_OVER.sub("", left).strip()
    return left
