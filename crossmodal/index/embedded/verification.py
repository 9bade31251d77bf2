"""The full check of an index: whether what it holds is whole and agrees with itself.

Vectors and bytes have checksums; tags and words, which have none, are compared with what is made of the
documents now.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from crossmodal.errors import StoreDamaged, StoreFormat
from crossmodal.index.embedded.dialect import Connection
from crossmodal.index.embedded.hubness_rows import banks_fingerprint, banks_in, hubness_of
from crossmodal.index.embedded.library import read_trashed
from crossmodal.index.embedded.meta import read_dimension, read_state
from crossmodal.index.embedded.schema import IS_VIDEO, vector_table
from crossmodal.index.embedded.sqlite_dialect import SQLite
from crossmodal.index.embedded.stored_document import StoredDocument, checksum, documents_in_order
from crossmodal.index.embedded.tags import tag_entries
from crossmodal.index.embedded.tokens import words_of_text
from crossmodal.index.embedded.words import searchable
from crossmodal.index.objects import size_of
from crossmodal.records import IMAGE, MODALITIES

__all__ = ["find_damage"]

# Far above what another processor rounds otherwise, far below what could change an order that matters.
_HUBNESS_ERROR = 1e-6

# Values of tags as they are read, whatever the database makes of numbers.
_PLAIN = SQLite()


def find_damage(connection: Connection) -> list[str | StoreDamaged]:
    """Every inconsistency, a sentence or the error of one document: first of the file's structure."""
    if damage := connection.dialect.damage(connection):
        return [f"the file is damaged: {text}" for text in damage]
    check = _Check(connection)
    return [
        *check.documents(),
        *check.vectors(),
        *check.parts(),
        *check.colours(),
        *check.entries(),
        *check.words(),
        *check.texts(),
        *check.moments(),
        *check.files(),
        *check.trash(),
        *check.counters(),
    ]


