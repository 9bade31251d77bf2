"""The documents of an index in one SQLite file: records, vectors, originals, thumbnails, tags and words.

What belongs to a document changes in one transaction, which is on disk before it is acknowledged.
"""

from __future__ import annotations

import json
import logging
import shlex
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from stat import S_ISREG
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from crossmodal import limits
from crossmodal.errors import (
    DataError,
    ModelMismatch,
    StoreDamaged,
    StoreError,
    StoreFormat,
    StoreUnwritable,
)
from crossmodal.filters import Filter
from crossmodal.filters.sorting import Order, Place
from crossmodal.index.embedded.changes import (
    Changes,
    read_dimension,
    read_meta,
    read_state,
    same_content,
)
from crossmodal.index.embedded.connections import Connections, damage_advice, storable, sync_folder
from crossmodal.index.embedded.facets import facet, tag_values
from crossmodal.index.embedded.hubness_rows import banks_fingerprint, take_banks
from crossmodal.index.embedded.library import Library, is_trashed, restore
from crossmodal.index.embedded.listing import coordinates, list_documents, matching_ids, rows_of
from crossmodal.index.embedded.local_files import file_of
from crossmodal.index.embedded.reserve import Reserve
from crossmodal.index.embedded.schema import (
    APPLICATION_ID,
    FORMAT,
    INDEX_FILE,
    SCHEMA,
    UPGRADABLE,
    vector_table,
)
from crossmodal.index.embedded.seen_texts import (
    count_texts,
    has_texts,
    matching_texts,
    put_texts,
    text_of,
    unread_photos,
)
from crossmodal.index.embedded.stored_document import (
    Part,
    captions_of,
    checksum,
    damage_of_row,
    documents_in_order,
    look_of,
    read_document,
    stored_part,
    usable_id,
)
from crossmodal.index.embedded.tags import Kind, kinds_of, tag_fields, tag_texts
from crossmodal.index.embedded.vector_source import VectorSource
from crossmodal.index.embedded.words import search_words
from crossmodal.index.embedded.writer_lock import LOCK_FILE, WriterLock
from crossmodal.index.protocols import (
    Counts,
    Facet,
    FacetRequest,
    SeenText,
    Standing,
    TagField,
    TextCounts,
    TextHit,
    UnreadPhoto,
    WordHit,
)
from crossmodal.models.hubness import Banks
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.registry import banks_of, native_identity
from crossmodal.private_files import make_private_folder
from crossmodal.records import IMAGE, MODALITIES, TEXT, Look, Modality, Outcome, Record
from crossmodal.videos.formats import is_video_type

__all__ = ["EmbeddedStore", "mismatch_message"]

_logger = logging.getLogger(__name__)

# Ids that are read at once where all are listed.
_PAGE = 1024


