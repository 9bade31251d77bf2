"""Dates in filters: a part of one stands for all that it covers, and a range is one stretch of text.

A date is text of ISO 8601 that begins with the local time, so that text and time have the same order; a zone
behind it doesn't count. ``2019-07`` covers ``2019-07-04T12:30:00+02:00``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from crossmodal.filters.conditions import Facts, Filter, tag_name

__all__ = ["DateOperator", "Period", "is_day", "period"]

DateOperator = Literal["$eq", "$lt", "$lte", "$gt", "$gte"]

_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:[.,]\d{1,9})?)?)?"
    r"(?:Z|[+-]\d\d:?\d\d)?)?)?)?"
)
# How a date is written whose last known part is the year, the month, ...
_FORMATS = ("%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")
_STEPS = {
    3: timedelta(days=1),
    4: timedelta(hours=1),
    5: timedelta(minutes=1),
    6: timedelta(seconds=1),
}
_LAST_YEAR = 9998
_BEFORE_TIME = len("2019-07-04")


@dataclass(frozen=True, slots=True)
class Period(Filter):
    """A value of ``field``, or an element of it, is text from ``start`` on and before ``end``.

    None stands for no bound on that side; one of the two is a date, or a part of one. A space between day and
    time counts as the T that stands there by the standard.
    """

    field: str
    start: str | None
    end: str | None

    def holds(self, facts: Facts) -> bool:
        values = facts.values_of(tag_name(self.field))
        return values is not None and any(self.covers(value) for value in values.strings)

    def covers(self, value: str) -> bool:
        """Whether the text ``value`` lies in it."""
        if value[_BEFORE_TIME : _BEFORE_TIME + 1] == " ":
            value = f"{value[:_BEFORE_TIME]}T{value[_BEFORE_TIME + 1 :]}"
        return (self.start is None or self.start <= value) and (self.end is None or value < self.end)

    def least(self) -> str | None:
        """The least text that may lie in it, in the order of code points."""
        return None if self.start is None else self.start.replace("T", " ")

    def to_json(self) -> dict[str, Any]:
        bounds = {"$gte": self.start, "$lt": self.end}
        return {self.field: {operator: bound for operator, bound in bounds.items() if bound is not None}}

    def joined(self, other: Period) -> Period:
        """The period that both have in common."""
        starts = [start for start in (self.start, other.start) if start is not None]
        ends = [end for end in (self.end, other.end) if end is not None]
        return Period(self.field, max(starts, default=None), min(ends, default=None))


def period(field: str, operator: DateOperator, value: object) -> Period | None:
    """What ``operator`` means for the date, or part of one, ``value``; None where that is none.

    A whole number is a year. After July is from August on, until July is before August.
    """
    covered = _covered(value)
    if covered is None:
        return None
    first, behind = covered
    match operator:
        case "$eq":
            return Period(field, first, behind)
        case "$gte":
            return Period(field, first, None)
        case "$gt":
            return Period(field, behind, None)
        case "$lt":
            return Period(field, None, first)
        case "$lte":
            return Period(field, None, behind)


def is_day(value: str) -> bool:
    """Whether ``value`` is a date that knows its day, with or without a time, as ``taken`` is."""
    return len(value) >= _BEFORE_TIME and _covered(value) is not None


def _covered(value: object) -> tuple[str, str] | None:
    """The first moment that a date covers, and the first one behind it, as precise as it is itself."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LAST_YEAR:
        value = f"{value:04d}"
    if not isinstance(value, str) or not (found := _DATE.fullmatch(value.strip())):
        return None
    numbers = [int(number) for number in found.groups() if number is not None]
    known = len(numbers)
    try:
        first = datetime(*numbers, *(1,) * max(3 - known, 0))  # type: ignore[arg-type]
    except ValueError:
        return None
    if first.year > _LAST_YEAR:
        return None
    return _written(first, known), _written(_behind(first, known), known)


def _behind(first: datetime, known: int) -> datetime:
    if known == 1:
        return first.replace(year=first.year + 1)
    if known == 2:
        return (first + timedelta(days=31)).replace(day=1)
    return first + _STEPS[known]


def _written(moment: datetime, known: int) -> str:
    # Not every platform writes years before 1000 with four digits.
    return f"{moment.year:04d}" + moment.strftime(_FORMATS[known - 1].removeprefix("%Y"))
