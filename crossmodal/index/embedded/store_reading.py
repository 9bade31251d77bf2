"""What the index says of its documents: records, vectors, bytes, tags and words, as of the last commit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import ObjectsUnavailable, StoreDamaged, StoreFormat
from crossmodal.filters import Filter
from crossmodal.filters.sorting import Order, Place
from crossmodal.index.embedded.changes import same_content
from crossmodal.index.embedded.connections import storable
from crossmodal.index.embedded.dialect import Connected, Connection
from crossmodal.index.embedded.facets import facet, tag_values
from crossmodal.index.embedded.hubness_rows import banks_fingerprint
from crossmodal.index.embedded.library import is_trashed
from crossmodal.index.embedded.listing import coordinates, list_documents, matching_ids, rows_of
from crossmodal.index.embedded.local_files import file_of
from crossmodal.index.embedded.meta import read_dimension, read_meta, read_state
from crossmodal.index.embedded.objects import Objects, lost_objects
from crossmodal.index.embedded.region_file import REGION_FILE
from crossmodal.index.embedded.schema import INDEX_FILE, vector_table
from crossmodal.index.embedded.seen_texts import (
    count_texts,
    has_texts,
    matching_texts,
    text_of,
    unread_photos,
)
from crossmodal.index.embedded.stored_document import (
    Part,
    StoredDocument,
    captions_of,
    checksum,
    damage_of_row,
    documents_in_order,
    look_of,
    read_document,
    stored_part,
    stored_vector,
)
from crossmodal.index.embedded.tags import Kind, kinds_of, tag_fields, tag_texts
from crossmodal.index.embedded.vector_source import VectorSource
from crossmodal.index.embedded.words import search_words
from crossmodal.index.embedded.writer_lock import LOCK_FILE
from crossmodal.index.objects import ObjectGone, Stored
from crossmodal.index.protocols import (
    Counts,
    Facet,
    FacetRequest,
    Standing,
    TagField,
    TextCounts,
    TextHit,
    UnreadPhoto,
    WordHit,
)
from crossmodal.models.identity import ModelIdentity
from crossmodal.records import IMAGE, MODALITIES, TEXT, Look, Modality, Record
from crossmodal.videos.formats import is_video_type

__all__ = ["StoreReading"]

# Ids that are read at once where all are listed.
_PAGE = 1024


class StoreReading:
    """All that is read of the index in the folder ``path``; ``EmbeddedStore`` is one that is also opened and
    written. Each call sees the newest commit, also of other processes.
    """

    def __init__(self, path: Path, connections: Connected) -> None:
        self.path = path
        self._connections = connections
        self._objects = Objects(connections)
        # Neither changes once it is there.
        self._dimension: int | None = None
        self._id: str | None = None

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
        self, connection: Connection, record: Record, originals: bool, damaged: set[int]
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
            " WHERE modality = ? AND documents.id = CAST(? AS TEXT) AND has_vector != 0"
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
        """The untouched bytes of a photo's file; None if they or the photo are not stored.

        Raises ``ObjectsUnavailable`` where they lie in an object store that is away.
        """
        return self._part("original", id)

    def thumbnail(self, id: str) -> bytes | None:
        """The small JPEG of a photo; None if it or the photo is not stored. Raises as ``content``."""
        return self._part("thumbnail", id)

    def looks(self, photo_ids: Iterable[str]) -> dict[str, Look]:
        """How those among the photos that are stored look."""
        with self._connections.read() as connection:
            found = {id: look_of(connection, id) for id in photo_ids}
        return {id: look for id, look in found.items() if look is not None}

    def everything(self) -> Iterator[tuple[Record, NDArray[np.float32] | None, str | None]]:
        """All records with their bytes, and of each the vector and ``text_of`` it, by row, as of one commit.

        Raises ``StoreDamaged`` at the first damaged one, ``ObjectsUnavailable``.
        """
        with self._connections.read() as connection:
            for found in documents_in_order(connection):
                if isinstance(found, StoreFormat):
                    raise found
                vector = stored_vector(connection, found)
                record = replace(
                    found.record,
                    content=self._bytes(connection, found, "original"),
                    thumbnail=self._bytes(connection, found, "thumbnail"),
                )
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
            (number,) = connection.execute("SELECT coalesce(max(number), 0) FROM seen_texts").fetchone()
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

    def verify(self, *, objects: bool = True) -> list[str]:
        """Every inconsistency found in a full check of the index, a sentence each; empty if it is sound.

        Reads everything once; of what lies in an object store it looks, with ``objects``, whether it is
        there, and in its size. What it finds damaged of a document is listed by ``damaged`` from then on.
        """
        from crossmodal.index.embedded.verification import find_damage

        try:
            with self._connections.read() as connection:
                found = find_damage(connection)
                if objects:
                    found += self._lost_objects(connection)
        except StoreFormat as error:
            return [str(error)]
        damaged = [each for each in found if isinstance(each, StoreDamaged)]
        self._connections.damage.clear()
        for each_damaged in damaged:
            self._connections.damage.note(each_damaged)
        return [each.what if isinstance(each, StoreDamaged) else each for each in found]

    def damaged(self) -> list[StoreDamaged]:
        """What was found damaged when it was read, here or in another process, and still is."""
        with self._connections.read() as connection:
            return self._damage(connection)

    def _damage(self, connection: Connection) -> list[StoreDamaged]:
        noted = self._connections.damage.noted()
        found = [error for row, parts in noted.items() for error in damage_of_row(connection, row, parts)]
        if noted and not found:
            self._connections.damage.clear()
        return found

    def _lost_objects(self, connection: Connection) -> list[str | StoreDamaged]:
        try:
            return [*lost_objects(connection)]
        except ObjectsUnavailable as error:
            return [f"it is not known whether all originals and thumbnails are there: {error}"]

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

    def objects_state(self) -> dict[str, Any] | None:
        """How the object store of originals and thumbnails is, asked now; None where the index has none.

        ``where`` it is, its ``state``, ready or away, and what is wrong (``error``, or None). It takes two
        seconds at most.
        """
        return self._objects.state()

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

        ``regions`` are those of photos that rerankers keep. What is left of ``bytes_on_disk`` are records,
        tags, words, and pages that are free.
        """
        sums = {
            "originals": "SELECT coalesce(sum(length(content)), 0) FROM contents",
            "thumbnails": "SELECT coalesce(sum(length(content)), 0) FROM thumbnails",
            "vectors": " UNION ALL ".join(
                f"SELECT coalesce(sum(length(vector)), 0) FROM {vector_table(modality)}"
                for modality in MODALITIES
            ),
            "trash": (
                "SELECT coalesce(sum(coalesce(length(vector), 0) + coalesce(length(content), 0)"
                " + coalesce(length(thumbnail), 0)), 0) FROM trashed"
            ),
        }
        with self._connections.read() as connection:
            found = {name: int(sum(row[0] for row in connection.execute(sql))) for name, sql in sums.items()}
        sizes = {"regions": 0, "derived": 0}
        for file in self.path.glob("derived/*"):
            with suppress(FileNotFoundError):
                sizes["regions" if file.name == REGION_FILE else "derived"] += file.stat().st_size
        return found | sizes

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

    def _meta(self, name: str) -> str | None:
        with self._connections.read() as connection:
            return read_meta(connection, name)

    def _part(self, part: Part, id: str) -> bytes | None:
        before: Stored | None = None
        while True:
            with self._connections.read() as connection:
                document = read_document(connection, IMAGE, id)
                stored = None if document is None else stored_part(connection, document, part)
                if document is None or stored is None:
                    return None
                if stored == before:
                    raise _lost(document, part)
            try:
                # Not in a transaction: it may take its time.
                return self._objects.get(stored)
            except ObjectGone:
                # It may have been replaced or moved meanwhile, and swept.
                before = stored

    def _bytes(self, connection: Connection, document: StoredDocument, part: Part) -> bytes | None:
        stored = stored_part(connection, document, part)
        try:
            return None if stored is None else self._objects.get(stored)
        except ObjectGone:
            raise _lost(document, part) from None


def _lost(document: StoredDocument, part: Part) -> StoreDamaged:
    return StoreDamaged(part, document.record.id, document.row, modality=document.record.modality)
