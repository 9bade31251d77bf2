"""Filters as a vector database can compute them: texts that it has, bounds of its numbers, its row.

A value of a tag becomes a text that says its kind, its tag and the value, so that equal means the same in
each database, whatever it thinks of numbers, of lists or of case. What no database here has (an order of
texts, periods of dates, distances) is looked up in the index, and becomes the rows that fulfil it.
"""

from __future__ import annotations

import hashlib
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from crossmodal.errors import FilterError
from crossmodal.filters import (
    And,
    EqualsCaseless,
    Exists,
    Filter,
    Not,
    OneOf,
    Or,
    Range,
    RangeOperator,
    caseless,
    collect_values,
    tag_name,
)
from crossmodal.records import Modality

__all__ = [
    "MOST_ROWS",
    "AllOf",
    "AnyOf",
    "AnyValue",
    "Bound",
    "NoneOf",
    "Rows",
    "Wanted",
    "key_of",
    "numbers_of",
    "translated",
    "values_of",
]

# Rows of one condition that are named to a database one by one: about 400 KB of a request.
MOST_ROWS = 50_000

# A longer text is compared by its hash.
_LONGEST = 200

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of ``parts``; without parts, always."""

    parts: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of ``parts``; without parts, never."""

    parts: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """Not ``part``."""

    part: Wanted


@dataclass(frozen=True, slots=True)
class AnyValue:
    """The row has at least one of these ``values_of``; there is at least one."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """The greatest number of a tag (for $gt and $gte; else its least) is on that side of ``bound``."""

    key: str
    operator: RangeOperator
    bound: float

    @property
    def side(self) -> str:
        """Which field of a row is compared."""
        return "most" if self.operator in ("$gt", "$gte") else "least"


@dataclass(frozen=True, slots=True)
class Rows:
    """The row is one of ``rows``, of which there is at least one; ``among`` False: it is none of them."""

    rows: tuple[int, ...]
    among: bool = True


Wanted = AllOf | AnyOf | NoneOf | AnyValue | Bound | Rows


def values_of(tags: Mapping[str, Any]) -> list[str]:
    """The texts of all values in ``tags``, and of their names, in no particular order."""
    found = []
    for name, values in collect_values(tags).items():
        found.append(_text("e", name))
        found += [_text("s", name, string) for string in values.strings]
        found += {_text("i", name, caseless(string)) for string in values.strings}
        found += [_text("n", name, _number(number)) for number in values.numbers if not math.isnan(number)]
        found += [_text("b", name, str(boolean)) for boolean in values.booleans]
    return found


def numbers_of(tags: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """The least and the greatest number of each tag by ``key_of`` its name; infinite ones as the largest."""
    least, most = dict[str, float](), dict[str, float]()
    for name, values in collect_values(tags).items():
        numbers = [_finite(number) for number in values.numbers if not math.isnan(number)]
        if numbers:
            least[key_of(name)], most[key_of(name)] = min(numbers), max(numbers)
    return least, most


def key_of(tag: str) -> str:
    """``tag`` as a name that needs no quotes in any language: letters, digits and underscores."""
    if _PLAIN_KEY.fullmatch(tag):
        return f"n_{tag}"
    return "h_" + hashlib.blake2b(tag.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def translated(
    filter: Filter, modality: Modality, rows_of: Callable[[Filter], set[int]], *, negates: bool
) -> Wanted:
    """``filter`` for documents of ``modality``, exactly.

    ``rows_of`` looks the rows up that fulfil a part of it; it is asked for what has no translation, and where
    the database doesn't know a negation (``negates``). Raises FilterError for such a part that more than
    ``MOST_ROWS`` rows fulfil.
    """

    def each(part: Filter) -> Wanted:
        match part:
            case And(parts):
                return AllOf(tuple(map(each, parts)))
            case Or(parts):
                return AnyOf(tuple(map(each, parts)))
            case OneOf() | EqualsCaseless() | Range() | Exists() if tag_name(part.field) is None:
                return AllOf(()) if part.matches(modality, {}) else AnyOf(())
            case Not(negated):
                return NoneOf(each(negated)) if negates else _without(negated, rows_of)
            case OneOf(field):
                return _any_value(_texts(tag_name(field) or "", part))
            case EqualsCaseless(field, string):
                return AnyValue((_text("i", tag_name(field) or "", string),))
            case Exists(field):
                return AnyValue((_text("e", tag_name(field) or ""),))
            case Range(field, operator, bound) if not isinstance(bound, str):
                return Bound(key_of(tag_name(field) or ""), operator, _finite(bound))
            case _:
                rows = _few(part, rows_of)
                return Rows(rows) if rows else AnyOf(())

    return each(filter)


def _without(part: Filter, rows_of: Callable[[Filter], set[int]]) -> Wanted:
    rows = _few(part, rows_of)
    return Rows(rows, among=False) if rows else AllOf(())


def _few(part: Filter, rows_of: Callable[[Filter], set[int]]) -> tuple[int, ...]:
    rows = rows_of(part)
    if len(rows) > MOST_ROWS:
        raise FilterError(
            f"The vector database has no words for {str(part.to_json())[:200]}, and {len(rows):,} documents "
            f"fulfil it, while {MOST_ROWS:,} can be named to it one by one. Ask for less at once, for "
            "example a shorter period, or search without --backend."
        )
    return tuple(sorted(rows))


def _any_value(texts: list[str]) -> Wanted:
    return AnyValue(tuple(sorted(texts))) if texts else AnyOf(())


def _texts(tag: str, wanted: OneOf) -> list[str]:
    return [
        *(_text("s", tag, string) for string in wanted.strings),
        *(_text("n", tag, _number(number)) for number in wanted.numbers if not math.isnan(number)),
        *(_text("b", tag, str(boolean)) for boolean in wanted.booleans),
    ]


def _text(kind: str, tag: str, value: str = "") -> str:
    """Of ASCII without quotes or backslashes, so that no language can take it for anything else."""
    text = f"{kind}:{_plain(tag)}={_plain(value)}"
    if len(text) <= _LONGEST:
        return text
    return f"{kind}#" + hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()


def _plain(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe=" ,;@")


def _number(number: float) -> str:
    # Zero has two signs.
    return repr(number + 0.0)


def _finite(number: float) -> float:
    """Infinite numbers as the largest there are: JSON has no others."""
    return min(max(number, -sys.float_info.max), sys.float_info.max)
