"""The table ``tags``: which documents have which values, stored beside the documents in the same commit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

from crossmodal.filters import (
    EqualsCaseless,
    Exists,
    Identified,
    Near,
    OneOf,
    Period,
    Range,
    caseless,
    collect_values,
    field_name,
    tag_name,
)
from crossmodal.index.embedded.connections import storable
from crossmodal.index.embedded.dialect import Connection, Dialect
from crossmodal.index.protocols import TagField, tag_field
from crossmodal.metadata.fields import LATITUDE, LONGITUDE
from crossmodal.records import Modality

__all__ = ["Condition", "Kind", "kinds_of", "rows_that_match", "tag_entries", "tag_fields", "tag_texts"]

# The fourth value of an entry, whose third is its kind: a string may come as bytes.
_VALUE = "CASE ?3 WHEN 3 THEN CAST(?4 AS TEXT) ELSE ?4 END"
INSERT = f"INSERT INTO tags (modality, name, kind, value, row) VALUES (?, CAST(? AS TEXT), ?, {_VALUE}, ?)"
DELETE = (
    "DELETE FROM tags WHERE modality = ? AND name = CAST(? AS TEXT) AND kind = ?"
    f" AND value = {_VALUE} AND row = ?"
)

_OPERATORS = {"$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}

# Values of one statement; SQLite before 3.32 takes 999.
_AT_ONCE = 500


# A condition on one tag, on the place of a document, or on its id.
Condition = OneOf | EqualsCaseless | Range | Period | Near | Exists | Identified


class Kind(IntEnum):
    """What a value is; each compares with its own kind only. ``NOTHING``: a tag without such a value."""

    NOTHING = 0
    BOOLEAN = 1
    NUMBER = 2
    STRING = 3


def tag_entries(
    dialect: Dialect, modality: Modality, tags: Mapping[str, Any], row: int
) -> Iterator[tuple[Any, ...]]:
    """What ``INSERT`` and ``DELETE`` take for each value of the tags as they are stored."""
    if not tags:
        return
    for name, values in collect_values(tags).items():
        place = modality, storable(name)
        numbers = [number for number in values.numbers if not math.isnan(number)]
        for string in values.strings:
            yield *place, Kind.STRING, storable(string), row
        for number in numbers:
            yield *place, Kind.NUMBER, dialect.number(number), row
        for boolean in values.booleans:
            yield *place, Kind.BOOLEAN, dialect.number(int(boolean)), row
        if not (values.strings or numbers or values.booleans):
            yield *place, Kind.NOTHING, dialect.number(0), row


def rows_that_match(connection: Connection, modality: Modality, condition: Condition) -> Iterator[int]:
    """The rows whose tags fulfil ``condition``, in no particular order; a row may come more than once."""
    if isinstance(condition, Near):
        yield from _rows_near(connection, modality, condition)
        return
    if isinstance(condition, Identified):
        yield from _rows_identified(connection, modality, condition)
        return
    place = modality, storable(tag_name(condition.field))
    if isinstance(condition, EqualsCaseless):
        condition = _spelled(connection, modality, condition)
    select = "SELECT row FROM tags WHERE modality = ? AND name = CAST(? AS TEXT)"
    if isinstance(condition, Exists):
        yield from _rows(connection, select, place)
    elif isinstance(condition, Period):
        yield from _rows_in(connection, place, condition)
    elif isinstance(condition, Range):
        kind = Kind.STRING if isinstance(condition.bound, str) else Kind.NUMBER
        bound = (
            storable(condition.bound)
            if isinstance(condition.bound, str)
            else connection.dialect.number(condition.bound)
        )
        value = "CAST(? AS TEXT)" if kind == Kind.STRING else "?"
        yield from _rows(
            connection,
            f"{select} AND kind = ? AND value {_OPERATORS[condition.operator]} {value}",
            (*place, kind, bound),
        )
    else:
        number = connection.dialect.number
        wanted: tuple[tuple[Kind, list[Any]], ...] = (
            (Kind.STRING, [storable(string) for string in condition.strings]),
            (Kind.NUMBER, list(map(number, condition.numbers))),
            (Kind.BOOLEAN, [number(int(boolean)) for boolean in condition.booleans]),
        )
        for kind, values in wanted:
            value = "CAST(? AS TEXT)" if kind == Kind.STRING else "?"
            for start in range(0, len(values), _AT_ONCE):
                part = values[start : start + _AT_ONCE]
                listed = ", ".join([value] * len(part))
                yield from _rows(
                    connection, f"{select} AND kind = ? AND value IN ({listed})", (*place, kind, *part)
                )


def kinds_of(connection: Connection, modality: Modality, name: str) -> set[Kind]:
    """The kinds of the values that documents of one modality have under the tag ``name``."""
    select = "SELECT 1 FROM tags WHERE modality = ? AND name = CAST(? AS TEXT) AND kind = ? LIMIT 1"
    place = modality, storable(tag_name(name))
    return {kind for kind in Kind if connection.execute(select, (*place, kind)).fetchone()}


def _rows_identified(connection: Connection, modality: Modality, wanted: Identified) -> Iterator[int]:
    ids = [storable(id) for id in wanted.ids]
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        listed = ", ".join(["CAST(? AS TEXT)"] * len(part))
        for column in ("id", "photo_id"):
            select = f"SELECT row FROM documents WHERE modality = ? AND {column} IN ({listed})"
            yield from _rows(connection, select, (modality, *part))


def _rows_in(connection: Connection, place: tuple[Any, ...], period: Period) -> Iterator[int]:
    """The rows with a text in ``period``: one stretch of the table."""
    bounds = {">=": period.least(), "<": period.end}
    given = {operator: bound for operator, bound in bounds.items() if bound is not None}
    conditions = "".join(f" AND value {operator} CAST(? AS TEXT)" for operator in given)
    for value, row in connection.execute(
        "SELECT value, row FROM tags WHERE modality = ? AND name = CAST(? AS TEXT) AND kind = ?" + conditions,
        (*place, Kind.STRING, *map(storable, given.values())),
    ):
        if period.covers(value):
            yield row


def _rows_near(connection: Connection, modality: Modality, near: Near) -> Iterator[int]:
    """The rows with a place that is near enough: those in a box of degrees, measured one by one."""
    select = (
        "SELECT row, value FROM tags WHERE modality = ? AND name = ? AND kind = ? AND value BETWEEN ? AND ?"
    )
    number = connection.dialect.number
    latitudes: dict[int, list[float]] = {}
    for row, latitude in connection.execute(
        select, (modality, LATITUDE, Kind.NUMBER, *map(number, near.latitudes()))
    ):
        latitudes.setdefault(row, []).append(latitude)
    for bounds in near.longitudes():
        for row, longitude in connection.execute(
            select, (modality, LONGITUDE, Kind.NUMBER, *map(number, bounds))
        ):
            if any(near.holds_at(latitude, longitude) for latitude in latitudes.get(row, ())):
                yield row


def _spelled(connection: Connection, modality: Modality, condition: EqualsCaseless) -> OneOf:
    """The same condition by the ways in which the index's tags spell it."""
    texts = tag_texts(connection, modality, tag_name(condition.field) or "")
    return OneOf(condition.field, frozenset(text for text in texts if caseless(text) == condition.string))


