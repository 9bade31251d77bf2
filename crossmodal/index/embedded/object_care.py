"""Care of the object store of an index, by the one who may write it: sweeping it, and moving to another.

A photo is moved by putting its bytes where they belong and then changing the rows that name them, so that who
is killed meanwhile has lost nothing, and goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crossmodal.index.embedded.dialect import Connected, Connection, Dialect
from crossmodal.index.embedded.library import trashed_checksum
from crossmodal.index.embedded.objects import COLUMNS, Objects, read_places, sweep, write_places
from crossmodal.index.embedded.opening import open_for_reading, open_for_writing
from crossmodal.index.embedded.stored_document import checksum
from crossmodal.index.object_store import checked_objects
from crossmodal.index.objects import ObjectGone, Stored

__all__ = ["Moving", "move_objects", "sweep_objects"]

# What one commit takes.
_ROWS_AT_ONCE = 64
_BYTES_AT_ONCE = 32 << 20


@dataclass(slots=True)
class Moving:
    """How far a move is: ``done`` of ``total`` originals and thumbnails.

    ``lost`` are those that are damaged, or that no store has; they stay as they are. ``swept`` says how many
    objects were deleted in the end where they had been.
    """

    total: int = 0
    done: int = 0
    lost: int = 0
    swept: int = 0


def sweep_objects(folder: Path) -> int:
    """Deletes the objects of the index in ``folder`` that no row names, as deleted photos and killed writes
    leave them; returns how many.

    Raises StoreMissing, StoreLocked, ObjectsUnavailable.
    """
    with _writing(folder) as connections, connections.write() as connection:
        return sweep(connection)


def move_objects(folder: Path, objects: str, progress: Callable[[Moving], None]) -> Moving | None:
    """Moves originals and thumbnails of the index in ``folder`` to where ``objects`` says, as ``--objects``.

    None where they are there. What another index owns is copied. Others may read meanwhile; ``progress`` is
    called after each commit. Raises StoreLocked, StoreUnwritable, ObjectsUnavailable, and SettingsError for
    an address to which nothing can be written.
    """
    address = checked_objects(objects)
    with _writing(folder) as connections:
        held = Objects(connections)
        places = held.places.writing_to(address)
        moving = Moving()
        with connections.read() as connection:
            moving.total = sum(
                connection.execute(
                    f"SELECT count(*) FROM {table}"
                    f" WHERE {_elsewhere(connection.dialect, column, places.writes)}"
                ).fetchone()[0]
                for table, column in COLUMNS
            )
        if places == held.places and not moving.total:
            return None
        held.change(places)
        for table, column in COLUMNS:
            _move(connections, held, table, column, moving, progress)
        with connections.write() as connection:
            moving.swept = sweep(connection)
        _forget_empty_folders(connections)
        return moving


@contextmanager
def _writing(folder: Path) -> Iterator[Connected]:
    # First, so that a wrong folder doesn't become an empty index.
    open_for_reading(folder).close()
    connections, lock = open_for_writing(folder)
    try:
        yield connections
    finally:
        connections.close()
        if lock is not None:
            lock.release()


def _elsewhere(dialect: Dialect, column: str, folder: str) -> str:
    """The condition that what a column holds is not in ``folder``, "" for the rows themselves."""
    reference = dialect.reference(column)
    if not folder:
        return f"{reference} IS NOT NULL"
    return f"({column} IS NOT NULL AND coalesce(substr({reference}, 1, 16), '') != '{folder}')"


def _move(
    connections: Connected,
    objects: Objects,
    table: str,
    column: str,
    moving: Moving,
    progress: Callable[[Moving], None],
) -> None:
    storage, writes, key = objects.storage, objects.places.writes, _key(table)
    last = -1
    while True:
        found: dict[int, bytes] = {}
        with connections.read() as connection:
            elsewhere = _elsewhere(connection.dialect, column, writes)
            rows = connection.execute(
                f"SELECT {key} FROM {table} WHERE {key} > ? AND {column} IS NOT NULL AND {elsewhere}"
                f" ORDER BY {key} LIMIT {_ROWS_AT_ONCE}",
                (last,),
            ).fetchall()
        for (row,) in rows:
            last = row
            with connections.read() as connection:
                held, sound = _read(connection, table, row)
            # Damaged, or in no store.
            try:
                if sound:
                    found[row] = objects.get(held[column])
            except ObjectGone:
                sound = False
            moving.lost += not sound
            if sum(map(len, found.values())) > _BYTES_AT_ONCE:
                break
        if not rows:
            return
        # In the transaction, so that nobody sweeps them meanwhile.
        with connections.write() as connection:
            put = storage.put([*found.values()])
            for row, stored in zip(found, put, strict=True):
                _change(connection, table, column, row, stored)
        moving.done += len(found)
        progress(moving)


def _change(connection: Connection, table: str, column: str, row: int, stored: Stored) -> None:
    held, sound = _read(connection, table, row)
    if not sound:
        return
    connection.execute(
        f"UPDATE {table} SET {column} = ?, checksum = ? WHERE {_key(table)} = ?",
        (stored, _checksum(table, {**held, column: stored}, row), row),
    )


def _read(connection: Connection, table: str, row: int) -> tuple[dict[str, Any], bool]:
    """What a row holds by its columns, and whether its checksum says the same."""
    columns = ("record", "vector", "content", "thumbnail") if table == "trashed" else ("content",)
    select = f"SELECT checksum, {', '.join(columns)} FROM {table} WHERE {_key(table)} = ?"
    found = connection.execute(select, (row,)).fetchone()
    if found is None:
        # Another process deleted it meanwhile.
        return {}, False
    known, *parts = found
    held = dict(zip(columns, parts, strict=True))
    return held, known == _checksum(table, held, row)


def _key(table: str) -> str:
    return "rowid" if table == "trashed" else "row"


def _checksum(table: str, held: Mapping[str, Any], row: int) -> int:
    return trashed_checksum(*held.values()) if table == "trashed" else checksum(held["content"], row)


def _forget_empty_folders(connections: Connected) -> None:
    """Forgets the folders that no row names and that nothing is written to; they were swept."""
    with connections.write() as connection:
        places = read_places(connection)
        named = {places.writes}
        for table, column in COLUMNS:
            reference = connection.dialect.reference(column)
            select = f"SELECT DISTINCT substr({reference}, 1, 16) FROM {table}"
            named |= {folder for (folder,) in connection.execute(select) if folder is not None}
        left = {folder: address for folder, address in places.folders.items() if folder in named}
        own = tuple(folder for folder in places.own if folder in named)
        write_places(connection, replace(places, folders=left, own=own))
