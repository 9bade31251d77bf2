"""What an index says of itself: its counters, and what it knows by name."""

from __future__ import annotations

from dataclasses import dataclass

from crossmodal.errors import StoreFormat
from crossmodal.index.embedded.dialect import Connection

__all__ = ["State", "read_dimension", "read_meta", "read_state", "write_meta"]


@dataclass(frozen=True, slots=True)
class State:
    """What every commit changes: see the table ``state``."""

    sequence: int
    next_row: int
    tombstones_from: int


def read_state(connection: Connection) -> State:
    """The counters; raises ``StoreFormat`` if they are missing."""
    found = connection.execute("SELECT sequence, next_row, tombstones_from FROM state").fetchone()
    if found is None:
        raise StoreFormat("its counters are missing")
    return State(*found)


def read_meta(connection: Connection, name: str) -> str | None:
    """What the table ``meta`` has under ``name``."""
    found = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if found is None else str(found[0])


def write_meta(connection: Connection, name: str, value: str) -> None:
    """Puts ``value`` under ``name`` into the table ``meta``."""
    connection.execute(
        "INSERT INTO meta (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def read_dimension(connection: Connection) -> int | None:
    """The length of each vector; None until the index has a model or a vector."""
    found = read_meta(connection, "dimension")
    return None if found is None else int(found)