class EmbeddedStore:
    """The index in a folder: at most one writer, any number of readers, in any processes.

    Make one with ``open_writer`` or ``open_reader``, and close it or use it in a ``with`` statement. Safe to
    use from several threads; each call sees the newest commit, also of other processes.
    """

    def __init__(self, path: Path, connections: Connections, lock: WriterLock | None) -> None:
        self.path = path
        self._connections = connections
        self._lock = lock
        self._writing = threading.Lock()
        # Neither changes once it is there.
        self._dimension: int | None = None
        self._id: str | None = None

    @classmethod
    def open_writer(cls, path: Path, *, identity: ModelIdentity | None = None) -> Self:
        """Open the index in the folder ``path`` for writing, made if it is not there.

        A new index is bound to ``identity``. Raises ``StoreLocked`` (another writer), ``ModelMismatch``,
        ``StoreFormat``, or ``StoreUnwritable`` (full or read-only disk, no permission).
        """
        path = Path(path)
        try:
            _make_folder(path)
        except OSError as error:
            raise StoreUnwritable(
                f"The folder {path} cannot be made ({error.strerror}). Give write permission or free some "
                "space, or choose another folder with --workspace."
            ) from error
        reserve = Reserve(path)
        try:
            lock, connections = cls._locked(path)
        except StoreUnwritable:
            # On a full disk, so that something can be deleted.
            if not reserve.free():
                raise
            lock, connections = cls._locked(path)
        store = cls(path, connections, lock)
        try:
            if not connections.initialised:
                store._initialise()
            store._check_format()
            store._bind(identity)
        except BaseException:
            store.close()
            raise
        reserve.take()
        return store

    @staticmethod
    def _locked(path: Path) -> tuple[WriterLock, Connections]:
        lock = WriterLock(path)
        try:
            return lock, Connections.open_writer(path)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open_reader(cls, path: Path, *, identity: ModelIdentity | None = None) -> Self:
        """Open the index in the folder ``path`` for reading, also while it is written or on a read-only disk.

        Raises ``StoreMissing``, ``StoreFormat``, ``ModelMismatch``.
        """
        path = Path(path)
        store = cls(path, Connections.open(path), None)
        try:
            store._check_format()
            store._bind(identity)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Release the files and the writer's lock; harmless when repeated."""
        self._connections.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def put(
        self, records: Sequence[Record], vectors: NDArray[np.floating[Any]] | None = None
    ) -> list[Outcome]:
        """Store a batch in one transaction and return, after it is on disk, what became of each record.

        ``vectors`` is (n, dimension), one row for each record. A record whose content hash is already stored,
        along with everything that is given here, is unchanged and not written; what is given for the first
        time is added to what is there. Of an id that occurs twice in a modality the last wins. Raises
        ``DataError`` (an id or a vector that can't be stored; nothing is written then), ``ModelMismatch``
        (another dimension) or ``StoreUnwritable``.
        """
        self._require_writer()
        hashed = [record if record.content_hash else record.hashed() for record in records]
        for record in hashed:
            if not usable_id(record.id):
                length = len(record.id.encode("utf-8", "surrogatepass"))
                raise DataError(
                    f"The id {record.id[:60]!r} has {length} bytes; an id must have 1 to "
                    f"{limits.STORED_ID.most}."
                )
        matrix = None if vectors is None else self._checked_vectors(vectors, len(hashed))
        with self._writing, self._connections.write() as connection:
            damaged = {error.row for error in self._damage(connection)}
            return Changes(connection, damaged).put(hashed, matrix)

    def update(self, records: Sequence[Record]) -> list[Outcome]:
        """Store what is new of documents of which the index has the content: their file, tags and metadata.

        A photo comes back from the trash with all that belonged to it. Returns and raises as ``put``, but
        that an original of a file, or one more origin, is no change of a document.
        """
        self._require_writer()
        hashed = [record.hashed() for record in records]
        quiet: list[bool] = []
        with self._writing, self._connections.write() as connection:
            for record in hashed:
                known = read_document(connection, record.modality, record.id)
                uploaded = int(record.local is None)
                if known is None and not restore(connection, record.id, uploaded=uploaded):
                    raise DataError(
                        f"{record.uri or record.id}: its entry in the trash was damaged; index it again."
                    )
                more = record.modality == TEXT or (record.local is not None and record.content is not None)
                quiet.append(
                    more
                    and known is not None
                    and record.keeping(known.record).content_hash == known.record.content_hash
                )
            outcomes = Changes(connection).put(hashed, None)
        return ["unchanged" if same else outcome for same, outcome in zip(quiet, outcomes, strict=True)]

    @property
    def library(self) -> Library:
        """The roots and files of its photos, and the trash."""
        return Library(self._connections, self._writing, self._require_writer)

    def delete(
        self, ids: Iterable[str], *, captions: bool = False, modality: Modality | None = None
    ) -> list[tuple[Modality, str]]:
        """Delete what has one of ``ids``, photo or caption or one of them, in one transaction.

        With ``captions`` also those that describe the photos. Returns modality and id of all that went. On a
        full disk it uses the space that is reserved for this, and more than one transaction where that is
        still too little for one.
        """
        self._require_writer()
        named = list(dict.fromkeys(ids))
        with self._writing:
            try:
                return self._delete(named, captions, modality)
            except StoreUnwritable:
                reserve = Reserve(self.path)
                if not reserve.free():
                    raise
            try:
                return self._delete_in_parts(named, captions, modality)
            finally:
                reserve.take()

    def _delete(
        self, ids: Sequence[str], captions: bool, modality: Modality | None
    ) -> list[tuple[Modality, str]]:
        with self._connections.write() as connection:
            return Changes(connection).delete(ids, captions=captions, modality=modality)

    def _delete_in_parts(
        self, ids: Sequence[str], captions: bool, modality: Modality | None
    ) -> list[tuple[Modality, str]]:
        try:
            self._connections.empty_log()
            deleted = self._delete(ids, captions, modality)
        except StoreUnwritable:
            if len(ids) < 2:
                raise
            half = len(ids) // 2
            deleted = self._delete_in_parts(ids[:half], captions, modality)
            deleted += self._delete_in_parts(ids[half:], captions, modality)
        self._connections.empty_log()
        return deleted

    def get(self, ids: Sequence[str], modality: Modality) -> list[Record | None]:
        """The records of ``ids`` without content and thumbnail, None for each that is not stored."""
        with self._connections.read() as connection:
            found = [read_document(connection, modality, id) for id in ids]
        return [None if document is None else document.record for document in found]

    def standings(self, records: Sequence[Record], *, originals: bool = False) -> list[Standing]:
        """How each of the hashed ``records`` stands to what is stored: see ``Standing``.

        With ``originals`` a photo on this machine of which only a thumbnail is stored is without original.
        What is known to be damaged is new, so that it is indexed again.
        """
        with self._connections.read() as connection:
            damaged = {error.row for error in self._damage(connection)}
            return [self._standing(connection, record, originals, damaged) for record in records]

    def _standing(
        self, connection: sqlite3.Connection, record: Record, originals: bool, damaged: set[int]
    ) -> Standing:
        try:
            known = read_document(connection, record.modality, record.id)
        except StoreDamaged as error:
            # What is given takes its place.
            self._connections.damage.note(error)
            return "new"
        if known is None:
            return "known" if record.local and is_trashed(connection, record.id) else "new"
        if known.row in damaged or not known.has_vector or not same_content(known.record, record):
            return "new"
        # Of a video the file is never stored.
        is_photo = record.modality == IMAGE and not is_video_type(known.record.mime_type)
        if is_photo and record.local is not None and known.thumbnail_bytes is None:
            # Its vector came without the photo.
            return "new"
        if is_photo and known.content_bytes is None:
            # An upload has no file to which one could go back.
            if record.local is None and (originals or record.content is not None):
                return "new"
            if originals:
                return "without original"
        if record.keeping(known.record).content_hash != known.record.content_hash:
            return "known"
        if record.modality == TEXT:
            return "known" if record.has_more_origins(known.record) else "same"
        if record.local is None:
            return "same" if known.uploaded else "known"
        file = file_of(connection, record.local.root, record.local.path)
        same = file is not None and (file.photo, file.signature) == (record.id, record.local.signature)
        return "same" if same else "known"

    def vectors(self, ids: Iterable[str], modality: Modality) -> dict[str, NDArray[np.float32]]:
        """The vector, float32 (dimension,), of each of ``ids`` that has one; the others are left out."""
        select = (
            "SELECT documents.row, vector, found.checksum FROM documents"
            f" LEFT JOIN {vector_table(modality)} AS found ON found.row = documents.row"
            " WHERE modality = ? AND documents.id = CAST(? AS TEXT) AND has_vector"
        )
        vectors = {}
        with self._connections.read() as connection:
            for id in ids:
                found = connection.execute(select, (modality, storable(id))).fetchone()
                if found is None:
                    continue
                row, vector, known = found
                if vector is None or checksum(vector, row) != known:
                    raise StoreDamaged("vector", id, row, modality=modality)
                vectors[id] = np.frombuffer(vector, "<f4")
        return vectors

    def captions_of(self, photo_ids: Sequence[str]) -> list[list[Record]]:
        """For each of ``photo_ids`` the captions that name it as their photo, in the order they came."""
        with self._connections.read() as connection:
            return [[found.record for found in captions_of(connection, id)] for id in photo_ids]

    def known_ids(self, ids: Iterable[str], modality: Modality) -> list[str]:
        """Those among ``ids`` that are stored; what is stored of them is not read."""
        select = "SELECT 1 FROM documents WHERE modality = ? AND id = CAST(? AS TEXT)"
        with self._connections.read() as connection:
            return [id for id in ids if connection.execute(select, (modality, storable(id))).fetchone()]

    def caption_ids(self, photo_id: str) -> list[str]:
        """The ids of the captions of one photo, in the order they came; nothing else of them is read."""
        select = (
            "SELECT id FROM documents WHERE modality = 'text' AND photo_id = CAST(? AS TEXT) ORDER BY row"
        )
        with self._connections.read() as connection:
            return [id for (id,) in connection.execute(select, (storable(photo_id),))]

    def content(self, id: str) -> bytes | None:
        """The untouched bytes of a photo's file; None if they or the photo are not stored."""
        return self._part("original", id)

    def thumbnail(self, id: str) -> bytes | None:
        """The small JPEG of a photo; None if it or the photo is not stored."""
        return self._part("thumbnail", id)

    def looks(self, photo_ids: Iterable[str]) -> dict[str, Look]:
        """How those among the photos that are stored look."""
        with self._connections.read() as connection:
            found = {id: look_of(connection, id) for id in photo_ids}
        return {id: look for id, look in found.items() if look is not None}

    def everything(self) -> Iterator[tuple[Record, NDArray[np.float32] | None, str | None]]:
        """All records with their bytes, and of each the vector and ``text_of`` it, by row, as of one commit.

        Raises ``StoreDamaged`` at the first damaged one.
        """
        with self._connections.read() as connection:
            for found in documents_in_order(connection):
                if isinstance(found, StoreFormat):
                    raise found
                vector, content, thumbnail = (
                    stored_part(connection, found, part) for part in ("vector", "original", "thumbnail")
                )
                record = replace(found.record, content=content, thumbnail=thumbnail)
                seen = text_of(connection, record.id) if record.modality == IMAGE else None
                yield record, None if vector is None else np.frombuffer(vector, "<f4"), seen

    def ids(self, modality: Modality, *, after: str = "") -> Iterator[str]:
        """The ids of one modality behind ``after``, in the order of their bytes, as of one commit."""
        with self._connections.read() as connection:
            found = connection.execute(
                "SELECT id FROM documents WHERE modality = ? AND id > CAST(? AS TEXT) ORDER BY id",
                (modality, storable(after)),
            )
            while page := found.fetchmany(_PAGE):
                for (id,) in page:
                    yield id

    def listed(
        self,
        modality: Modality,
        limit: int,
        *,
        filter: Filter | None = None,
        order: Order | None = None,
        after: Place | None = None,
    ) -> list[Record]:
        """The first ``limit`` documents behind ``after``; see ``listing.list_documents``."""
        with self._connections.read() as connection:
            return list_documents(connection, modality, limit, filter=filter, order=order, after=after)

    def matching_ids(self, modality: Modality, filter: Filter, limit: int | None = None) -> list[str]:
        """The ids of the first ``limit`` documents that match, or of all, in the order of their bytes."""
        with self._connections.read() as connection:
            return matching_ids(connection, modality, filter, limit)

    def coordinates(self, filter: Filter | None = None) -> list[tuple[str, float, float]]:
        """Where the photos that match were taken, as far as that is known; see ``listing.coordinates``."""
        with self._connections.read() as connection:
            return coordinates(connection, filter)

    def search_words(self, text: str, limit: int) -> list[WordHit]:
        """The ``limit`` documents that fit the words of ``text`` best; see ``words.search_words``."""
        with self._connections.read() as connection:
            return search_words(connection, text, limit)

    def unread_photos(self, limit: int, *, after: int = -1) -> list[UnreadPhoto]:
        """The first ``limit`` photos behind the row ``after`` in which nobody has looked for text yet."""
        with self._connections.read() as connection:
            return unread_photos(connection, after, limit)

    def put_texts(self, texts: Sequence[SeenText]) -> None:
        """Store what was read in photos, in one transaction; searches find it from then on."""
        self._require_writer()
        with self._writing, self._connections.write() as connection:
            put_texts(connection, texts)

    def matching_texts(self, text: str, limit: int) -> list[TextHit]:
        """The ``limit`` photos whose text fits the words best; see ``seen_texts.matching_texts``."""
        with self._connections.read() as connection:
            return matching_texts(connection, text, limit)

    def text_of(self, photo: str) -> str | None:
        """What was read in a photo as it is now; None where nobody has looked yet."""
        with self._connections.read() as connection:
            return text_of(connection, photo)

    def has_texts(self) -> bool:
        """Whether words of any photo can be searched; see ``seen_texts.has_texts``."""
        with self._connections.read() as connection:
            return has_texts(connection)

    @property
    def last_text(self) -> int:
        """The number of the text that was read last; it grows with each that is stored."""
        with self._connections.read() as connection:
            (number,) = connection.execute("SELECT ifnull(max(number), 0) FROM seen_texts").fetchone()
            return int(number)

    def count_texts(self) -> TextCounts:
        """In how many photos text was looked for, how many have some, and how many wait."""
        with self._connections.read() as connection:
            return count_texts(connection)

    def tag_kinds(self, modality: Modality, name: str) -> set[Kind]:
        """The kinds of the values that documents of one modality have under the tag ``name``."""
        with self._connections.read() as connection:
            return kinds_of(connection, modality, name)

    def tag_fields(self, modality: Modality, limit_values: int | None = 50) -> list[TagField]:
        """The tags that the documents of one modality have; see ``tags.tag_fields``."""
        with self._connections.read() as connection:
            return tag_fields(connection, modality, limit_values)

    def facet(self, modality: Modality, request: FacetRequest, filter: Filter | None = None) -> Facet:
        """How many documents, of those that match ``filter``, have which value of a tag."""
        with self._connections.read() as connection:
            rows = None if filter is None else rows_of(connection, modality, filter)
            return facet(connection, modality, request, rows)

    def tag_values(
        self, modality: Modality, *, without: Sequence[str], longest: int
    ) -> list[tuple[str, str, int]]:
        """The texts of tags and how many documents have each; see ``facets.tag_values``."""
        with self._connections.read() as connection:
            return tag_values(connection, modality, without=without, longest=longest)

    def tag_texts(self, modality: Modality, tag: str) -> list[str]:
        """The different texts that documents have under the name ``tag``."""
        with self._connections.read() as connection:
            return tag_texts(connection, modality, tag)

    def vector_source(self, modality: Modality, shard: int = 0, shards: int = 1) -> VectorSource:
        """The vectors that a search index over ``modality`` follows, or one shard of them."""
        return VectorSource(self._connections, modality, shard, shards)

    def verify(self) -> list[str]:
        """Every inconsistency found in a full check of the index, a sentence each; empty if it is sound.

        Reads everything once. What it finds damaged of a document is listed by ``damaged`` from then on.
        """
        from crossmodal.index.embedded.verification import find_damage

        try:
            with self._connections.read() as connection:
                found = find_damage(connection)
        except StoreFormat as error:
            return [str(error)]
        damaged = [each for each in found if isinstance(each, StoreDamaged)]
        self._connections.damage.keep(())
        for each_damaged in damaged:
            self._connections.damage.note(each_damaged)
        return [each.what if isinstance(each, StoreDamaged) else each for each in found]

    def damaged(self) -> list[StoreDamaged]:
        """What was found damaged when it was read, here or in another process, and still is."""
        with self._connections.read() as connection:
            return self._damage(connection)

    def _damage(self, connection: sqlite3.Connection) -> list[StoreDamaged]:
        rows = self._connections.damage.rows()
        found = [error for row in rows for error in damage_of_row(connection, row)]
        if rows and not found:
            self._connections.damage.keep(())
        return found

    def counts(self, modality: Modality) -> Counts:
        """What there is of one modality."""
        with self._connections.read() as connection:
            documents, vectors, size, changed = connection.execute(
                "SELECT documents, vectors, bytes, last_change FROM counts WHERE modality = ?", (modality,)
            ).fetchone()
        return Counts(documents, vectors, size, datetime.fromtimestamp(changed, UTC) if changed else None)

    @property
    def sequence(self) -> int:
        """The number of commits that changed something."""
        with self._connections.read() as connection:
            return read_state(connection).sequence

    @property
    def dimension(self) -> int | None:
        """The length of each vector; None until the index has a model or a vector."""
        if self._dimension is None:
            with self._connections.read() as connection:
                self._dimension = read_dimension(connection)
        return self._dimension

    @property
    def id(self) -> str:
        """The identity of this index; one made later in the same folder has another."""
        if self._id is None:
            self._id = self._meta("id")
        return str(self._id)

    @property
    def identity(self) -> ModelIdentity | None:
        """The model that made the vectors; None where there is none yet."""
        with self._connections.read() as connection:
            text, hubness = read_meta(connection, "model"), banks_fingerprint(connection)
        if text is None:
            return None
        # Of the model; which banks the index ranks with may have changed since.
        return replace(ModelIdentity.from_json(json.loads(text)), hubness=hubness)

    @property
    def converted_from(self) -> str | None:
        """The format that this index was converted from; None where it is no conversion."""
        return self._meta("converted_from")

    def adopt_files(self) -> None:
        """Note where photos lie that have the path of a file as their URI; see ``upgrade.adopt_files``."""
        from crossmodal.index.embedded.upgrade import adopt_files

        with self._writing, self._connections.write() as connection:
            adopt_files(connection)

    def mark_converted(self, format: str) -> None:
        """Notes that this index is whole and was converted from another format."""
        with self._writing, self._connections.write() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('converted_from', ?)", (format,))

    @property
    def bytes_on_disk(self) -> int:
        """The size of all files of the index, derived ones included, without the space in reserve."""
        size = 0
        files = (self.path.glob(f"{INDEX_FILE}*"), self.path.glob(LOCK_FILE), self.path.glob("derived/*"))
        for file in chain(*files):
            # Derived files are written and renamed at any moment.
            with suppress(FileNotFoundError):
                status = file.stat()
                size += status.st_size if S_ISREG(status.st_mode) else 0
        return size

    def bytes_of_parts(self) -> dict[str, int]:
        """What takes how many bytes of the disk: originals, thumbnails, vectors, the trash, derived files.

        What is left of ``bytes_on_disk`` are records, tags, words, and pages that are free.
        """
        sums = {
            "originals": "SELECT total(content_bytes) FROM documents",
            "thumbnails": "SELECT total(thumbnail_bytes) FROM documents",
            "vectors": " UNION ALL ".join(
                f"SELECT total(length(vector)) FROM {vector_table(modality)}" for modality in MODALITIES
            ),
            "trash": (
                "SELECT total(ifnull(length(vector), 0) + ifnull(length(content), 0)"
                " + ifnull(length(thumbnail), 0)) FROM trashed"
            ),
        }
        with self._connections.read() as connection:
            found = {name: int(sum(row[0] for row in connection.execute(sql))) for name, sql in sums.items()}
        derived = 0
        for file in self.path.glob("derived/*"):
            with suppress(FileNotFoundError):
                derived += file.stat().st_size
        return {**found, "derived": derived}

    @property
    def superseded(self) -> bool:
        """Whether to open the index again: its file, or the lock of who writes it, was deleted or replaced
        since, or this was closed."""
        return self._connections.superseded or (self._lock is not None and not self._lock.held)

    def _require_writer(self) -> None:
        if self._lock is None:
            raise StoreError(
                f"The index in {self.path} is open for reading; open it with open_writer to change it."
            )

    def _meta(self, name: str) -> str | None:
        with self._connections.read() as connection:
            return read_meta(connection, name)

    def _part(self, part: Part, id: str) -> bytes | None:
        with self._connections.read() as connection:
            document = read_document(connection, IMAGE, id)
            return None if document is None else stored_part(connection, document, part)

    def _checked_vectors(self, vectors: NDArray[np.floating[Any]], count: int) -> NDArray[np.float32]:
        matrix = np.ascontiguousarray(vectors, dtype="<f4")
        if matrix.ndim != 2 or len(matrix) != count or not 0 < matrix.shape[1] <= limits.DIMENSION.most:
            raise DataError(
                f"{count} records need vectors of shape ({count}, dimension), not one of shape "
                f"{matrix.shape}."
            )
        dimension = self.dimension
        if dimension is not None and matrix.shape[1] != dimension:
            raise ModelMismatch(
                f"The vectors have {matrix.shape[1]} dimensions, but those in {self.path} have {dimension}. "
                "Use the model that built the index (-m), or another --workspace."
            )
        if not np.isfinite(matrix).all():
            raise DataError(
                "A vector has a value that is not a finite number; nothing of its batch was stored."
            )
        return matrix

    def _initialise(self) -> None:
        with self._connections.write() as connection:
            for statement in SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES ('id', ?)", (uuid.uuid4().hex,))
            connection.execute("INSERT INTO state VALUES (1, 0, 0, 0)")
            for modality in MODALITIES:
                connection.execute("INSERT INTO counts VALUES (?, 0, 0, 0, NULL)", (modality,))
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        sync_folder(self.path)

    def _check_format(self) -> None:
        with self._connections.read() as connection:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found == FORMAT:
            return
        if found in UPGRADABLE:
            raise StoreFormat(
                f"The index in {self.path} has the format of an earlier version. Convert it with: "
                f"crossmodal convert --workspace {shlex.quote(str(self.path))}"
            )
        if found > FORMAT:
            raise StoreFormat(
                f"The index in {self.path} has format {found}, but this program knows format {FORMAT} only. "
                "Update this program, or choose another --workspace."
            )
        raise StoreFormat(
            f"The index in {self.path} has no format version that can be read ({found}). "
            f"{damage_advice(self.path)}"
        )

    def _bind(self, identity: ModelIdentity | None) -> None:
        """Compare ``identity`` to the index's own, or make it that if the index is new."""
        if identity is None:
            return
        known = self.identity
        if known == identity:
            # The identity of a truncated or centred model names the banks of the whole one.
            if self._lock is not None and identity.hubness not in ("", self.banks_fingerprint):
                self.take_banks_of(identity)
            return
        if known is not None or any(self.counts(modality).vectors for modality in MODALITIES):
            raise ModelMismatch(mismatch_message(self.path, known, identity))
        if self._lock is not None:
            with self._writing, self._connections.write() as connection:
                for name, value in (
                    ("model", json.dumps(identity.to_json())),
                    ("dimension", str(identity.dimension)),
                ):
                    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
            self.take_banks_of(identity)

    def take_banks_of(self, identity: ModelIdentity) -> None:
        """Have the index rank with the banks of the model ``identity``, if that is at hand and has others."""
        banks = banks_of(identity)
        if banks is None or banks.fingerprint == self.banks_fingerprint:
            return
        if documents := self.take_banks(banks):
            _logger.warning(
                "The index in %s now ranks with the hubness of %s; that of its %s documents was computed.",
                self.path,
                identity.name,
                f"{documents:,}",
            )

    def take_banks(self, banks: Banks) -> int:
        """Have the hubness of all documents computed with ``banks``; returns of how many it was."""
        self._require_writer()
        with self._writing, self._connections.write() as connection:
            documents = take_banks(connection, banks)
        self._id = None
        return documents

    @property
    def banks_fingerprint(self) -> str:
        """The fingerprint of the banks of which documents have their hubness; empty where there are none."""
        with self._connections.read() as connection:
            return banks_fingerprint(connection)

    def hubness(self, ids: Iterable[str], modality: Modality) -> dict[str, float]:
        """The hubness of each of ``ids`` that has a vector; the others are left out."""
        select = (
            f"SELECT hubness FROM documents JOIN {vector_table(modality)} AS found USING (row)"
            " WHERE modality = ? AND documents.id = CAST(? AS TEXT)"
        )
        with self._connections.read() as connection:
            found = ((id, connection.execute(select, (modality, storable(id))).fetchone()) for id in ids)
            return {id: float(row[0]) for id, row in found if row is not None}


def mismatch_message(path: Path, built_by: ModelIdentity | None, asked: ModelIdentity) -> str:
    """The sentences that name both models and say what to do."""
    if built_by is None:
        return (
            f"The index in {path} doesn't say which model built it, so {asked} cannot be used with it. "
            "Delete it and index again, or choose another --workspace."
        )
    convert = f"crossmodal convert --workspace {shlex.quote(str(path))}"
    if built_by.name != asked.name or native_identity(asked.name) != asked:
        convert += f" -m {shlex.quote(asked.name)}"
    return (
        f"The index in {path} was built by the model {built_by}, but {asked} is asked for. Use -m "
        f"{shlex.quote(built_by.name)} with those weights, or choose another --workspace, or encode all of "
        f"it again, which keeps tags, captions and uploads, with: {convert}"
    )


def _make_folder(path: Path) -> None:
    """Make ``path`` and its parents so that they survive a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    make_private_folder(path)
    for folder in missing:
        sync_folder(folder.parent)
