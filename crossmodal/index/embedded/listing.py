"""Documents one after the other, by id or by a tag, all of them or those that a filter lets through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice

from crossmodal.deadlines import check_deadline
from crossmodal.filters import MODALITY_FIELD, And, Filter, Not, Or
from crossmodal.filters.sorting import Order, OrderedValue, Place
from crossmodal.index.embedded.connections import storable
from crossmodal.index.embedded.dialect import Connection, Dialect
from crossmodal.index.embedded.stored_document import read_document
from crossmodal.index.embedded.tags import Kind, rows_that_match
from crossmodal.metadata.fields import LATITUDE, LONGITUDE
from crossmodal.records import IMAGE, Modality, Record

__all__ = ["coordinates", "list_documents", "matching_ids", "rows_of"]

# A document's row, its id, and the value that it stands by.
_Candidate = tuple[int, str, OrderedValue | None]


def list_documents(
    connection: Connection,
    modality: Modality,
    limit: int,
    *,
    filter: Filter | None = None,
    order: Order | None = None,
    after: Place | None = None,
) -> list[Record]:
    """The first ``limit`` documents behind ``after`` that match ``filter``, in ``order`` or by id."""
    rows = None if filter is None else rows_of(connection, modality, filter)
    if rows is not None and not rows:
        return []
    candidates = (
        _by_id(connection, modality, "" if after is None else after.id)
        if order is None
        else _by_tag(connection, modality, order, after, rows)
    )

    def records() -> Iterator[Record]:
        for row, id, value in candidates:
            if rows is not None and row not in rows:
                continue
            document = read_document(connection, modality, id)
            # Of several values of one document only the first counts.
            if document is not None and (
                order is None or value is None or order.value_of(document.record.all_tags) == value
            ):
                yield document.record

    return list(islice(records(), limit))


def matching_ids(
    connection: Connection, modality: Modality, filter: Filter, limit: int | None = None
) -> list[str]:
    """The ids of the first ``limit`` documents that match, or of all, in the order of their bytes."""
    rows = rows_of(connection, modality, filter)
    matching = (id for row, id, _ in _by_id(connection, modality, "") if row in rows)
    return list(islice(matching, limit)) if rows else []


def coordinates(connection: Connection, filter: Filter | None = None) -> list[tuple[str, float, float]]:
    """Id, latitude and longitude in degrees of the photos that have them and match, by id."""
    rows = None if filter is None else rows_of(connection, IMAGE, filter)
    select = (
        "SELECT row, value FROM tags WHERE modality = ? AND name = ? AND kind = ? AND value BETWEEN ? AND ?"
    )
    number = connection.dialect.number
    latitudes, longitudes = (
        dict[int, float](
            connection.execute(select, (IMAGE, name, Kind.NUMBER, number(-most), number(most))).fetchall()
        )
        for name, most in ((LATITUDE, 90), (LONGITUDE, 180))
    )
    check_deadline()
    placed = [row for row in latitudes if row in longitudes and (rows is None or row in rows)]
    found = connection.execute(
        f"SELECT row, id FROM documents WHERE row {connection.dialect.among} ORDER BY id",
        (json.dumps(placed),),
    )
    return [(id, latitudes[row], longitudes[row]) for row, id in found]


def _by_id(connection: Connection, modality: Modality, after: str) -> Iterator[_Candidate]:
    for row, id in connection.execute(
        "SELECT row, id FROM documents WHERE modality = ? AND id > CAST(? AS TEXT) ORDER BY id",
        (modality, storable(after)),
    ):
        yield row, id, None


def _by_tag(
    connection: Connection,
    modality: Modality,
    order: Order,
    after: Place | None,
    rows: set[int] | None,
) -> Iterator[_Candidate]:
    name = storable(order.tag)
    behind = None if after is None else after.value
    # Before their documents are looked for.
    among, listed = (
        ("", ()) if rows is None else (f" AND tags.row {connection.dialect.among}", (json.dumps([*rows]),))
    )
    if after is None or behind is not None:
        kinds = [Kind.BOOLEAN, Kind.NUMBER, Kind.STRING]
        if order.descending:
            kinds.reverse()
        for kind in kinds if behind is None else kinds[kinds.index(Kind(behind[0])) :]:
            ranges = (
                [("", ())]
                if behind is None or kind != behind[0]
                else _beyond(connection.dialect, behind, after, order)
            )
            for condition, given in ranges:
                place = modality, name, kind
                yield from _of_kind(connection, place, condition + among, (*given, *listed), order)
    yield from _without_tag(connection, modality, name, after.id if after and behind is None else "")


def _beyond(
    dialect: Dialect, value: OrderedValue, after: Place | None, order: Order
) -> list[tuple[str, tuple[object, ...]]]:
    """What stands behind a place among values of its kind: equal ones with a later id, then further ones."""
    assert after is not None
    is_text = value[0] == Kind.STRING
    bound, cast = (
        (storable(str(value[1])), "CAST(? AS TEXT)") if is_text else (dialect.number(float(value[1])), "?")
    )
    return [
        (f" AND value = {cast} AND documents.id > CAST(? AS TEXT)", (bound, storable(after.id))),
        (f" AND value {'<' if order.descending else '>'} {cast}", (bound,)),
    ]


def _of_kind(
    connection: Connection,
    place: tuple[object, object, Kind],
    condition: str,
    given: tuple[object, ...],
    order: Order,
) -> Iterator[_Candidate]:
    # CROSS JOIN keeps the order of the tables: the tags come as they lie, and only equal ones are sorted.
    for row, id, value in connection.execute(
        "SELECT tags.row, documents.id, value FROM tags CROSS JOIN documents ON documents.row = tags.row"
        f" WHERE tags.modality = ? AND name = CAST(? AS TEXT) AND kind = ?{condition}"
        f" ORDER BY value{' DESC' if order.descending else ''}, documents.id",
        (*place, *given),
    ):
        yield row, id, (int(place[2]), bool(value) if place[2] == Kind.BOOLEAN else value)


def _without_tag(
    connection: Connection, modality: Modality, name: object, after: str
) -> Iterator[_Candidate]:
    for row, id in connection.execute(
        "SELECT row, id FROM documents WHERE modality = ? AND id > CAST(? AS TEXT) AND row NOT IN"
        " (SELECT row FROM tags WHERE modality = ? AND name = CAST(? AS TEXT) AND kind > 0) ORDER BY id",
        (modality, storable(after), modality, name),
    ):
        yield row, id, None


def rows_of(connection: Connection, modality: Modality, filter: Filter) -> set[int]:
    """The rows of all documents of one modality that match, with a vector or without."""
    match filter:
        case And(parts) if parts:
            return set.intersection(*(rows_of(connection, modality, part) for part in parts))
        case Or(parts):
            return set().union(*(rows_of(connection, modality, part) for part in parts))
        case Not(part):
            return _all_rows(connection, modality) - rows_of(connection, modality, part)
        case And():
            return _all_rows(connection, modality)
        case _ if _of_modality(filter):
            return _all_rows(connection, modality) if filter.matches(modality, {}) else set()
        case _:
            return set(rows_that_match(connection, modality, filter))  # type: ignore[arg-type]


def _of_modality(filter: Filter) -> bool:
    return getattr(filter, "field", None) == MODALITY_FIELD


def _all_rows(connection: Connection, modality: Modality) -> set[int]:
    return {row for (row,) in connection.execute("SELECT row FROM documents WHERE modality = ?", (modality,))}
