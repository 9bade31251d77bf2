"""The vectors of another model, collected beside those of an index until they take their place together.

They lie in a table of the index that searches don't know, so that whoever is killed while they are made goes
on where it was. In the end they are put into a copy, which takes the place of the index: readers open it anew
and compare its model with theirs.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Set
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, get_args

from crossmodal.errors import StoreDamaged, StoreFormat, StoreUnwritable
from crossmodal.index.embedded.changes import Changes
from crossmodal.index.embedded.connections import Connections
from crossmodal.index.embedded.copies import replace_by_copy
from crossmodal.index.embedded.hubness_rows import take_banks
from crossmodal.index.embedded.library import read_trashed, trashed_checksum
from crossmodal.index.embedded.meta import read_meta
from crossmodal.index.embedded.objects import Objects
from crossmodal.index.embedded.schema import vector_table
from crossmodal.index.embedded.sqlite_dialect import SQLiteConnection
from crossmodal.index.embedded.stored_document import (
    Whole,
    checksum,
    document_in_row,
    rewrite,
    stored_part,
)
from crossmodal.index.embedded.writer_lock import WriterLock
from crossmodal.index.objects import ObjectGone, Stored
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.registry import banks_of
from crossmodal.records import IMAGE, MODALITIES, Record

__all__ = ["PLACES", "NewVectors", "Place", "Source", "Waiting", "put_in_place"]

# The tables whose documents have vectors.
Place = Literal["documents", "trashed"]
# What a vector was made of: a photo's original, its thumbnail, or a caption.
Source = Literal["original", "thumbnail", "text"]
PLACES: tuple[Place, ...] = get_args(Place)

# A document that changed since has another checksum; rows of the trash may get another number.
_TABLE = (
    "CREATE TABLE new_vectors (place TEXT, row INTEGER, checksum INTEGER, made_of TEXT, vector BLOB,"
    " PRIMARY KEY (place, row)) WITHOUT ROWID"
)
_TARGET = "new_vectors"
_HAS_VECTOR: Mapping[Place, str] = {"documents": "has_vector", "trashed": "vector IS NOT NULL"}
_JOINED = (
    "{place} AS old LEFT JOIN new_vectors AS new ON new.place = '{place}' AND new.row = old.rowid"
    " AND new.checksum = old.checksum"
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A document without a new vector: ``record`` has the thumbnail, and of the trash the original."""

    row: int
    record: Record


class NewVectors:
    """The vectors that the model ``identity`` makes of what the index in ``folder`` holds; close it.

    What a run before has left for the same model is there already. Nobody else can write to the index
    meanwhile. Raises StoreLocked, StoreUnwritable.
    """

    def __init__(self, folder: Path, identity: ModelIdentity) -> None:
        self._lock = WriterLock(folder)
        try:
            self._connections = Connections.open_writer(folder)
        except BaseException:
            self._lock.release()
            raise
        self._objects = Objects(self._connections)
        try:
            self._begin(identity)
        except BaseException:
            self.__exit__()
            raise

    def _begin(self, identity: ModelIdentity) -> None:
        with self._connections.write() as connection:
            begun = read_meta(connection, _TARGET)
            if begun is None or ModelIdentity.from_json(json.loads(begun)) != identity:
                connection.execute("DROP TABLE IF EXISTS new_vectors")
                connection.execute(_TABLE)
                target = json.dumps(identity.to_json())
                connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_TARGET, target))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._connections.close()
        self._lock.release()

    def made_of(self, place: Place) -> dict[Source, int]:
        """How many documents have their new vector already, by what it was made of."""
        select = f"SELECT made_of, count(*) FROM {_JOINED.format(place=place)}"
        with self._connections.read() as connection:
            return dict(connection.execute(f"{select} WHERE new.row IS NOT NULL GROUP BY made_of").fetchall())

    def rows(self, place: Place) -> list[int]:
        """The rows of the documents that wait for their vector, ascending."""
        with self._connections.read() as connection:
            return _rows_without(connection, place)

    def waiting(self, place: Place) -> Iterator[Waiting]:
        """The documents of ``rows``, without those that are damaged; raises ObjectsUnavailable."""
        for row in self.rows(place):
            with suppress(StoreFormat):
                with self._connections.read() as connection:
                    whole = _whole(connection, place, row)
                if whole is not None:
                    content, thumbnail = self._bytes(whole.original), self._bytes(whole.thumbnail)
                    yield Waiting(row, replace(whole.record, content=content, thumbnail=thumbnail))

    def _bytes(self, stored: Stored | None) -> bytes | None:
        with suppress(ObjectGone):
            return None if stored is None else self._objects.get(stored)
        return None

    def without_source(self) -> int:
        """How many photos have a vector, but nothing that another could be made of."""
        select = (
            f"SELECT count(*) FROM documents WHERE modality = '{IMAGE}' AND has_vector"
            " AND content_bytes IS NULL AND thumbnail_bytes IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM files WHERE photo = documents.id)"
        )
        with self._connections.read() as connection:
            return int(connection.execute(select).fetchone()[0])

    def add(self, place: Place, vectors: Mapping[int, bytes], made_of: Source) -> None:
        """Stores the vectors, float32, of some rows; they are on disk afterwards."""
        with self._connections.write() as connection:
            connection.executemany(
                f"INSERT OR REPLACE INTO new_vectors SELECT '{place}', rowid, checksum, ?, ? FROM {place}"
                " WHERE rowid = ?",
                [(made_of, vector, row) for row, vector in vectors.items()],
            )