class _Check:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._documents: dict[int, StoredDocument] = {}
        # Rows of documents that cannot be read; what belongs to them is no damage of its own.
        self._unreadable: set[int] = set()

    def documents(self) -> Iterator[str | StoreDamaged]:
        for document in documents_in_order(self._connection):
            if isinstance(document, StoreDamaged):
                self._unreadable.add(document.row)
                yield document
            elif isinstance(document, StoreFormat):
                yield str(document)
            else:
                self._documents[document.row] = document

    def vectors(self) -> Iterator[str | StoreDamaged]:
        dimension = read_dimension(self._connection)
        banks = banks_in(self._connection)
        # What an earlier formula gave can't be checked; whoever writes next computes all of it anew.
        checked = banks is None or banks.fingerprint == banks_fingerprint(self._connection)
        for modality in MODALITIES:
            expected = {
                row: document.record.id
                for row, document in self._documents.items()
                if document.has_vector and document.record.modality == modality
            }
            length = 4 * (dimension or 0)
            for row, id, vector, known, hubness in self._connection.execute(
                f"SELECT row, id, vector, checksum, hubness FROM {vector_table(modality)} ORDER BY row"
            ):
                wanted = expected.pop(row, None)
                if wanted != id and row not in self._unreadable:
                    yield f"row {row} has a vector of {id!r}, which no document asks for"
                elif len(vector) != length or checksum(vector, row) != known:
                    yield StoreDamaged("vector", id, row, modality=modality)
                elif checked and not math.isclose(
                    hubness, hubness_of(banks, [vector], modality)[0], abs_tol=_HUBNESS_ERROR
                ):
                    yield f"the hubness of {id!r}, row {row}, is not that of its vector"
            for row, id in expected.items():
                yield StoreDamaged("vector", id, row, modality=modality)

    def parts(self) -> Iterator[str | StoreDamaged]:
        for part, table, sizes in (
            ("original", "contents", {row: each.content_bytes for row, each in self._documents.items()}),
            ("thumbnail", "thumbnails", {row: each.thumbnail_bytes for row, each in self._documents.items()}),
        ):
            for row, content, known in self._connection.execute(
                f"SELECT row, content, checksum FROM {table}"
            ):
                size = sizes.pop(row, None)
                if size is None:
                    if row not in self._unreadable:
                        yield f"the {table} hold row {row}, which no document asks for"
                elif checksum(content, row) != known or size_of(content) != size:
                    yield self._damaged(part, row)
            for row, size in sizes.items():
                if size is not None:
                    yield self._damaged(part, row)

    def colours(self) -> Iterator[str]:
        for row, colour in self._connection.execute("SELECT row, colour FROM colours"):
            if row not in self._documents and row not in self._unreadable:
                yield f"the colours hold row {row}, which no document asks for"
            elif not 0 <= colour <= 0xFFFFFF:
                yield f"the colour in row {row} is {colour}, which is none"

    def _damaged(self, part: str, row: int) -> StoreDamaged:
        record = self._documents[row].record
        return StoreDamaged(part, record.id, row, modality=record.modality)

    def entries(self) -> Iterator[str]:
        stored: dict[int, set[tuple[object, ...]]] = {}
        for *entry, row in self._connection.execute("SELECT modality, name, kind, value, row FROM tags"):
            stored.setdefault(row, set()).add(tuple(entry))
        for row, document in self._documents.items():
            expected = {
                (modality, _text(name), int(kind), _text(value))
                for modality, name, kind, value, _ in tag_entries(
                    _PLAIN, document.record.modality, document.record.all_tags, row
                )
            }
            if stored.pop(row, set()) != expected:
                yield f"the tags of {document.record.id!r}, row {row}, are not those that can be filtered"
        for row in stored.keys() - self._unreadable:
            yield f"the tags hold row {row}, which no document asks for"

    def words(self) -> Iterator[str]:
        """Compares what can be searched with what is made of the documents now."""
        dialect = self._connection.dialect
        texts = {
            row: text
            for row, each in self._documents.items()
            if (text := searchable(each.record)) is not None
        }
        stored = len(dialect.rows_with_words(self._connection, "words"))
        if stored != len(texts) and not self._unreadable:
            yield f"{len(texts)} documents have words, but those of {stored} can be searched"
        for row in sorted(dialect.amiss(self._connection, texts)):
            if row in self._documents:
                id = self._documents[row].record.id
                yield f"the words of {id!r}, row {row}, are not those that can be searched"
            elif row not in self._unreadable:
                yield f"the words hold row {row}, which no document asks for"

    def texts(self) -> Iterator[str]:
        """Whether each photo in which words were read can be found by some, and is there or in the trash."""
        run = self._connection.execute
        stored = self._connection.dialect.rows_with_words(self._connection, "seen_words")
        for number, photo, text in run("SELECT number, photo, text FROM seen_texts"):
            if (number in stored) != any(words_of_text(text)):
                yield f"the text that was read in {photo!r} is not what can be searched"
            stored.discard(number)
        if stored:
            yield f"the words of {len(stored)} texts can be searched that were read in no photo"
        orphans = (
            "SELECT photo FROM seen_texts WHERE photo NOT IN (SELECT photo FROM trash) AND NOT EXISTS"
            f" (SELECT 1 FROM documents WHERE modality = '{IMAGE}' AND id = seen_texts.photo) ORDER BY photo"
        )
        for (photo,) in run(orphans):
            yield f"the text is kept that was read in {photo!r}, which is not stored"

    def moments(self) -> Iterator[str]:
        """Moments of what is not stored, or is no video."""
        alone = (
            f"SELECT id, photo_id FROM documents AS moment WHERE modality = '{IMAGE}'"
            f" AND {IS_VIDEO} AND photo_id IS NOT NULL"
            f" AND NOT EXISTS (SELECT 1 FROM documents WHERE modality = '{IMAGE}'"
            f" AND id = moment.photo_id AND {IS_VIDEO}) ORDER BY row"
        )
        for id, video in self._connection.execute(alone):
            yield f"{id!r} is a moment of the video {video!r}, which is not stored"

    def files(self) -> Iterator[str]:
        """Files without a photo, and those below no root."""
        lost = (
            "SELECT path, photo FROM files WHERE NOT EXISTS"
            " (SELECT 1 FROM documents WHERE modality = 'image' AND id = files.photo) ORDER BY root, path"
        )
        for path, photo in self._connection.execute(lost):
            yield f"the file {path!r} is that of the photo {photo!r}, which is not stored"
        rootless = "SELECT path, root FROM files WHERE root NOT IN (SELECT id FROM roots) ORDER BY root, path"
        for path, root in self._connection.execute(rootless):
            yield f"the file {path!r} lies below the root {root}, which is not stored"

    def trash(self) -> Iterator[str]:
        """What cannot come back from the trash, or isn't listed there."""
        rows = self._connection.execute(
            "SELECT photo, record, vector, content, thumbnail, checksum FROM trashed ORDER BY photo, number"
        )
        damaged: set[str] = set()
        for photo, *row in rows:
            try:
                read_trashed(photo, *row)
            except StoreDamaged:
                damaged.add(photo)
        for photo in sorted(damaged):
            yield f"the photo {photo!r} in the trash does not match its checksum and cannot come back"
        unlisted = (
            "SELECT DISTINCT photo FROM trashed WHERE photo NOT IN (SELECT photo FROM trash) ORDER BY 1"
        )
        for (photo,) in self._connection.execute(unlisted):
            yield f"the photo {photo!r} is in the trash, but not listed there"

    def counters(self) -> Iterator[str]:
        state = read_state(self._connection)
        if self._documents and max(self._documents) >= state.next_row:
            yield f"row {max(self._documents)} was never given out"
        for modality, documents, vectors in self._connection.execute(
            "SELECT modality, documents, vectors FROM counts"
        ):
            if self._unreadable:
                # It isn't known of which modality they are.
                continue
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
