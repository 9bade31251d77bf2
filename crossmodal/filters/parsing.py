"""From a JSON value to a filter, with an error that points at the place."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, cast

from crossmodal import limits
from crossmodal.errors import FilterError
from crossmodal.filters.conditions import (
    LARGEST_EXACT_INTEGER,
    MODALITY_FIELD,
    And,
    EqualsCaseless,
    Exists,
    Filter,
    Identified,
    Not,
    OneOf,
    Or,
    Range,
    RangeOperator,
    caseless,
    field_name,
    tag_name,
)
from crossmodal.filters.dates import DateOperator, Period, period
from crossmodal.filters.places import FARTHEST_KM, Near
from crossmodal.metadata.fields import FIELDS, LOCATION
from crossmodal.records import IMAGE, TEXT, composed

__all__ = ["parse_filter"]

_OPERATORS = ("$eq", "$ne", "$eqi", "$in", "$nin", "$lt", "$lte", "$gt", "$gte", "$exists")
_NEAR, _WITHIN = "$near", "$within_km"
_DATES = frozenset(field.name for field in FIELDS.values() if field.kind == "date")
_CONNECTIVES = ("$and", "$or", "$not")
_IDS = "$ids"
_LONGEST_SHOWN = 60


def parse_filter(value: object) -> Filter:
    """The filter that the JSON value ``value`` describes; whole numbers may come as floats.

    Raises ``FilterError``, whose ``pointer`` is the JSON pointer of the part that cannot be used.
    """
    parser = _Parser()
    return parser.filter(value, "", 1)


class _Parser:
    def __init__(self) -> None:
        self._conditions = 0
        self._values = 0

    def filter(self, value: object, pointer: str, level: int) -> Filter:
        if not isinstance(value, Mapping):
            raise FilterError(
                f'A filter is a JSON object such as {{"place": "harbour"}}, not {_shown(value)}.', pointer
            )
        # Written with $and, as to_json does, several conditions in one object are one level deeper.
        if _has_several(value):
            level += 1
        _check_level(level, pointer)
        parts = [
            part
            for key, inner in value.items()
            for part in self._key(key, inner, f"{pointer}/{_escaped(key)}", level)
        ]
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _key(self, key: object, value: object, pointer: str, level: int) -> Iterator[Filter]:
        if not isinstance(key, str):
            raise FilterError(f"A field's name is text, not {_shown(key)}.", pointer)
        if key == "$not":
            yield Not(self.filter(value, pointer, level + 1))
        elif key in _CONNECTIVES:
            parts = self._parts(key, value, pointer, level)
            yield And(parts) if key == "$and" else Or(parts)
        elif key == _IDS:
            yield self._identified(value, pointer)
        elif key.startswith("$"):
            advice = (
                f'An operator stands after its field: {{"FIELD": {{"{key}": ...}}}}'
                if key in _OPERATORS
                else f"Joining filters is done by {', '.join(_CONNECTIVES)}, and {_IDS} lists ids; "
                f"a tag of that name is tags.{key}"
            )
            raise FilterError(f"{_shown(key)} is no field. {advice}.", pointer)
        elif not tag_name(key) and key != MODALITY_FIELD:
            raise FilterError(f"The field's name {_shown(key)} is empty; write a tag's name.", pointer)
        else:
            yield from self._field(field_name(tag_name(composed(key))), value, pointer, level)

    def _parts(self, key: str, value: object, pointer: str, level: int) -> tuple[Filter, ...]:
        if not isinstance(value, list | tuple) or not value:
            raise FilterError(f"{key} needs a list of at least one filter, not {_shown(value)}.", pointer)
        return tuple(
            self.filter(inner, f"{pointer}/{position}", level + 1) for position, inner in enumerate(value)
        )

    def _field(self, field: str, value: object, pointer: str, level: int) -> Iterator[Filter]:
        if not isinstance(value, Mapping):
            if isinstance(value, list | tuple):
                raise FilterError(
                    f'The field {_shown(field)} has a list. Write {{"$in": [...]}} to allow several values.',
                    pointer,
                )
            yield self._condition(field, "$eq", value, pointer, level)
            return
        if not value:
            raise FilterError(
                f"The field {_shown(field)} has no operator. Use one of {', '.join(_OPERATORS)}.", pointer
            )
        if _NEAR in value or _WITHIN in value:
            self._count(pointer)
            yield _near(field, value, pointer)
            return
        conditions = [
            self._condition(field, name, operand, f"{pointer}/{_escaped(name)}", level)
            for name, operand in value.items()
        ]
        # From one date to another is one stretch of the index.
        periods = [condition for condition in conditions if isinstance(condition, Period)]
        yield from (condition for condition in conditions if not isinstance(condition, Period))
        if periods:
            yield reduce(Period.joined, periods)

    def _count(self, pointer: str) -> None:
        self._conditions += 1
        if self._conditions > limits.FILTER_CONDITIONS.most:
            raise FilterError(
                f"The filter has more than {limits.FILTER_CONDITIONS.most} conditions. "
                f"{limits.FILTER_CONDITIONS.advice}",
                pointer,
            )

    def _count_values(self, what: str, values: Sequence[Any], pointer: str) -> None:
        if len(values) > limits.FILTER_VALUES.most:
            raise FilterError(
                f"{what} has {len(values):,} values; at most {limits.FILTER_VALUES.most:,} can be used. "
                f"{limits.FILTER_VALUES.advice}",
                pointer,
            )
        self._values += len(values)
        if self._values > limits.FILTER_VALUES_TOGETHER.most:
            raise FilterError(
                f"The filter's lists have more than {limits.FILTER_VALUES_TOGETHER.most:,} values "
                f"together. {limits.FILTER_VALUES_TOGETHER.advice}",
                pointer,
            )

    def _identified(self, value: object, pointer: str) -> Filter:
        self._count(pointer)
        if not isinstance(value, list | tuple):
            raise FilterError(f"{_IDS} needs a list of ids, not {_shown(value)}.", pointer)
        self._count_values(_IDS, value, pointer)
        for position, id in enumerate(value):
            if not isinstance(id, str):
                raise FilterError(
                    f"{_IDS} needs ids, which are text, not {_shown(id)}.", f"{pointer}/{position}"
                )
        return Identified(frozenset(value))

    def _condition(self, field: str, operator: object, value: object, pointer: str, level: int) -> Filter:
        self._count(pointer)
        match operator:
            case "$eq" | "$ne":
                found = self._any_of(field, operator, [value], [pointer], level)
                return Not(found) if operator == "$ne" else found
            case "$eqi":
                if not isinstance(value, str):
                    raise FilterError(_told(field, operator, "needs text", value), pointer)
                return EqualsCaseless(field, caseless(value))
            case "$in" | "$nin":
                if not isinstance(value, list | tuple):
                    raise FilterError(_told(field, operator, "needs a list of values", value), pointer)
                self._count_values(f"{operator} of the field {_shown(field)}", value, pointer)
                pointers = [f"{pointer}/{position}" for position in range(len(value))]
                found = self._any_of(field, operator, value, pointers, level)
                return Not(found) if operator == "$nin" else found
            case "$lt" | "$lte" | "$gt" | "$gte":
                if field in _DATES:
                    return self._dated(field, operator, value, pointer, level)
                return Range(field, operator, _bound(field, operator, value, pointer))
            case "$exists":
                if not isinstance(value, bool):
                    raise FilterError(_told(field, "$exists", "needs true or false", value), pointer)
                return Exists(field) if value else Not(Exists(field))
            case _:
                raise FilterError(_unknown(field, operator), pointer)

    def _any_of(
        self, field: str, operator: str, values: Sequence[Any], pointers: list[str], level: int
    ) -> Filter:
        """The field equals one of ``values``; of dates, it is covered by one of them."""
        periods = [period(field, "$eq", value) if field in _DATES else None for value in values]
        covered = [found for found in periods if found is not None]
        if not covered:
            return _one_of(field, operator, values, pointers)
        # As to_json writes it, with $or and $not.
        _check_level(level + 1 + (operator in ("$ne", "$nin")), pointers[0])
        # A number may be a year, and may be what somebody's tag of that name has.
        others = [
            place
            for place, found in enumerate(periods)
            if found is None or not isinstance(values[place], str)
        ]
        parts: list[Filter] = []
        for found in covered:
            self._count(pointers[0])
            parts.append(found)
        if others:
            parts.append(
                _one_of(field, operator, [values[at] for at in others], [pointers[at] for at in others])
            )
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _dated(self, field: str, operator: DateOperator, value: object, pointer: str, level: int) -> Filter:
        found = period(field, operator, value)
        if isinstance(value, str):
            if found is None:
                needed = "needs a date such as 2019, 2019-07, 2019-07-04 or 2019-07-04T12:30"
                raise FilterError(_told(field, operator, needed, value), pointer)
            return found
        number = Range(field, cast("RangeOperator", operator), _bound(field, operator, value, pointer))
        if found is None:
            return number
        # A year, or what somebody's tag of that name has.
        self._count(pointer)
        _check_level(level + 1, pointer)
        return Or((number, found))


def _check_level(level: int, pointer: str) -> None:
    if level > limits.FILTER_LEVELS.most:
        raise FilterError(
            f"The filter is nested deeper than {limits.FILTER_LEVELS.most} levels. "
            f"{limits.FILTER_LEVELS.advice}",
            pointer,
        )


def _near(field: str, value: Mapping[Any, Any], pointer: str) -> Filter:
    """Within a distance of a point, which two operators say together."""
    if field != LOCATION:
        raise FilterError(
            f"{_NEAR} and {_WITHIN} go with the field {LOCATION}, not with {_shown(field)}: "
            f'{{"{LOCATION}": {{"{_NEAR}": [48.86, 2.35], "{_WITHIN}": 5}}}}.',
            pointer,
        )
    if value.keys() != {_NEAR, _WITHIN}:
        raise FilterError(
            f"{_NEAR}, a latitude and a longitude, and {_WITHIN} stand together, and nothing beside them.",
            pointer,
        )
    point, km = value[_NEAR], value[_WITHIN]
    if not isinstance(point, list | tuple) or len(point) != 2:
        needed = "needs a latitude and a longitude in degrees"
        raise FilterError(_told(field, _NEAR, needed, point), f"{pointer}/{_NEAR}")
    for place, (number, most, name) in enumerate(
        zip(point, (90, 180), ("latitude", "longitude"), strict=True)
    ):
        if isinstance(number, bool) or not isinstance(number, int | float) or not -most <= number <= most:
            needed = f"needs a {name} between -{most} and {most}"
            raise FilterError(_told(field, _NEAR, needed, number), f"{pointer}/{_NEAR}/{place}")
    if isinstance(km, bool) or not isinstance(km, int | float) or not 0 < km <= FARTHEST_KM:
        needed = f"needs kilometres, more than 0 and at most {FARTHEST_KM:,.0f}"
        raise FilterError(_told(field, _WITHIN, needed, km), f"{pointer}/{_WITHIN}")
    return Near(float(point[0]), float(point[1]), float(km))


def _has_several(value: Mapping[Any, Any]) -> bool:
    """Whether an object stands for more than one condition."""
    if len(value) != 1:
        return len(value) > 1
    ((key, inner),) = value.items()
    return key not in _CONNECTIVES and isinstance(inner, Mapping) and len(inner) > 1


def _one_of(field: str, operator: str, values: Any, pointers: list[str]) -> OneOf:
    strings: set[str] = set()
    numbers: set[float] = set()
    booleans: set[bool] = set()
    for value, pointer in zip(values, pointers, strict=True):
        if field == MODALITY_FIELD and value not in (IMAGE, TEXT):
            raise FilterError(
                _told(field, operator, f'needs "{IMAGE}" or "{TEXT}"', value)
                + " A tag of that name is tags.modality.",
                pointer,
            )
        if isinstance(value, str):
            strings.add(composed(value))
        elif isinstance(value, bool):
            booleans.add(value)
        elif isinstance(value, int | float):
            numbers.add(_exact_number(field, operator, value, pointer))
        elif value is None:
            raise FilterError(
                f"{operator} of the field {_shown(field)} cannot compare with null. A tag that is null "
                'counts as missing: use {"$exists": false}.',
                pointer,
            )
        else:
            raise FilterError(_told(field, operator, "needs text, numbers or true and false", value), pointer)
    return OneOf(field, frozenset(strings), frozenset(numbers), frozenset(booleans))


def _bound(field: str, operator: str, value: object, pointer: str) -> float | str:
    if isinstance(value, str):
        return str(composed(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(field, operator, value, pointer)
    raise FilterError(_told(field, operator, "needs a number or text", value), pointer)


def _exact_number(field: str, operator: str, value: float, pointer: str) -> float:
    """As ``_number``; refuses a whole number that no tag can be equal to, as it would be rounded."""
    if isinstance(value, int) and abs(value) > LARGEST_EXACT_INTEGER:
        raise FilterError(
            _told(field, operator, f"compares whole numbers up to {LARGEST_EXACT_INTEGER:,}", value)
            + " Larger ones are exact as text alone: write the tag and the filter in quotes.",
            pointer,
        )
    return _number(field, operator, value, pointer)


def _number(field: str, operator: str, value: float, pointer: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise FilterError(_told(field, operator, "needs a finite number", value), pointer)
    return number


def _unknown(field: str, operator: object) -> str:
    if operator == "$not":
        return f'$not stands before the field: {{"$not": {{{_shown(field)}: ...}}}}.'
    if isinstance(operator, str) and not operator.startswith("$"):
        return (
            f"{_shown(operator)} is no operator of the field {_shown(field)}. The tag inside it is reached "
            f"by {_shown(f'{field}.{operator}')}; operators are {', '.join(_OPERATORS)}."
        )
    return (
        f"{_shown(operator)} is no operator, used for the field {_shown(field)}. Use one of "
        f"{', '.join(_OPERATORS)}."
    )


def _told(field: str, operator: str, problem: str, value: object) -> str:
    return f"{operator} of the field {_shown(field)} {problem}, not {_shown(value)}."


def _shown(value: object) -> str:
    """``value`` as JSON, cut to a length that fits a message."""
    if isinstance(value, Mapping | list | tuple):
        return "an object" if isinstance(value, Mapping) else f"a list of {len(value):,}"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return "a whole number of more than 60 digits"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _escaped(key: object) -> str:
    """A key as a part of a JSON pointer (RFC 6901)."""
    return str(key).replace("~", "~0").replace("/", "~1")
