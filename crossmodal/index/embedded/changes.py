"""The changes that one transaction makes to an index: everything that belongs to a document, together."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import StoreDamaged, StoreFormat
from crossmodal.images.previews import average_colour
from crossmodal.index.embedded import local_files, tags
from crossmodal.index.embedded.dialect import Connection
from crossmodal.index.embedded.hubness_rows import banks_in, hubness_of
from crossmodal.index.embedded.meta import State, read_dimension, read_state, write_meta
from crossmodal.index.embedded.schema import vector_table
from crossmodal.index.embedded.seen_texts import delete_texts
from crossmodal.index.embedded.stored_document import (
    RESTORED,
    Part,
    StoredDocument,
    Whole,
    captions_or_damage,
    checksum,
    colour_of,
    documents_in_order,
    parts_or_damage,
    read_document,
    stored_part,
    stored_vector,
    tags_of,
)
from crossmodal.index.embedded.words import searchable
from crossmodal.index.objects import ObjectStorage, RowStorage, Stored
from crossmodal.records import FILE_ORIGIN, IMAGE, MODALITIES, TEXT, Modality, Outcome, Record, caption_id

__all__ = ["Changes", "RemovedPhoto", "same_content"]

# A search index in memory that missed more commits than this loads all vectors again.
_COMMITS_REMEMBERED = 4096


class Changes:
    """The changes of the write transaction that ``connection`` is in.

    ``damaged`` are rows and parts that are known to be damaged: what is given takes their place. Bytes that
    are given go to ``storage``, before what refers to them is committed.
    """

    def __init__(
        self,
        connection: Connection,
        damaged: Collection[tuple[int, str]] = (),
        storage: ObjectStorage | None = None,
    ) -> None:
        self._connection = connection
        self._damaged = damaged
        self._damaged_rows = {row for row, _ in damaged}
        self._storage = storage or RowStorage()
        # Rows whose document cannot be read, so that what belongs to them is found by the row alone.
        self._unreadable: list[int] = []
        self._before = read_state(connection)
        self._next_row = self._before.next_row
        self._removed: list[int] = []
        self._counts: dict[Modality, Counter[str]] = {modality: Counter() for modality in MODALITIES}

    def put(self, records: Sequence[Record], vectors: NDArray[np.float32] | None) -> list[Outcome]:
        """Stores hashed ``records``, with ``vectors`` (n, dimension) if given; see ``EmbeddedStore.put``."""
        known: dict[tuple[Modality, str], StoredDocument | StoreDamaged | None] = {}
        last: dict[tuple[Modality, str], int] = {}
        outcomes: list[Outcome] = []
        records = list(records)
        for position, record in enumerate(records):
            key = record.modality, record.id
            if key not in known:
                known[key] = self._find(*key)
            earlier, old = last.get(key), known[key]
            if earlier is not None:
                record = _joined(records[earlier], record.keeping(records[earlier]))
                same = records[earlier].content_hash == record.content_hash
            elif isinstance(old, StoredDocument):
                record = _joined(old.record, record.keeping(old.record))
                same = self._has_all(old, record, vectors is not None)
            else:
                same = False
            records[position], last[key] = record, position
            if earlier is None and old is None:
                outcomes.append("added")
            else:
                outcomes.append("unchanged" if same else "replaced")
        changed = [
            (known[key], position)
            for key, position in last.items()
            if (old := known[key]) is None or not self._has_all(old, records[position], vectors is not None)
        ]
        given = [
            _Given(Whole.of(records[position], None if vectors is None else vectors[position].tobytes()))
            for _, position in changed
        ]
        for each, (old, _) in zip(given, changed, strict=True):
            each.uploaded = int(each.record.local is None)
            if isinstance(old, StoredDocument):
                if old.uploaded != RESTORED:
                    each.uploaded = each.uploaded or old.uploaded
                if same_content(old.record, each.record):
                    self._take_over(each, old)
        # What a client put in the place of a photo on this machine lies in no file, and has no moments.
        replaced = [
            each.record.id
            for each, (old, _) in zip(given, changed, strict=False)
            if each.record.modality == IMAGE
            and each.record.local is None
            and isinstance(old, StoredDocument)
            and not same_content(old.record, each.record)
        ]
        local_files.remove_photos(self._connection, replaced)
        # A moment lies in its video's file, which is the video's.
        placed = [record for record in records if record.local is not None and record.photo_id is None]
        if placed:
            local_files.place(self._connection, placed)
        if not changed:
            return outcomes
        removed: dict[tuple[Modality, str], StoredDocument | StoreDamaged] = {}
        for photo in replaced:
            removed |= self._parts_to_delete(photo, captions=False)
        removed |= {
            (records[position].modality, records[position].id): old
            for old, position in changed
            if old is not None
        }
        self._remove(list(removed.values()))
        self._add(given)
        if vectors is not None:
            write_meta(self._connection, "dimension", str(vectors.shape[1]))
        self._finish()
        return outcomes

    def delete(
        self,
        ids: Iterable[str],
        *,
        captions: bool,
        modality: Modality | None = None,
        keep_texts: bool = False,
    ) -> list[tuple[Modality, str]]:
        """Removes the documents of these ids with all that belongs to them; see ``EmbeddedStore.delete``.

        With ``keep_texts`` what was read in photos stays, for when they come back.
        """
        removed: dict[tuple[Modality, str], StoredDocument | StoreDamaged] = {}
        for id in dict.fromkeys(ids):
            for each in MODALITIES if modality is None else (modality,):
                if (document := self._find(each, id)) is not None:
                    removed[each, id] = document
                    if each == IMAGE:
                        removed = self._parts_to_delete(id, captions) | removed
        if removed:
            self._remove(list(removed.values()))
            photos = [id for each, id in removed if each == IMAGE]
            local_files.remove_photos(self._connection, photos)
            if not keep_texts:
                delete_texts(self._connection, photos)
            self._finish()
        return list(removed)

    def _parts_to_delete(
        self, photo: str, captions: bool
    ) -> dict[tuple[Modality, str], StoredDocument | StoreDamaged]:
        """The moments of a video, which never stay without it, and with ``captions`` those of a photo."""
        parts: dict[tuple[Modality, str], StoredDocument | StoreDamaged] = {}
        for part in parts_or_damage(self._connection, photo):
            if isinstance(part, StoredDocument):
                parts[part.record.modality, part.record.id] = part
            elif isinstance(part, StoreDamaged):
                parts[IMAGE if part.modality == IMAGE else TEXT, part.id] = part
        return {key: part for key, part in parts.items() if captions or key[0] == IMAGE}

    def remove_photos(self, photos: Sequence[str]) -> list[RemovedPhoto]:
        """Removes photos with their captions and moments, and returns all that is stored of them.

        What is damaged goes as well; it is not returned.
        """
        removed = [RemovedPhoto(photo, self._parts_of(photo)) for photo in photos]
        self.delete(photos, captions=True, keep_texts=True)
        return removed

    def add_again(self, removed: RemovedPhoto, *, uploaded: int) -> None:
        """Stores what ``remove_photos`` returned; what was indexed again meanwhile stays as it is."""
        given = [
            _Given(whole, uploaded if whole.record.modality == IMAGE else 1)
            for whole in removed.documents
            if self._find(whole.record.modality, whole.record.id) is None
        ]
        if given:
            self._add(given)
            self._finish()

    def _parts_of(self, photo: str) -> list[Whole]:
        found: list[StoredDocument | StoreDamaged | StoreFormat | None] = [self._find(IMAGE, photo)]
        found += parts_or_damage(self._connection, photo)
        documents = []
        for document in found:
            if isinstance(document, StoredDocument):
                with suppress(StoreDamaged):
                    documents.append(
                        Whole(
                            document.record,
                            stored_vector(self._connection, document),
                            stored_part(self._connection, document, "original"),
                            stored_part(self._connection, document, "thumbnail"),
                            colour_of(self._connection, document.row),
                        )
                    )
        return documents

    def hand_over(self, photo: str, heir: str) -> None:
        """Gives the tags and captions that people gave one photo to another one that took its place."""
        old, new = self._find(IMAGE, photo), self._find(IMAGE, heir)
        if not isinstance(old, StoredDocument) or not isinstance(new, StoredDocument):
            return
        # The moments of a video have the tags of the video.
        parts = [new, *parts_or_damage(self._connection, heir)]
        untagged = [
            part.record
            for part in parts
            if isinstance(part, StoredDocument) and part.record.modality == IMAGE and not part.record.tags
        ]
        if old.record.tags and untagged:
            self.put([replace(record, tags=old.record.tags).hashed() for record in untagged], None)
        copies: list[_Given] = []
        for caption in captions_or_damage(self._connection, photo):
            if isinstance(caption, StoredDocument) and caption.record.origin != FILE_ORIGIN:
                id = caption_id(heir, caption.record.text or "")
                copied = replace(caption.record, id=id, photo_id=heir, uri=None)
                if copied.origin is not None:
                    copied = copied.from_files(each for each in copied.origins if each != FILE_ORIGIN)
                copied = copied.hashed()
                if self._find(TEXT, id) is None and all(each.record.id != id for each in copies):
                    copies.append(_Given(Whole(copied, stored_vector(self._connection, caption)), 1))
        if copies:
            self._add(copies)
            self._finish()

    def _find(self, modality: Modality, id: str) -> StoredDocument | StoreDamaged | None:
        """The document that is there, or what is wrong with it."""
        try:
            return read_document(self._connection, modality, id)
        except StoreDamaged as error:
            return error

    def _has_all(self, old: StoredDocument | StoreDamaged, record: Record, with_vector: bool) -> bool:
        """Whether ``old`` is ``record`` already, with everything that is now given of it, and sound."""
        if isinstance(old, StoreDamaged) or old.row in self._damaged_rows:
            return False
        return (
            old.record.content_hash == record.content_hash
            and (old.has_vector or not with_vector)
            and (old.content_bytes is not None or record.content is None)
            and (old.thumbnail_bytes is not None or record.thumbnail is None)
            and (old.uploaded == 1 if record.local is None else old.uploaded != RESTORED)
            and not record.has_more_origins(old.record)
        )

    def _take_over(self, given: _Given, old: StoredDocument) -> None:
        """A document of the same content keeps what it had and isn't given again, as far as that is sound.

        A damaged original of which the file is on this machine is left to that file.
        """
        whole = given.whole
        if whole.vector is None and old.has_vector:
            whole.vector = stored_vector(self._connection, old)
        if whole.record.mime_type is None:
            whole.record = replace(whole.record, mime_type=old.record.mime_type)
        if whole.original is None and old.content_bytes is not None:
            with suppress(StoreDamaged) if whole.record.local is not None else nullcontext():
                whole.original = self._sound_part(old, "original")
        if whole.thumbnail is None and old.thumbnail_bytes is not None:
            whole.thumbnail = self._sound_part(old, "thumbnail")
            whole.colour = colour_of(self._connection, old.row)

    def _sound_part(self, document: StoredDocument, part: Part) -> Stored | None:
        if (document.row, part) in self._damaged:
            raise StoreDamaged(part, document.record.id, document.row, modality=document.record.modality)
        return stored_part(self._connection, document, part)

    def _add(self, given: Sequence[_Given]) -> None:
        documents, contents, thumbnails, colours, words = [], [], [], [], []
        entries: list[tuple[Any, ...]] = []
        vectors: dict[Modality, list[tuple[Any, ...]]] = {modality: [] for modality in MODALITIES}
        self._put_objects([each.whole for each in given])
        for row, each in enumerate(given, self._next_row):
            whole = each.whole
            record, vector = whole.record, whole.vector
            document = StoredDocument.of(row, whole, uploaded=each.uploaded)
            documents.append(document.values())
            if vector is not None:
                # The id is documents' own value, so that both are written alike.
                vectors[record.modality].append((row, documents[-1][2], vector, checksum(vector, row)))
            if whole.original is not None:
                contents.append((row, whole.original, checksum(whole.original, row)))
            if whole.thumbnail is not None:
                thumbnails.append((row, whole.thumbnail, checksum(whole.thumbnail, row)))
                if whole.colour is not None:
                    colours.append((row, whole.colour))
            # JSON has written what it doesn't know as text.
            written = {**tags_of(documents[-1][9]), **tags_of(documents[-1][8])}
            entries += tags.tag_entries(self._connection.dialect, record.modality, written, row)
            if (text := searchable(record)) is not None:
                words.append((row, text))
            self._count(document, 0 if vector is None else len(vector), 1)
        self._next_row += len(given)
        run = self._connection.executemany
        run(StoredDocument.INSERT, documents)
        banks = banks_in(self._connection)
        for modality, rows in vectors.items():
            hubness = hubness_of(banks, [vector for _, _, vector, _ in rows], modality)
            run(
                f"INSERT INTO {vector_table(modality)} (row, id, vector, checksum, hubness)"
                " VALUES (?, CAST(? AS TEXT), ?, ?, ?)",
                [(*row, value) for row, value in zip(rows, hubness, strict=True)],
            )
        run("INSERT INTO contents (row, content, checksum) VALUES (?, ?, ?)", contents)
        run("INSERT INTO thumbnails (row, content, checksum) VALUES (?, ?, ?)", thumbnails)
        run("INSERT INTO colours (row, colour) VALUES (?, ?)", colours)
        run(tags.INSERT, entries)
        self._connection.dialect.add_words(self._connection, "words", words)

    def _put_objects(self, given: Sequence[Whole]) -> None:
        """Puts what is bytes where bytes belong, all together."""
        new: list[tuple[Whole, str]] = []
        contents: list[bytes] = []
        for whole in given:
            if whole.colour is None and isinstance(whole.thumbnail, bytes):
                whole.colour = average_colour(whole.thumbnail)
            for part in ("original", "thumbnail"):
                if isinstance(stored := getattr(whole, part), bytes):
                    new.append((whole, part))
                    contents.append(stored)
        for (whole, part), stored in zip(new, self._storage.put(contents), strict=True):
            setattr(whole, part, stored)

    def _remove(self, found: Sequence[StoredDocument | StoreDamaged]) -> None:
        run = self._connection.executemany
        documents = [old for old in found if isinstance(old, StoredDocument)]
        self._remove_unreadable([old.row for old in found if isinstance(old, StoreDamaged)])
        dimension = read_dimension(self._connection) or 0
        for document in documents:
            self._count(document, 4 * dimension, -1)
        for modality in MODALITIES:
            rows = [(old.row,) for old in documents if old.has_vector and old.record.modality == modality]
            run(f"DELETE FROM {vector_table(modality)} WHERE row = ?", rows)
        run(
            tags.DELETE,
            [
                entry
                for old in documents
                for entry in tags.tag_entries(
                    self._connection.dialect, old.record.modality, old.record.all_tags, old.row
                )
            ],
        )
        words = [(old.row, text) for old in documents if (text := searchable(old.record)) is not None]
        self._connection.dialect.remove_words(self._connection, "words", words)
        rows = [(old.row,) for old in documents]
        for table in ("contents", "thumbnails", "colours", "documents"):
            run(f"DELETE FROM {table} WHERE row = ?", rows)
        self._removed += [old.row for old in documents]

    def _remove_unreadable(self, rows: Sequence[int]) -> None:
        """Removes rows whose tags and words aren't known, and so have to be looked for everywhere."""
        run = self._connection.executemany
        for row in rows:
            parts = ("contents", "thumbnails", "colours", "documents", "tags")
            for table in (*map(vector_table, MODALITIES), *parts):
                run(f"DELETE FROM {table} WHERE row = ?", [(row,)])
        self._removed += rows
        self._unreadable += rows

    def make_words_again(self) -> None:
        """What cannot be read cannot be told to the index of words, so that it is made anew."""
        dialect = self._connection.dialect
        dialect.forget_words(self._connection, "words")
        entries = (
            (each.row, text)
            for each in documents_in_order(self._connection)
            if isinstance(each, StoredDocument) and (text := searchable(each.record)) is not None
        )
        dialect.add_words(self._connection, "words", entries)

    def count_again(self) -> None:
        """The counters from what is stored."""
        for modality in MODALITIES:
            documents, bytes = self._connection.execute(
                "SELECT count(*), coalesce(sum(coalesce(content_bytes, 0) + coalesce(thumbnail_bytes, 0)), 0)"
                " FROM documents WHERE modality = ?",
                (modality,),
            ).fetchone()
            vectors, vector_bytes = self._connection.execute(
                f"SELECT count(*), coalesce(sum(length(vector)), 0) FROM {vector_table(modality)}"
            ).fetchone()
            self._connection.execute(
                "UPDATE counts SET documents = ?, vectors = ?, bytes = ?, last_change = ? WHERE modality = ?",
                (documents, vectors, int(bytes + vector_bytes), time.time(), modality),
            )

    def _count(self, document: StoredDocument, vector_bytes: int, sign: int) -> None:
        size = (document.content_bytes or 0) + (document.thumbnail_bytes or 0)
        size += vector_bytes if document.has_vector else 0
        self._counts[document.record.modality].update(
            changed=1, documents=sign, vectors=sign * document.has_vector, bytes=sign * size
        )

    def _finish(self) -> None:
        sequence = self._before.sequence + 1
        run = self._connection.execute
        self._connection.executemany(
            "INSERT INTO tombstones (sequence, row) VALUES (?, ?)", [(sequence, row) for row in self._removed]
        )
        forgotten = self._before.tombstones_from
        if sequence - forgotten > _COMMITS_REMEMBERED:
            forgotten = sequence - _COMMITS_REMEMBERED // 2
            run("DELETE FROM tombstones WHERE sequence <= ?", (forgotten,))
        for modality, counts in self._counts.items():
            if counts["changed"]:
                run(
                    "UPDATE counts SET documents = documents + ?, vectors = vectors + ?, bytes = bytes + ?,"
                    " last_change = ? WHERE modality = ?",
                    (counts["documents"], counts["vectors"], counts["bytes"], time.time(), modality),
                )
        if self._unreadable:
            self.count_again()
            self.make_words_again()
        run(
            "UPDATE state SET sequence = ?, next_row = ?, tombstones_from = ?",
            (sequence, self._next_row, forgotten),
        )
        self._before = State(sequence, self._next_row, forgotten)
        self._removed, self._unreadable = [], []
        self._counts = {modality: Counter() for modality in MODALITIES}


@dataclass(frozen=True, slots=True)
class RemovedPhoto:
    """What is left of a photo, its captions and moments."""

    photo: str
    documents: list[Whole]


@dataclass(slots=True)
class _Given:
    whole: Whole
    uploaded: int = 0

    @property
    def record(self) -> Record:
        return self.whole.record


def _joined(old: Record, new: Record) -> Record:
    """What a client sends of a photo that lies on this machine: what is known of that stays.

    Of a caption the files stay that give it too.
    """
    if new.has_more_origins(old) and old.text == new.text:
        return new.from_files((*old.origins, *new.origins))
    if old.local is None or new.local is not None or new.modality != IMAGE or old.digest != new.digest:
        return new
    return replace(new, tags={**old.tags, **new.tags}, metadata=old.metadata, keeps=()).hashed()


def same_content(old: Record, new: Record) -> bool:
    """Whether what is made of one, its vector and thumbnail, holds for the other as well."""
    if old.modality == IMAGE:
        return old.digest is not None and old.digest == new.digest
    return old.text == new.text