def tag_texts(connection: Connection, modality: Modality, tag: str) -> list[str]:
    """The different texts that documents have under the name ``tag``."""
    found = connection.execute(
        "SELECT DISTINCT value FROM tags WHERE modality = ? AND name = CAST(? AS TEXT) AND kind = ?",
        (modality, storable(tag), Kind.STRING),
    )
    return [text for (text,) in found]


def tag_fields(connection: Connection, modality: Modality, limit_values: int | None) -> list[TagField]:
    """Every tag that has values, in order of the names, with its ``limit_values`` most frequent ones.

    None keeps all values. A document counts once for each different element of a list.
    """
    counted: dict[str, dict[int, dict[Any, int]]] = {}
    for name, kind, value, count in connection.execute(
        "SELECT name, kind, value, count(*) FROM tags WHERE modality = ? AND kind > 0"
        " GROUP BY name, kind, value",
        (modality,),
    ):
        counted.setdefault(name, {}).setdefault(kind, {})[value] = count
    return [
        tag_field(
            field_name(name),
            _documents_with(connection, modality, name, counted[name]),
            counted[name].get(Kind.STRING, {}),
            # JSON has no way to write the others.
            {value: n for value, n in counted[name].get(Kind.NUMBER, {}).items() if math.isfinite(value)},
            {bool(value): count for value, count in counted[name].get(Kind.BOOLEAN, {}).items()},
            limit_values,
        )
        for name in sorted(counted, key=field_name)
    ]


def _documents_with(
    connection: Connection,
    modality: Modality,
    name: str,
    counted: Mapping[int, Mapping[Any, int]],
) -> int:
    if len(counted) == 1 and all(len(values) == 1 for values in counted.values()):
        ((count,),) = (values.values() for values in counted.values())
        return count
    (count,) = connection.execute(
        "SELECT count(DISTINCT row) FROM tags WHERE modality = ? AND name = CAST(? AS TEXT) AND kind > 0",
        (modality, storable(name)),
    ).fetchone()
    return int(count)


def _rows(connection: Connection, statement: str, given: tuple[Any, ...]) -> Iterator[int]:
    for (row,) in connection.execute(statement, given):
        yield row
