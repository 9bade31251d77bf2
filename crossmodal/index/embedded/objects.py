"""The object stores of an index: which it writes to, what its rows name there, and what no row names.

Bytes come first and the row that names them is committed last, so that a row never names what isn't there,
and what a killed or failed write has left is named by none. Only who is in a transaction that writes puts,
and sweeps.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from crossmodal.errors import StoreDamaged
from crossmodal.index.embedded.dialect import Connected, Connection
from crossmodal.index.embedded.meta import read_meta, read_state
from crossmodal.index.object_store import object_store
from crossmodal.index.objects import ObjectGone, ObjectStorage, RowStorage, Stored

__all__ = ["COLUMNS", "ObjectPlaces", "Objects", "lost_objects", "read_places", "sweep", "write_places"]

_META = "objects"

# Where rows hold bytes or references.
COLUMNS = (
    ("contents", "content"),
    ("thumbnails", "content"),
    ("trashed", "content"),
    ("trashed", "thumbnail"),
)

# Of an index that never had more documents the objects are listed at once, of others in 256 parts.
_FEW_ROWS = 50_000
_PARTS = tuple(f"{number:02x}" for number in range(256))


@dataclass(frozen=True, slots=True)
class ObjectPlaces:
    """Where the bytes of one index lie: the addresses of ``folders``, of which it sweeps its ``own``.

    New bytes go to the folder ``writes``, "" for the rows. Each index has folders of its own, so that none
    takes what another one has put at the same address for its leavings; a restored copy reads what the
    original has put, and writes to a folder of its own.
    """

    writes: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)
    own: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """The address to which new bytes go; "" for the rows."""
        return self.folders.get(self.writes, "")

    def writing_to(self, address: str) -> ObjectPlaces:
        """The same with new bytes going to an address, "" for the rows, in a folder of its own."""
        if not address:
            return replace(self, writes="")
        folder = next((each for each in self.own if self.folders[each] == address), uuid.uuid4().hex[:16])
        own = self.own if folder in self.own else (*self.own, folder)
        return ObjectPlaces(folder, {**self.folders, folder: address}, own)

    def instead_of(self, other: ObjectPlaces) -> ObjectPlaces:
        """Those of a copy of the index that takes the place of another one, and owns what that one did."""
        owned = {folder: other.folders[folder] for folder in other.own}
        copy = ObjectPlaces(self.writes, {**self.folders, **owned}, other.own)
        return copy if self.writes in copy.own else copy.writing_to(self.address)


def read_places(connection: Connection) -> ObjectPlaces:
    """Where the bytes of an index lie."""
    text = read_meta(connection, _META)
    if text is None:
        return ObjectPlaces()
    held = json.loads(text)
    return ObjectPlaces(held["writes"], held["folders"], tuple(held["own"]))


def write_places(connection: Connection, places: ObjectPlaces) -> None:
    """Notes where the bytes of an index lie."""
    connection.execute("DELETE FROM meta WHERE name = ?", (_META,))
    if places.folders:
        connection.execute("INSERT INTO meta VALUES (?, ?)", (_META, json.dumps(asdict(places))))


class Objects:
    """The bytes of an index, whichever of its places they lie in."""

    def __init__(self, connections: Connected) -> None:
        self._connections = connections
        self._places = ObjectPlaces()

    @property
    def places(self) -> ObjectPlaces:
        """Where the bytes lie, as of the last commit."""
        with self._connections.read() as connection:
            self._places = read_places(connection)
        return self._places

    @property
    def storage(self) -> ObjectStorage:
        """Where new bytes go."""
        places = self.places
        return object_store(places.address, places.writes) if places.writes else RowStorage()

    def change(self, places: ObjectPlaces) -> None:
        """Has new bytes go elsewhere; raises SettingsError where nothing can be written there."""
        if places.writes:
            object_store(places.address, places.writes).begin()
        with self._connections.write() as connection:
            write_places(connection, places)

    def get(self, stored: Stored) -> bytes:
        """The bytes that a row holds or names; raises ObjectGone, ObjectsUnavailable."""
        if isinstance(stored, bytes):
            return RowStorage().get(stored)
        folder = stored.partition("/")[0]
        address = self._places.folders.get(folder) or self.places.folders.get(folder)
        if address is None:
            raise ObjectGone(f"{stored} lies in no store of this index")
        return object_store(address, folder).get(stored)

    def state(self) -> dict[str, Any] | None:
        """How the store is to which new bytes go, or else one that has some; None where there is none."""
        places = self.places
        folder = places.writes or next(iter(places.folders), "")
        return object_store(places.folders[folder], folder).state() if folder else None


def sweep(connection: Connection) -> int:
    """Deletes what lies in the index's own folders and no row names; returns how many objects.

    ``connection`` sees the last commit, in a transaction of a writer, so that nobody is about to name
    some of it. Raises ObjectsUnavailable.
    """
    places = read_places(connection)
    stores = [object_store(places.folders[folder], folder) for folder in places.own]
    swept = 0
    for start, named in _named(connection) if stores else ():
        for store in stores:
            left = store.list(start) - named
            # A database gives the lock of a transaction that was idle to others: then nothing is deleted.
            connection.execute("SELECT 1")
            store.delete(sorted(left))
            swept += len(left)
    return swept


def lost_objects(connection: Connection) -> Iterator[str | StoreDamaged]:
    """What rows name and no store has in that size; no bytes are read. Raises ObjectsUnavailable."""
    stores = [object_store(address, folder) for folder, address in read_places(connection).folders.items()]
    lost: set[str] = set()
    for start, named in _named(connection) if stores else ():
        lost |= named.difference(*(store.list(start) for store in stores))
    if not lost:
        return
    for part, table in (("original", "contents"), ("thumbnail", "thumbnails")):
        select = f"SELECT row, modality, id, content FROM {table} JOIN documents USING (row) ORDER BY row"
        for row, modality, id, stored in connection.execute(select):
            if stored in lost:
                yield StoreDamaged(part, id, row, modality=modality)
    for photo, *parts in connection.execute("SELECT photo, content, thumbnail FROM trashed ORDER BY photo"):
        if not lost.isdisjoint(parts):
            yield f"the object store lacks bytes of the photo {photo!r} in the trash"


def _named(connection: Connection) -> Iterator[tuple[str, set[str]]]:
    """Beginnings of digests, "" for all there are, and the references to them that rows hold."""
    reference = connection.dialect.reference
    each = " UNION ".join(f"SELECT {reference(column)} AS named FROM {table}" for table, column in COLUMNS)
    if read_state(connection).next_row <= _FEW_ROWS:
        yield "", {named for (named,) in connection.execute(each) if named is not None}
        return
    found = connection.execute(
        f"SELECT substr(named, 18, 2) AS start, named FROM ({each}) AS every"
        " WHERE named IS NOT NULL ORDER BY 1"
    )
    groups = groupby(found, itemgetter(0))
    group = next(groups, None)
    for start in _PARTS:
        # A damaged reference may begin with anything.
        while group is not None and group[0] < start:
            group = next(groups, None)
        if group is None or group[0] != start:
            yield start, set()
            continue
        yield start, {named for _, named in group[1]}
        group = next(groups, None)
