"""The tables ``roots`` and ``files``: where photos lie on this machine.

A photo may lie in several files of one content. A file belongs to the outermost root above it, so that no
file is there twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from crossmodal.index.embedded.connections import storable
from crossmodal.index.embedded.dialect import Connection
from crossmodal.index.embedded.schema import IS_VIDEO
from crossmodal.index.embedded.stored_document import tags_of
from crossmodal.records import LocalFile, Record, below

__all__ = [
    "KnownFile",
    "add_root",
    "divide_root",
    "file_of",
    "files_below",
    "files_of",
    "forget",
    "photo_at",
    "place",
    "read_again",
    "remove_photos",
    "uploaded_as",
    "without_file",
]


# Of a video, where it says how many moments it has, and how many of these are there beside the first.
_MOMENTS = f"CASE WHEN {IS_VIDEO} THEN metadata END"
_MOMENTS_THERE = (
    f"CASE WHEN {IS_VIDEO} THEN (SELECT count(*) FROM documents AS part"
    " WHERE part.photo_id = files.photo AND part.modality = 'image') ELSE 0 END"
)


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file that was indexed: its signature, and the photo in it.

    ``photo`` is its id, ``digest`` the SHA-256 of its content, ``row`` where its document is.
    """

    photo: str
    digest: str | None
    signature: str
    content_hash: str
    row: int
    has_vector: bool
    has_content: bool
    mime_type: str | None
    moments: int | None
    parts: int

    @property
    def is_whole(self) -> bool:
        """Whether all moments are there, where it is a video."""
        return self.moments is None or self.parts + 1 >= self.moments


def add_root(connection: Connection, folder: str) -> LocalFile:
    """The root to which ``folder`` (absolute) belongs and its path below it; makes one where there is none.

    Roots inside of a new one are taken into it; their files are read once more, as the folders around each
    photo are others now.
    """
    roots: dict[str, int] = {path: id for id, path in connection.execute("SELECT id, path FROM roots")}
    for root in roots:
        if (inside := below(root, folder)) is not None:
            return LocalFile(root, inside)
    connection.execute("INSERT INTO roots (path) VALUES (?)", (folder,))
    (new,) = connection.execute("SELECT id FROM roots WHERE path = ?", (folder,)).fetchone()
    for root, id in roots.items():
        if inside := below(folder, root):
            connection.execute(
                "UPDATE files SET root = ?, path = CAST(? AS TEXT) || path, signature = '' WHERE root = ?",
                (new, f"{inside}/", id),
            )
            connection.execute("DELETE FROM roots WHERE id = ?", (id,))
    return LocalFile(folder, "")


def divide_root(connection: Connection, folder: str) -> tuple[int] | None:
    """Makes the folder ``folder`` inside of a root one of its own; its id, None where no photo is there."""
    for id, root in connection.execute("SELECT id, path FROM roots").fetchall():
        if not (inside := below(root, folder)):
            continue
        if next(files_below(connection, LocalFile(root, inside)), None) is None:
            continue
        connection.execute("INSERT INTO roots (path) VALUES (?)", (folder,))
        (new,) = connection.execute("SELECT id FROM roots WHERE path = ?", (folder,)).fetchone()
        connection.execute(
            "UPDATE files SET root = ?, path = substr(path, ?), signature = ''"
            " WHERE root = ? AND path >= ? AND path < ?",
            (new, len(inside) + 2, id, f"{inside}/", f"{inside}0"),
        )
        return (int(new),)
    return None


def place(connection: Connection, records: Iterable[Record]) -> None:
    """Notes that the photos ``records`` lie in the files that they name."""
    for record in records:
        if (local := record.local) is None:
            continue
        root = _root_id(connection, local.root)
        if root is None:
            inside = add_root(connection, local.root)
            root = _root_id(connection, inside.root)
            local = LocalFile(inside.root, f"{inside.path}/{local.path}".lstrip("/"), local.signature)
        connection.execute("DELETE FROM files WHERE root = ? AND path = ?", (root, local.path))
        connection.execute(
            "INSERT INTO files (root, path, photo, signature) VALUES (?, ?, CAST(? AS TEXT), ?)",
            (root, local.path, storable(record.id), local.signature),
        )