def put_in_place(folder: Path, identity: ModelIdentity, failed: Mapping[Place, Set[int]]) -> None:
    """Has the index in ``folder`` go over to the vectors that were collected for the model ``identity``.

    The rows that ``failed`` lose theirs. Raises StoreUnwritable, where others changed the index meanwhile
    too; it is then as it was.
    """

    def change(file: Path) -> None:
        with closing(sqlite3.connect(file, isolation_level=None, factory=SQLiteConnection)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            if any(set(_rows_without(connection, place)) != failed[place] for place in PLACES):
                raise StoreUnwritable(
                    f"The index in {folder} was changed by another process meanwhile; convert it again, "
                    "which encodes no more than what is new."
                )
            _replace_vectors(connection, failed["documents"])
            _replace_in_trash(connection)
            _bind(connection, identity)
            connection.execute("COMMIT")

    replace_by_copy(folder, change)


def _rows_without(connection: SQLiteConnection, place: Place) -> list[int]:
    select = f"SELECT old.rowid FROM {_JOINED.format(place=place)}"
    where = f"WHERE new.row IS NULL AND old.{_HAS_VECTOR[place]} ORDER BY 1"
    return [row for (row,) in connection.execute(f"{select} {where}")]


def _whole(connection: SQLiteConnection, place: Place, row: int) -> Whole | None:
    if place == "trashed":
        select = "SELECT photo, record, vector, content, thumbnail, checksum FROM trashed WHERE rowid = ?"
        return read_trashed(*connection.execute(select, (row,)).fetchone())
    document = document_in_row(connection, row)
    if document is None:
        return None
    whole = Whole(document.record)
    with suppress(StoreDamaged):
        whole.thumbnail = stored_part(connection, document, "thumbnail")
    return whole


def _replace_vectors(connection: SQLiteConnection, failed: Set[int]) -> None:
    run = connection.execute
    for modality in MODALITIES:
        # Without hubness until the new model's banks are taken.
        table = vector_table(modality)
        run(f"UPDATE {table} SET hubness = 0")
        rows = [row for (row,) in run(f"SELECT row FROM {table}")]
        for row in rows:
            found = run("SELECT vector FROM new_vectors WHERE place = 'documents' AND row = ?", (row,))
            new = found.fetchone()
            if new is None or row in failed:
                run(f"DELETE FROM {table} WHERE row = ?", (row,))
            else:
                values = (*new, checksum(new[0], row), row)
                run(f"UPDATE {table} SET vector = ?, checksum = ? WHERE row = ?", values)
    for row in failed:
        # One that is damaged stays so, and is said to be.
        with suppress(StoreFormat):
            if (document := document_in_row(connection, row)) is not None:
                rewrite(connection, replace(document, has_vector=False))


def _replace_in_trash(connection: SQLiteConnection) -> None:
    run = connection.execute
    for (row,) in run("SELECT rowid FROM trashed WHERE vector IS NOT NULL").fetchall():
        select = "SELECT photo, record, vector, content, thumbnail, checksum FROM trashed WHERE rowid = ?"
        photo, text, old, content, thumbnail, known = run(select, (row,)).fetchone()
        with suppress(StoreDamaged):
            read_trashed(photo, text, old, content, thumbnail, known)
            found = run("SELECT vector FROM new_vectors WHERE place = 'trashed' AND row = ?", (row,))
            (vector,) = found.fetchone() or (None,)
            run(
                "UPDATE trashed SET vector = ?, checksum = ? WHERE rowid = ?",
                (vector, trashed_checksum(text, vector, content, thumbnail), row),
            )


def _bind(connection: SQLiteConnection, identity: ModelIdentity) -> None:
    run = connection.execute
    run("DROP TABLE new_vectors")
    run("DELETE FROM meta WHERE name = ?", (_TARGET,))
    for name, value in (("model", json.dumps(identity.to_json())), ("dimension", str(identity.dimension))):
        run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
    run("DELETE FROM banks")
    if (banks := banks_of(identity)) is not None:
        take_banks(connection, banks)
    Changes(connection).count_again()
