"""The full check of an index: whether what it holds is whole and agrees with itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from crossmodal.errors import StoreFormat
from crossmodal.index.embedded.changes import read_dimension, read_state
from crossmodal.index.embedded.stored_document import StoredDocument, checksum, documents_in_order
from crossmodal.index.embedded.tags import tag_entries
from crossmodal.index.embedded.vector_source import read_blocks
from crossmodal.index.embedded.words import searchable
from crossmodal.records import MODALITIES

__all__ = ["find_damage"]


def find_damage(connection: sqlite3.Connection) -> list[str]:
    """Every inconsistency, one sentence each: first of the file's structure, then of what it says."""
    structure = [text for (text,) in connection.execute("PRAGMA integrity_check")]
    if structure != ["ok"]:
        return [f"the file is damaged: {text}" for text in structure]
    check = _Check(connection)
    return [*check.documents(), *check.vectors(), *check.parts(), *check.entries(), *check.counters()]


class _Check:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._documents: dict[int, StoredDocument] = {}

    def documents(self) -> Iterator[str]:
        for document in documents_in_order(self._connection):
            if isinstance(document, StoreFormat):
                yield str(document)
            else:
                self._documents[document.row] = document

    def vectors(self) -> Iterator[str]:
        dimension = read_dimension(self._connection)
        for modality in MODALITIES:
            expected = {
                row: document.record.id
                for row, document in self._documents.items()
                if document.has_vector and document.record.modality == modality
            }
            try:
                for block in read_blocks(self._connection, modality, 0, dimension):
                    for row, id in zip(block.rows.tolist(), block.ids, strict=True):
                        if expected.pop(row, None) != id:
                            yield f"row {row} has a vector of {id!r}, which no document asks for"
            except StoreFormat as error:
                yield str(error)
                continue
            for row, id in expected.items():
                yield f"the vector of {id!r}, row {row}, is missing"

    def parts(self) -> Iterator[str]:
        for table, sizes in (
            ("contents", {row: each.content_bytes for row, each in self._documents.items()}),
            ("thumbnails", {row: each.thumbnail_bytes for row, each in self._documents.items()}),
        ):
            for row, content, known in self._connection.execute(
                f"SELECT row, content, checksum FROM {table}"
            ):
                size = sizes.pop(row, None)
                if size is None:
                    yield f"the {table} hold row {row}, which no document asks for"
                elif len(content) != size or checksum(content, row) != known:
                    yield f"the {table} of row {row} do not match their checksum"
            for row, size in sizes.items():
                if size is not None:
                    yield f"the {table} of row {row} are missing"

    def entries(self) -> Iterator[str]:
        stored: dict[int, set[tuple[object, ...]]] = {}
        for *entry, row in self._connection.execute("SELECT modality, name, kind, value, row FROM tags"):
            stored.setdefault(row, set()).add(tuple(entry))
        for row, document in self._documents.items():
            expected = {
                (modality, _text(name), int(kind), _text(value))
                for modality, name, kind, value, _ in tag_entries(
                    document.record.modality, document.record.tags, row
                )
            }
            if stored.pop(row, set()) != expected:
                yield f"the tags of {document.record.id!r}, row {row}, are not those that can be filtered"
        for row in stored:
            yield f"the tags hold row {row}, which no document asks for"
        (words,) = self._connection.execute("SELECT count(*) FROM words_docsize").fetchone()
        expected_words = sum(searchable(each.record) is not None for each in self._documents.values())
        if words != expected_words:
            yield f"{expected_words} captions have words, but those of {words} can be searched"

    def counters(self) -> Iterator[str]:
        state = read_state(self._connection)
        if self._documents and max(self._documents) >= state.next_row:
            yield f"row {max(self._documents)} was never given out"
        for modality, documents, vectors in self._connection.execute(
            "SELECT modality, documents, vectors FROM counts"
        ):
            mine = [each for each in self._documents.values() if each.record.modality == modality]
            for what, counted, found in (
                ("documents", documents, len(mine)),
                ("vectors", vectors, sum(each.has_vector for each in mine)),
            ):
                if counted != found:
                    yield f"{found} {what} of the modality {modality} are stored but {counted} are counted"
        (latest,) = self._connection.execute("SELECT max(sequence) FROM tombstones").fetchone()
        if latest is not None and latest > state.sequence:
            yield "there are tombstones of commits to come"


def _text(value: object) -> object:
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value
