"""From an index of format 4 to 7 to today's: in one transaction, so that it is done or not begun.

Format 4 knew a photo by the path of its file, and a caption by its number. Ids stay what they are; what is
new is the digest of each photo, and where it lies. To the later ones tables, columns and indexes are added,
and what they hold stays as it is; colours are computed from thumbnails, and hubness from vectors.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from crossmodal.errors import StoreMissing
from crossmodal.images.previews import average_colour
from crossmodal.index.embedded import local_files, tags
from crossmodal.index.embedded.changes import Changes
from crossmodal.index.embedded.connections import Connections, storable
from crossmodal.index.embedded.dialect import Connection
from crossmodal.index.embedded.hubness_rows import take_banks
from crossmodal.index.embedded.meta import read_meta
from crossmodal.index.embedded.schema import (
    BANKS,
    COLOURS,
    FORMAT,
    HUBNESS,
    INDEX_FILE,
    LIBRARY,
    LIBRARY_INDEXES,
    SEEN_TEXTS,
    WORDS,
    vector_table,
)
from crossmodal.index.embedded.sqlite_dialect import SQLiteConnection
from crossmodal.index.embedded.stored_document import (
    BETWEEN,
    StoredDocument,
    checksum,
    documents_in_order,
    rewrite,
    tags_of,
)
from crossmodal.index.embedded.writer_lock import WriterLock
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.registry import banks_of
from crossmodal.records import IMAGE, MODALITIES, LocalFile, Record, below, digest_of, photo_id

__all__ = ["OLD_ORIGIN", "adopt_files", "format_of", "upgrade"]

# Of a path: what a client named has any other id.
_DATA_SET_ID = re.compile(r"[0-9a-f]{20}")

# The origin of captions of which the file that gave them was not noted.
OLD_ORIGIN = ""

_OLD_FIELDS = (
    "row, modality, id, content_hash, text, uri, mime_type, photo_id, tags, has_vector, content_bytes,"
    " thumbnail_bytes, checksum"
)


def format_of(folder: Path) -> int | None:
    """The format of the index in ``folder``; None where there is no index that SQLite can open."""
    path = folder / INDEX_FILE
    if not path.is_file():
        return None
    try:
        connections = Connections.open(folder)
    except StoreMissing:
        return None
    try:
        with connections.read() as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connections.close()


def upgrade(folder: Path, progress: Callable[[int, int], None]) -> list[str]:
    """Makes the index in ``folder`` one of today's; says what is damaged, and so left out.

    Its format is one of ``schema.UPGRADABLE``. ``progress`` is called with the number of documents done and
    in all. Raises ``StoreLocked`` while another process writes to it, ``StoreUnwritable``, ``StoreDamaged``.
    """
    lock = WriterLock(folder)
    try:
        connections = Connections.open_writer(folder)
        try:
            with connections.write() as connection:
                return _upgrade(connection, progress)
        finally:
            connections.close()
    finally:
        lock.release()


def _upgrade(connection: SQLiteConnection, progress: Callable[[int, int], None]) -> list[str]:
    run = connection.execute
    (found,) = run("PRAGMA user_version").fetchone()
    if found == 4:
        _add_columns(connection)
    _add_hubness(connection)
    # Of formats 4 and 5; ``parts_of_photos`` has its place.
    run("DROP INDEX IF EXISTS captions_of_photos")
    for statement in f"{LIBRARY}\n{LIBRARY_INDEXES}\n{SEEN_TEXTS};\n{COLOURS};\n{BANKS}".split(";\n"):
        run(statement)
    left_out = _rewrite_all(connection, progress) if found == 4 else []
    _add_colours(connection, progress)
    _take_banks(connection)
    run(f"PRAGMA user_version = {FORMAT}")
    return left_out


def _add_columns(connection: SQLiteConnection) -> None:
    for column in (
        "metadata TEXT NOT NULL DEFAULT '{}'",
        "digest TEXT",
        "origin TEXT",
        "uploaded INTEGER NOT NULL DEFAULT 1",
    ):
        connection.execute(f"ALTER TABLE documents ADD COLUMN {column}")


def _add_hubness(connection: SQLiteConnection) -> None:
    """What format 8 has beside each vector, where it isn't there yet."""
    for modality in MODALITIES:
        table = vector_table(modality)
        columns = {name for _, name, *_ in connection.execute(f"PRAGMA table_info('{table}')")}
        if "hubness" not in columns:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {HUBNESS}")


def _take_banks(connection: SQLiteConnection) -> None:
    """Computes the hubness of all documents, where the index's model is at hand and has banks."""
    model = read_meta(connection, "model")
    if model is not None and (banks := banks_of(ModelIdentity.from_json(json.loads(model)))) is not None:
        take_banks(connection, banks)


