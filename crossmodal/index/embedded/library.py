"""The photo library of an index: its roots, the files of its photos, and the trash for what the disk lost."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace

from crossmodal.errors import DataError, StoreDamaged
from crossmodal.index.embedded import local_files
from crossmodal.index.embedded.changes import Changes, RemovedPhoto
from crossmodal.index.embedded.connections import storable
from crossmodal.index.embedded.dialect import Connected, Connection
from crossmodal.index.embedded.local_files import KnownFile
from crossmodal.index.embedded.schema import IS_VIDEO
from crossmodal.index.embedded.seen_texts import delete_texts
from crossmodal.index.embedded.stored_document import (
    RESTORED,
    Whole,
    checksum,
    document_in_row,
    read_document,
    rewrite,
)
from crossmodal.index.objects import Stored
from crossmodal.records import IMAGE, TEXT, LocalFile, Record, below

__all__ = [
    "TRASH_DAYS",
    "Library",
    "Root",
    "Trashed",
    "is_trashed",
    "read_trashed",
    "restore",
    "trashed_checksum",
]

# How long the trash keeps what it has.
TRASH_DAYS = 30
_DAY_SECONDS = 86_400

# The fields of a record that the trash writes as JSON; its bytes have columns of their own.
_BYTES = ("content", "thumbnail")
_WRITTEN = tuple(field.name for field in fields(Record) if field.name not in (*_BYTES, "local", "keeps"))


# Captions that several files give. Without the first half SQLite reads all documents instead of an index.
_OF_SEVERAL = "(origin IS NOT NULL AND origin LIKE '%//%')"


@dataclass(frozen=True, slots=True)
class Root:
    """A folder of photos: its path, and how many files below it are in the index."""

    path: str
    files: int


@dataclass(frozen=True, slots=True)
class Trashed:
    """A photo in the trash: its id, the file in which it was, and when it went (seconds since 1970)."""

    photo: str
    file: str
    deleted: float

    @property
    def kept_until(self) -> float:
        """When the next run of indexing takes it out of the trash, in seconds since 1970."""
        return self.deleted + TRASH_DAYS * _DAY_SECONDS


class Library:
    """The roots, files and trash of one index; ``EmbeddedStore.library``.

    What changes something needs a store that is open for writing.
    """

    def __init__(self, connections: Connected, writing: threading.Lock, check: Callable[[], None]) -> None:
        self._connections = connections
        self._writing = writing
        self._check_writer = check

    def roots(self) -> list[Root]:
        """All roots in order of their paths."""
        select = (
            "SELECT roots.path, count(files.path) FROM roots LEFT JOIN files ON files.root = roots.id"
            " GROUP BY roots.id ORDER BY roots.path"
        )
        with self._connections.read() as connection:
            return [Root(*found) for found in connection.execute(select)]

    def folder(self, path: str) -> LocalFile | None:
        """The root of the absolute ``path`` and the path below it; None where it is in no root yet."""
        for root in self.root_paths():
            if (inside := below(root, path)) is not None:
                return LocalFile(root, inside)
        return None

    def root_paths(self) -> list[str]:
        """The paths of all roots, in their order."""
        with self._connections.read() as connection:
            return self._paths(connection)

    def file(self, file: LocalFile) -> KnownFile | None:
        """What is known of a file; None where it was never indexed."""
        with self._connections.read() as connection:
            return local_files.file_of(connection, file.root, file.path)

    def files_of(self, photo: str) -> list[LocalFile]:
        """The files in which the photo with that id lies."""
        with self._connections.read() as connection:
            return local_files.files_of(connection, photo)

    def files_below(self, folder: LocalFile) -> Iterator[tuple[LocalFile, str]]:
        """The files below a folder as of one commit, each with the id of its photo."""
        with self._connections.read() as connection:
            yield from local_files.files_below(connection, folder)

    def photos_below(self, folder: LocalFile) -> int:
        """How many photos lie below a folder of a root."""
        with self._connections.read() as connection:
            return len({photo for _, photo in local_files.files_below(connection, folder)})

    def photo_with(self, digest: str) -> str | None:
        """The id of a photo of this content, in the index or in the trash; None where there is none."""
        select = "SELECT {} FROM {} WHERE digest = ?"
        both = f"{select.format('id', 'documents')} UNION ALL {select.format('photo', 'trash')}"
        with self._connections.read() as connection:
            found = connection.execute(both, (digest, digest)).fetchone()
        return None if found is None else str(found[0])

    def digests(self) -> Iterator[str]:
        """The SHA-256 of each photo that has a vector, as of one commit."""
        select = (
            "SELECT digest FROM documents WHERE modality = 'image' AND has_vector != 0 AND digest IS NOT NULL"
        )
        with self._connections.read() as connection:
            for (digest,) in connection.execute(select):
                yield digest

    def captions_from(self, origin: str) -> Iterator[Record]:
        """The captions that the file ``origin`` gives, as of one commit: their ids, photos and origins."""
        select = f"SELECT id, photo_id, origin FROM documents WHERE origin = {{}} OR {_OF_SEVERAL}"
        with self._connections.read() as connection:
            found = connection.execute(select.format("CAST(? AS TEXT)"), (storable(origin),))
            for id, photo, origins in found:
                caption = Record(id, TEXT, photo_id=photo, origin=origins)
                if origin in caption.origins:
                    yield caption

    def moments_of(self, video: str) -> list[str]:
        """The ids of the moments of a video but the first, which is the video itself."""
        select = "SELECT id FROM documents WHERE photo_id = CAST(? AS TEXT) AND modality = 'image'"
        with self._connections.read() as connection:
            return [id for (id,) in connection.execute(select, (storable(video),))]

    def moments(self) -> set[str]:
        """The ids of all moments of videos, the first ones, which are the videos, too."""
        select = f"SELECT id FROM documents WHERE modality = ? AND {IS_VIDEO}"
        with self._connections.read() as connection:
            return {id for (id,) in connection.execute(select, (IMAGE,))}

    def copies(self) -> dict[str, list[str]]:
        """Of each photo that lies in several files, by its id, their absolute paths.

        A file under two names, by a link or a second mount point, is one; what is not there any more is none.
        """
        select = (
            "SELECT photo, roots.path, files.path FROM files JOIN roots ON roots.id = files.root"
            " WHERE photo IN (SELECT photo FROM files GROUP BY photo HAVING count(*) > 1)"
            " ORDER BY photo, root, files.path"
        )
        found: dict[str, list[str]] = {}
        with self._connections.read() as connection:
            for photo, root, path in connection.execute(select):
                found.setdefault(photo, []).append(LocalFile(root, path).absolute)
        different = {photo: _different_files(paths) for photo, paths in found.items()}
        return {photo: paths for photo, paths in different.items() if len(paths) > 1}

    def without_file(self) -> list[str]:
        """The photos that were no uploads and in whose files another content is now."""
        with self._connections.read() as connection:
            return local_files.without_file(connection)

    def is_restored(self, photo: str) -> bool:
        """Whether the photo was brought back from the trash, and its file isn't back yet."""
        with self._connections.read() as connection:
            return local_files.uploaded_as(connection, photo) == RESTORED

    def is_uploaded(self, photo: str) -> bool:
        """Whether the photo came without a file, and so stays without one."""
        with self._connections.read() as connection:
            return bool(local_files.uploaded_as(connection, photo))

    def trash(self) -> list[Trashed]:
        """What is in the trash, the last one first."""
        select = "SELECT photo, file, deleted FROM trash ORDER BY deleted DESC, photo"
        with self._connections.read() as connection:
            return [Trashed(*found) for found in connection.execute(select)]

    def add_root(self, folder: str) -> None:
        """Makes the absolute path ``folder`` a root, or a part of the one above it."""
        with self._changing() as connection:
            local_files.add_root(connection, folder)

    def move_root(self, path: str, to: str) -> int:
        """Says that what lay below the root ``path`` lies below ``to`` now; returns how many files.

        A folder inside of a root becomes one of its own. Raises DataError where there are no photos below
        ``path``, or where ``to`` is inside of another root or around it.
        """
        with self._changing() as connection:
            root = self._root(connection, path)
            for other in self._paths(connection):
                if other != path and below(other, to) is not None:
                    raise DataError(f"{to} lies in the root {other} already; index that one again instead.")
                if other != path and below(to, other) is not None:
                    raise DataError(
                        f"The root {other} lies in {to}; index {to} instead, which takes both in."
                    )
            connection.execute("UPDATE roots SET path = ? WHERE id = ?", (to, root))
            _move_origins(connection, path, to)
            (count,) = connection.execute("SELECT count(*) FROM files WHERE root = ?", (root,)).fetchone()
            return int(count)

    def remove_root(self, path: str) -> list[str]:
        """Forgets the root ``path``; the photos that lie nowhere else go to the trash, and are returned.

        Raises DataError where there is no such root.
        """
        with self._changing() as connection:
            root = self._root(connection, path)
            files = [file for file, _ in local_files.files_below(connection, LocalFile(path, ""))]
            gone = self._forget(connection, files)
            connection.execute("DELETE FROM roots WHERE id = ?", (root,))
            return gone

    def forget(self, files: Sequence[LocalFile]) -> list[str]:
        """Forgets files that are gone; photos that lie nowhere else go to the trash, and are returned."""
        with self._changing() as connection:
            return self._forget(connection, files)

    def withdraw_captions(self, origin: str, ids: Sequence[str]) -> None:
        """Says that the file ``origin`` doesn't give these captions any more; those of no other file go."""
        with self._changing() as connection:
            alone = []
            for id in ids:
                with suppress(StoreDamaged):
                    document = read_document(connection, TEXT, id)
                    if document is None or origin not in document.record.origins:
                        continue
                    others = [each for each in document.record.origins if each != origin]
                    if others:
                        rewrite(connection, replace(document, record=document.record.from_files(others)))
                    else:
                        alone.append(id)
            Changes(connection).delete(alone, captions=False, modality=TEXT)

    def forget_superseded(self, photos: Mapping[str, str | None]) -> None:
        """Takes those of ``photos`` to the trash in whose files another content is, and that lie nowhere.

        The values are the photos that are in these files now, which inherit what people said, where known.
        """
        with self._changing() as connection:
            for photo in local_files.without_file(connection, photos):
                if (heir := photos[photo]) is not None:
                    Changes(connection).hand_over(photo, heir)
                (removed,) = Changes(connection).remove_photos([photo])
                _throw_away(connection, removed, "")

    def restore(self, photos: Sequence[str]) -> list[str]:
        """Brings photos back from the trash, with their tags and captions; returns those that were there.

        They stay, whether there is a file or not, until their file is there and goes again.
        """
        with self._changing() as connection:
            return [photo for photo in photos if restore(connection, photo, uploaded=RESTORED)]

    def empty_trash(self, *, older_than_days: float = 0.0) -> int:
        """Deletes for good what went to the trash so long ago; returns how many photos."""
        with self._changing() as connection:
            before = time.time() - older_than_days * _DAY_SECONDS
            old = "SELECT photo FROM trash WHERE deleted <= ?"
            gone = f"{old} AND photo NOT IN (SELECT id FROM documents WHERE modality = '{IMAGE}')"
            delete_texts(connection, [photo for (photo,) in connection.execute(gone, (before,)).fetchall()])
            connection.execute(f"DELETE FROM trashed WHERE photo IN ({old})", (before,))
            return connection.execute("DELETE FROM trash WHERE deleted <= ?", (before,)).rowcount

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        self._check_writer()
        with self._writing, self._connections.write() as connection:
            yield connection

    def _forget(self, connection: Connection, files: Sequence[LocalFile]) -> list[str]:
        leaving: dict[str, list[LocalFile]] = {}
        for file in files:
            if (photo := local_files.photo_at(connection, file)) is not None:
                leaving.setdefault(photo, []).append(file)
        gone = [
            photo
            for photo, left in leaving.items()
            if len(left) == len(local_files.files_of(connection, photo))
            and not local_files.uploaded_as(connection, photo)
        ]
        # The documents before their files, as long as they say what they are; one in memory at a time.
        for photo in gone:
            (removed,) = Changes(connection).remove_photos([photo])
            _throw_away(connection, removed, leaving[photo][0].absolute)
        local_files.forget(connection, files)
        # What was said of the first file is read anew from another one.
        local_files.read_again(connection, leaving.keys() - set(gone))
        return gone

    def _root(self, connection: Connection, path: str) -> int:
        found = connection.execute("SELECT id FROM roots WHERE path = ?", (path,)).fetchone()
        if found is None:
            found = local_files.divide_root(connection, path)
        if found is None:
            listed = ", ".join(self._paths(connection)) or "none"
            raise DataError(f"{path} is no root of this index; its roots are: {listed}.")
        return int(found[0])

    def _paths(self, connection: Connection) -> list[str]:
        return [path for (path,) in connection.execute("SELECT path FROM roots ORDER BY path")]