def file_of(connection: Connection, root: str, path: str) -> KnownFile | None:
    """What is known of the file at ``path`` below ``root``, None where it was never indexed."""
    found = connection.execute(
        "SELECT files.photo, documents.digest, files.signature, content_hash, row, has_vector,"
        f" content_bytes IS NOT NULL, mime_type, {_MOMENTS}, {_MOMENTS_THERE} FROM files"
        " JOIN roots ON roots.id = files.root"
        " JOIN documents ON documents.modality = 'image' AND documents.id = files.photo"
        " WHERE roots.path = ? AND files.path = ?",
        (root, path),
    ).fetchone()
    if found is None:
        return None
    values = [*found]
    values[-2] = _moments(values[-2])
    return KnownFile(*values)


def photo_at(connection: Connection, local: LocalFile) -> str | None:
    """The id of the photo that lies in the file ``local``."""
    found = file_of(connection, local.root, local.path)
    return None if found is None else found.photo


def files_of(connection: Connection, photo: str) -> list[LocalFile]:
    """The files in which the photo with that id lies."""
    found = connection.execute(
        "SELECT roots.path, files.path, signature FROM files JOIN roots ON roots.id = files.root"
        " WHERE photo = CAST(? AS TEXT) ORDER BY files.root, files.path",
        (storable(photo),),
    )
    return [LocalFile(*each) for each in found]


def files_below(connection: Connection, folder: LocalFile) -> Iterator[tuple[LocalFile, str]]:
    """The files below ``folder`` of a root, by path, each with the id of its photo."""
    start = f"{folder.path}/" if folder.path else ""
    # "0" comes behind "/".
    end = f"{folder.path}0" if folder.path else "\U0010ffff"
    found = connection.execute(
        "SELECT files.path, signature, photo FROM files JOIN roots ON roots.id = files.root"
        " WHERE roots.path = ? AND files.path >= ? AND files.path < ? ORDER BY files.path",
        (folder.root, start, end),
    )
    for path, signature, photo in found:
        yield LocalFile(folder.root, path, signature), photo


def forget(connection: Connection, files: Iterable[LocalFile]) -> None:
    """Forgets ``files``."""
    connection.executemany(
        "DELETE FROM files WHERE root = (SELECT id FROM roots WHERE path = ?) AND path = ?",
        [(file.root, file.path) for file in files],
    )


def without_file(connection: Connection, photos: Iterable[str] | None = None) -> list[str]:
    """Those of ``photos`` (None: of all) that were no uploads and lie in no file any more."""
    select = (
        "SELECT id FROM documents WHERE modality = 'image' AND uploaded = 0 AND photo_id IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM files WHERE files.photo = documents.id)"
    )
    if photos is None:
        return [id for (id,) in connection.execute(select)]
    return [
        photo
        for photo in photos
        if connection.execute(f"{select} AND id = CAST(? AS TEXT)", (storable(photo),)).fetchone()
    ]


def read_again(connection: Connection, photos: Iterable[str]) -> None:
    """Lets the next run read the files of these photos, whatever they look like."""
    connection.executemany(
        "UPDATE files SET signature = '' WHERE photo = CAST(? AS TEXT)",
        [(storable(photo),) for photo in photos],
    )


def uploaded_as(connection: Connection, photo: str) -> int:
    """``StoredDocument.uploaded`` of the photo with that id; 0 where there is none."""
    select = "SELECT uploaded FROM documents WHERE modality = 'image' AND id = CAST(? AS TEXT)"
    found = connection.execute(select, (storable(photo),)).fetchone()
    return 0 if found is None else int(found[0])


def remove_photos(connection: Connection, photos: Sequence[str]) -> None:
    """Forgets all files of these photos."""
    connection.executemany(
        "DELETE FROM files WHERE photo = CAST(? AS TEXT)", [(storable(photo),) for photo in photos]
    )


def _root_id(connection: Connection, path: str) -> int | None:
    found = connection.execute("SELECT id FROM roots WHERE path = ?", (path,)).fetchone()
    return None if found is None else int(found[0])


def _moments(metadata: str | None) -> int | None:
    with suppress(ValueError, AttributeError):
        moments = None if metadata is None else tags_of(metadata).get("moments")
        return moments if isinstance(moments, int) else None
    # What is damaged is said where the document is read.
    return None
