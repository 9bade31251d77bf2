"""How far a vector database has come, as ``status``, ``/readyz`` and ``/metrics`` tell it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from crossmodal.errors import BackendUnavailable
from crossmodal.index.embedded.vector_source import VectorSnapshot, VectorSource
from crossmodal.index.following.database import Position, VectorDatabase
from crossmodal.index.in_time import in_time

__all__ = ["MOST_LATER", "backend_state", "position_of", "rows_behind", "seen_state"]

# So many rows that the database doesn't have yet are compared beside it; with more a search waits.
MOST_LATER = 2000

# To connect and to read a position. Milvus Lite has to start a process for that.
_LOOKING_SECONDS = 4.0
_STARTING_SECONDS = 30.0


def position_of(database: VectorDatabase) -> Position | None:
    """How far the collection has come; None also for one that was made with other parameters."""
    position = database.position()
    return position if position is not None and position.made_with == database.made_with else None


def rows_behind(position: Position, snapshot: VectorSnapshot) -> int:
    """How many rows of ``snapshot`` a collection at ``position`` doesn't have."""
    if position.store != snapshot.store_id or position.sequence > snapshot.sequence:
        return snapshot.count
    return snapshot.rows_added(position.next_row)


def backend_state(
    where: str, behind: int | None, error: Exception | None, *, empty: bool = False
) -> dict[str, Any]:
    """``where`` it is, its ``state``, how many rows it is ``behind``, and what is wrong (``error``, or None).

    The state is away, filling (a search would wait until more is there) or ready. ``behind`` is None where
    that isn't known, ``empty`` says that there is nothing to be had.
    """
    filling = not empty and (behind is None or behind > MOST_LATER)
    return {
        "where": where,
        "state": "away" if error is not None else "filling" if filling else "ready",
        "behind": behind,
        "error": None if error is None else str(error),
    }


def seen_state(
    source: VectorSource, connect: Callable[[], VectorDatabase] | None, where: str, *, local: bool
) -> dict[str, Any]:
    """The ``backend_state`` of the collection that ``connect`` opens, asked once; nothing is brought there.

    ``connect`` is None for a database that has not been made yet. Takes four seconds at most, unless it
    is ``local``. Raises MissingExtra.
    """
    with source.snapshot() as snapshot:
        if snapshot.dimension is None:
            return backend_state(where, 0, None, empty=True)
        everything = snapshot.count
    seconds = _STARTING_SECONDS if local else _LOOKING_SECONDS
    try:
        position = (
            None
            if connect is None
            else in_time(seconds, f"{where}, which --backend names,", partial(_look, connect))
        )
    except BackendUnavailable as error:
        return backend_state(where, None, error)
    if position is None:
        return backend_state(where, everything, None)
    with source.snapshot() as snapshot:
        return backend_state(where, rows_behind(position, snapshot), None)


def _look(connect: Callable[[], VectorDatabase]) -> Position | None:
    database = connect()
    try:
        return position_of(database)
    finally:
        database.close()
