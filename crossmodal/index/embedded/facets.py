"""How many documents have which value of a tag: all of them, or those that a filter lets through."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from crossmodal.index.embedded.connections import storable
from crossmodal.index.embedded.dialect import Connection
from crossmodal.index.embedded.tags import Kind
from crossmodal.index.protocols import Facet, FacetOrder, FacetRequest, FacetValue, Per
from crossmodal.records import Modality

__all__ = ["facet", "tag_values"]

# So much of a date, its digits each a d, is the year, the month, the day.
_CHARACTERS: dict[Per, int] = {"year": 4, "month": 7, "day": 10}
_DATE = "dddd-dd-dd"

_ORDERS: dict[FacetOrder, str] = {
    "count": "documents DESC, kind, found",
    "value": "kind, found",
    "-value": "kind DESC, found DESC",
}

# What stands behind a text and a slash, up to whatever doesn't begin so: a zero follows the slash.
_IS_BELOW = "value > CAST(? AS TEXT) AND value < CAST(? AS TEXT)"


def facet(
    connection: Connection,
    modality: Modality,
    request: FacetRequest,
    rows: AbstractSet[int] | None = None,
) -> Facet:
    """The values that ``request`` asks for, counted among the documents in ``rows`` (None: all)."""
    where = "modality = ? AND name = CAST(? AS TEXT) AND kind > 0"
    given: list[Any] = [modality, storable(request.tag)]
    value = "value"
    if request.per is not None:
        characters = _CHARACTERS[request.per]
        value = f"substr(value, 1, {characters})"
        where = (
            f"{where} AND kind = {Kind.STRING:d} AND {connection.dialect.begins('value', _DATE[:characters])}"
        )
    if request.below is not None:
        where, given = _one_level(where, given, request.below)
    if rows is not None:
        where, given = f"{where} AND row {connection.dialect.among}", [*given, json.dumps([*rows])]
    # A document has each value once, but several days of one month.
    counted = "count(*)" if request.per is None else "count(DISTINCT row)"
    found = connection.execute(
        f"SELECT kind, {value} AS found, {counted} AS documents, max(row) FROM tags WHERE {where}"
        f" GROUP BY kind, found ORDER BY {_ORDERS[request.order]} LIMIT ?",
        (*given, request.limit + 1),
    ).fetchall()
    (count,) = connection.execute(f"SELECT count(DISTINCT row) FROM tags WHERE {where}", given).fetchone()
    values = tuple(
        FacetValue(bool(one) if kind == Kind.BOOLEAN else one, documents, _id_of(connection, row))
        for kind, one, documents, row in found[: request.limit]
        # JSON has no way to write the others.
        if kind != Kind.NUMBER or math.isfinite(one)
    )
    return Facet(request.tag, count, values, len(found) > request.limit)


def tag_values(
    connection: Connection, modality: Modality, *, without: Sequence[str], longest: int
) -> list[tuple[str, str, int]]:
    """The tags and their texts of at most ``longest`` characters, and how many documents have each."""
    left_out = ", ".join("?" * len(without))
    found = connection.execute(
        "SELECT name, value, count(*) FROM tags WHERE modality = ? AND kind = ? AND length(value) <= ?"
        f" AND name NOT IN ({left_out}) GROUP BY name, value",
        (modality, Kind.STRING, longest, *without),
    )
    return found.fetchall()


def _one_level(where: str, given: list[Any], below: str) -> tuple[str, list[Any]]:
    where = f"{where} AND kind = {Kind.STRING:d}"
    if not below:
        return f"{where} AND value NOT LIKE '%/%'", given
    first, behind = storable(f"{below}/"), storable(f"{below}0")
    return (
        f"{where} AND {_IS_BELOW} AND substr(value, length(CAST(? AS TEXT)) + 1) NOT LIKE '%/%'",
        [*given, first, behind, first],
    )


def _id_of(connection: Connection, row: int) -> str:
    (id,) = connection.execute("SELECT id FROM documents WHERE row = ?", (row,)).fetchone()
    return str(id)