def _different_files(paths: Sequence[str]) -> list[str]:
    """Those of ``paths`` that are there, of several names of one file the first."""
    files: dict[tuple[int, int], str] = {}
    for path in paths:
        with suppress(OSError):
            found = os.stat(path)  # noqa: PTH116  (bare speed in large libraries)
            files.setdefault((found.st_dev, found.st_ino), path)
    return list(files.values())


def is_trashed(connection: Connection, photo: str) -> bool:
    """Whether the photo with that id is in the trash."""
    select = "SELECT 1 FROM trash WHERE photo = CAST(? AS TEXT)"
    return connection.execute(select, (storable(photo),)).fetchone() is not None


def restore(connection: Connection, photo: str, *, uploaded: int) -> bool:
    """Brings one photo back from the trash, as ``StoredDocument`` has it; False where it isn't there."""
    named = (storable(photo),)
    found = connection.execute(
        "SELECT record, vector, content, thumbnail, checksum FROM trashed WHERE photo = CAST(? AS TEXT)"
        " ORDER BY number",
        named,
    )
    try:
        documents = [read_trashed(photo, *row) for row in found]
    except StoreDamaged:
        # It cannot come back; what is on disk is indexed anew.
        documents = []
    connection.execute("DELETE FROM trashed WHERE photo = CAST(? AS TEXT)", named)
    was_there = connection.execute("DELETE FROM trash WHERE photo = CAST(? AS TEXT)", named).rowcount
    if not documents:
        if was_there:
            # What was read in it goes with it.
            delete_texts(connection, [photo])
        return False
    Changes(connection).add_again(RemovedPhoto(photo, documents), uploaded=uploaded)
    return True