def _add_colours(connection: SQLiteConnection, progress: Callable[[int, int], None]) -> None:
    """Notes the colour of each thumbnail that has none yet."""
    run = connection.execute
    rows = [row for (row,) in run("SELECT row FROM thumbnails WHERE row NOT IN (SELECT row FROM colours)")]
    progress(0, len(rows))
    for done, row in enumerate(rows, 1):
        content, known = run("SELECT content, checksum FROM thumbnails WHERE row = ?", (row,)).fetchone()
        colour = average_colour(content) if checksum(content, row) == known else None
        if colour is not None:
            run("INSERT INTO colours (row, colour) VALUES (?, ?)", (row, colour))
        progress(done, len(rows))


def _rewrite_all(connection: SQLiteConnection, progress: Callable[[int, int], None]) -> list[str]:
    """Writes the documents of format 4 with their new columns and words; says which are damaged."""
    run = connection.execute
    left_out = []
    (total,) = run("SELECT count(*) FROM documents").fetchone()
    rows = [row for (row,) in run("SELECT row FROM documents ORDER BY row")]
    for done, row in enumerate(rows):
        values = run(f"SELECT {_OLD_FIELDS} FROM documents WHERE row = ?", (row,)).fetchone()
        if (document := _read(values)) is None:
            # It stays damaged, and is said to be, until it is indexed again.
            left_out.append(f"the {values[1]} {values[2]!r}: it does not match its checksum")
        else:
            rewrite(connection, document)
        progress(done + 1, total)
    adopt_files(connection)
    run("DROP TABLE words")
    run(WORDS)
    Changes(connection).make_words_again()
    return left_out


def _read(values: tuple[Any, ...]) -> StoredDocument | None:
    text = BETWEEN.join(map(str, values[1:12]))
    row, modality, id, content_hash, said, uri, mime_type, photo_id, tags = values[:9]
    if checksum(text.encode("utf-8", "surrogatepass"), row) != values[12]:
        return None
    record = Record(
        id=id,
        modality=modality,
        text=said,
        uri=uri,
        mime_type=mime_type,
        photo_id=photo_id,
        tags=tags_of(tags),
        content_hash=content_hash,
    )
    return StoredDocument(row, record, bool(values[9]), values[10], values[11], uploaded=True)


def adopt_files(connection: Connection) -> None:
    """Notes of photos that were indexed from a path of this machine where they lie, and their digest.

    The digest is that of the stored original, or of the file as long as it is what was indexed. Captions that
    a data set numbered become those of ``OLD_ORIGIN``.
    """
    photos = {
        each.record.id: each
        for each in documents_in_order(connection)
        if isinstance(each, StoredDocument)
        and each.record.modality == IMAGE
        and each.record.local is None
        and (each.record.uri or "").startswith("/")
        and _DATA_SET_ID.fullmatch(each.record.id)
        # Others cannot be indexed any more; their files have to be renamed first.
        and storable(each.record.uri) == each.record.uri
    }
    folders = _outermost(str(each.record.uri) for each in photos.values())
    for document in photos.values():
        record = document.record
        file = str(record.uri)
        local = next(
            LocalFile(folder, inside) for folder in folders if (inside := below(folder, file)) is not None
        )
        digest = _digest(connection, document)
        if digest is not None and record.id == photo_id(digest):
            # The id that an upload got, whatever its client called it.
            continue
        said = {"file": file.rpartition("/")[2]}
        adopted = replace(record, digest=digest, local=local, metadata=said).hashed()
        rewrite(connection, replace(document, record=adopted, uploaded=False))
        if "file" not in record.tags:
            connection.executemany(
                tags.INSERT, tags.tag_entries(connection.dialect, IMAGE, said, document.row)
            )
        local_files.place(connection, [adopted])
    for each in list(documents_in_order(connection)):
        if not isinstance(each, StoredDocument) or each.record.photo_id not in photos:
            continue
        start, _, number = each.record.id.rpartition("-")
        if start == each.record.photo_id and number.isdigit():
            record = replace(each.record, origin=OLD_ORIGIN).hashed()
            rewrite(connection, replace(each, record=record))


def _digest(connection: Connection, document: StoredDocument) -> str | None:
    if document.content_bytes is not None:
        found = connection.execute(
            "SELECT content, checksum FROM contents WHERE row = ?", (document.row,)
        ).fetchone()
        if found is None or checksum(found[0], document.row) != found[1]:
            return None
        return digest_of(found[0])
    try:
        content = Path(str(document.record.uri)).read_bytes()
    except (OSError, ValueError):
        return None
    return digest_of(content) if _old_hash(document.record, content) == document.record.content_hash else None


def _old_hash(record: Record, content: bytes) -> str:
    """The hash that format 4 has of a photo."""
    described = json.dumps(
        [record.modality, record.text, record.uri, record.photo_id, dict(record.tags)],
        sort_keys=True,
        ensure_ascii=True,
        default=str,
    )
    return hashlib.sha256(described.encode() + content).hexdigest()[:32]


def _outermost(files: Iterable[str]) -> list[str]:
    """The folders of ``files``, without those inside of others."""
    kept: list[str] = []
    for folder in sorted({os.path.dirname(file) for file in files}):  # noqa: PTH120  (bare text)
        if all(below(outer, folder) is None for outer in kept):
            kept.append(folder)
    return kept
