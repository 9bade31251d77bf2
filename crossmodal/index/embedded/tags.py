"""The table ``tags``: which documents have which values, stored beside the documents in the same commit."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

from crossmodal.filters import (
    EqualsCaseless,
    Exists,
    OneOf,
    Range,
    caseless,
    collect_values,
    field_name,
    tag_name,
)
from crossmodal.index.embedded.connections import storable
from crossmodal.index.protocols import TagField, tag_field
from crossmodal.records import Modality

__all__ = ["Kind", "rows_that_match", "tag_entries", "tag_fields"]

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


class Kind(IntEnum):
    """What a value is; each compares with its own kind only. ``NOTHING``: a tag without such a value."""

    NOTHING = 0
    BOOLEAN = 1
    NUMBER = 2
    STRING = 3


def tag_entries(modality: Modality, tags: Mapping[str, Any], row: int) -> Iterator[tuple[Any, ...]]:
    """What ``INSERT`` and ``DELETE`` take for each value of the tags as they are stored."""
    if not tags:
        return
    for name, values in collect_values(tags).items():
        place = modality, storable(name)
        numbers = [number for number in values.numbers if not math.isnan(number)]
        for string in values.strings:
            yield *place, Kind.STRING, storable(string), row
        for number in numbers:
            yield *place, Kind.NUMBER, number, row
        for boolean in values.booleans:
            yield *place, Kind.BOOLEAN, int(boolean), row
        if not (values.strings or numbers or values.booleans):
            yield *place, Kind.NOTHING, 0, row


def rows_that_match(
    connection: sqlite3.Connection, modality: Modality, condition: OneOf | EqualsCaseless | Range | Exists
) -> Iterator[int]:
    """The rows whose tags fulfil ``condition``, in no particular order; a row may come more than once."""
    place = modality, storable(tag_name(condition.field))
    if isinstance(condition, EqualsCaseless):
        condition = _spelled(connection, place, condition)
    select = "SELECT row FROM tags WHERE modality = ? AND name = CAST(? AS TEXT)"
    if isinstance(condition, Exists):
        yield from _rows(connection, select, place)
    elif isinstance(condition, Range):
        kind = Kind.STRING if isinstance(condition.bound, str) else Kind.NUMBER
        bound = storable(condition.bound) if isinstance(condition.bound, str) else condition.bound
        value = "CAST(? AS TEXT)" if kind == Kind.STRING else "?"
        yield from _rows(
            connection,
            f"{select} AND kind = ? AND value {_OPERATORS[condition.operator]} {value}",
            (*place, kind, bound),
        )
    else:
        wanted: tuple[tuple[Kind, list[Any]], ...] = (
            (Kind.STRING, [storable(string) for string in condition.strings]),
            (Kind.NUMBER, list(condition.numbers)),
            (Kind.BOOLEAN, [int(boolean) for boolean in condition.booleans]),
        )
        for kind, values in wanted:
            value = "CAST(? AS TEXT)" if kind == Kind.STRING else "?"
            for start in range(0, len(values), _AT_ONCE):
                part = values[start : start + _AT_ONCE]
                listed = ", ".join([value] * len(part))
                yield from _rows(
                    connection, f"{select} AND kind = ? AND value IN ({listed})", (*place, kind, *part)
                )


def _spelled(connection: sqlite3.Connection, place: tuple[Any, ...], condition: EqualsCaseless) -> OneOf:
    """The same condition by the ways in which the index's tags spell it."""
    found = connection.execute(
        "SELECT DISTINCT value FROM tags WHERE modality = ? AND name = CAST(? AS TEXT) AND kind = ?",
        (*place, Kind.STRING),
    )
    return OneOf(
        condition.field, frozenset(value for (value,) in found if caseless(value) == condition.string)
    )


def tag_fields(
    connection: sqlite3.Connection, modality: Modality, limit_values: int | None
) -> list[TagField]:
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
    connection: sqlite3.Connection,
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


def _rows(connection: sqlite3.Connection, statement: str, given: tuple[Any, ...]) -> Iterator[int]:
    for (row,) in connection.execute(statement, given):
        yield row