def trashed_checksum(
    text: bytes, vector: bytes | None, content: Stored | None, thumbnail: Stored | None
) -> int:
    """The checksum of a row of ``trashed``."""
    parts = (part.encode() if isinstance(part, str) else part for part in (text, vector, content, thumbnail))
    return checksum(b"".join(part or b"" for part in parts), len(text))


def read_trashed(
    photo: str,
    text: bytes,
    vector: bytes | None,
    content: Stored | None,
    thumbnail: Stored | None,
    known: int,
) -> Whole:
    """What a row of ``trashed`` holds; raises StoreDamaged."""
    if trashed_checksum(text, vector, content, thumbnail) != known:
        raise StoreDamaged("document", photo, 0, modality=IMAGE)
    written = json.loads(text)
    colour = written.pop("colour", None)
    return Whole(Record(**written), vector, content, thumbnail, colour)


def _move_origins(connection: Connection, path: str, to: str) -> None:
    """Says of captions that files below ``path`` gave that these lie below ``to``."""
    start = f"{path.rstrip('/')}/"
    rows = connection.execute(
        f"SELECT row FROM documents WHERE (origin >= ? AND origin < ?) OR {_OF_SEVERAL}",
        (start, f"{start[:-1]}0"),
    ).fetchall()
    for (row,) in rows:
        with suppress(StoreDamaged):
            document = document_in_row(connection, row)
            if document is not None:
                moved = document.record.from_files(
                    each if (inside := below(path, each)) is None else LocalFile(to, inside).absolute
                    for each in document.record.origins
                )
                rewrite(connection, replace(document, record=moved))


def _throw_away(connection: Connection, removed: RemovedPhoto, file: str) -> None:
    records = [whole.record for whole in removed.documents]
    digest = next((record.digest for record in records if record.id == removed.photo), None)
    connection.execute("DELETE FROM trash WHERE photo = CAST(? AS TEXT)", (storable(removed.photo),))
    connection.execute(
        "INSERT INTO trash (photo, deleted, file, digest) VALUES (CAST(? AS TEXT), ?, ?, ?)",
        (storable(removed.photo), time.time(), file, digest),
    )
    connection.execute("DELETE FROM trashed WHERE photo = CAST(? AS TEXT)", (storable(removed.photo),))
    # Where the photo was is no URI of its own, and is another place when it comes back.
    places = {record.local.absolute for record in records if record.local is not None}
    for number, whole in enumerate(removed.documents):
        record = whole.record
        if record.uri in places:
            record = replace(record, uri=None)
        written = {name: value for name in _WRITTEN if (value := getattr(record, name))}
        if whole.colour is not None:
            written["colour"] = whole.colour
        # With escapes, so that halves of characters can be written.
        text = json.dumps(written, default=str).encode()
        connection.execute(
            "INSERT INTO trashed (photo, number, record, vector, content, thumbnail, checksum)"
            " VALUES (CAST(? AS TEXT), ?, ?, ?, ?, ?, ?)",
            (
                storable(removed.photo),
                number,
                text,
                whole.vector,
                whole.original,
                whole.thumbnail,
                trashed_checksum(text, whole.vector, whole.original, whole.thumbnail),
            ),
        )
