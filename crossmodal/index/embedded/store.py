"""The documents of an index in one SQLite file: records, vectors, originals, thumbnails, tags and words.

What belongs to a document changes in one transaction, which is on disk before it is acknowledged.
"""

from __future__ import annotations

import json
import logging
import shlex
import threading
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from crossmodal import limits
from crossmodal.errors import (
    DataError,
    ModelMismatch,
    SettingsError,
    StoreError,
    StoreFormat,
    StoreUnwritable,
)
from crossmodal.index.embedded.changes import Changes
from crossmodal.index.embedded.connections import damage_advice, sync_folder
from crossmodal.index.embedded.dialect import Connected
from crossmodal.index.embedded.hubness_rows import take_banks
from crossmodal.index.embedded.library import Library, restore
from crossmodal.index.embedded.meta import read_meta, write_meta
from crossmodal.index.embedded.opening import open_for_reading, open_for_writing
from crossmodal.index.embedded.reserve import Reserve
from crossmodal.index.embedded.schema import FORMAT, UPGRADABLE
from crossmodal.index.embedded.seen_texts import (
    put_texts,
)
from crossmodal.index.embedded.store_reading import StoreReading
from crossmodal.index.embedded.stored_document import (
    read_document,
    usable_id,
)
from crossmodal.index.embedded.writer_lock import WriterLock
from crossmodal.index.object_store import checked_objects
from crossmodal.index.protocols import (
    SeenText,
)
from crossmodal.models.hubness import Banks
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.registry import banks_of, native_identity
from crossmodal.private_files import make_private_folder
from crossmodal.records import MODALITIES, TEXT, Modality, Outcome, Record

__all__ = ["EmbeddedStore", "mismatch_message"]

_logger = logging.getLogger(__name__)


class EmbeddedStore(StoreReading):
    """The index in a folder: at most one writer, any number of readers, in any processes.

    Make one with ``open_writer`` or ``open_reader``, and close it or use it in a ``with`` statement. Safe to
    use from several threads; each call sees the newest commit, also of other processes.
    """

    def __init__(
        self, path: Path, connections: Connected, lock: WriterLock | None, *, writable: bool = False
    ) -> None:
        super().__init__(path, connections)
        self._lock = lock
        self._writable = writable
        self._writing = threading.Lock()

    @classmethod
    def open_writer(
        cls, path: Path, *, identity: ModelIdentity | None = None, objects: str | None = None
    ) -> Self:
        """Open the index in the folder ``path`` for writing, made if it is not there.

        A new index is bound to ``identity``, and puts originals and thumbnails where ``objects`` says, as
        ``--objects`` does; None is as it is. Raises ``StoreLocked`` (another writer), ``ModelMismatch``,
        ``StoreFormat``, ``StoreUnwritable`` (full or read-only disk, no permission), or SettingsError for
        ``objects`` that cannot be used, or are elsewhere.
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
            connections, lock = open_for_writing(path)
        except StoreUnwritable:
            # On a full disk, so that something can be deleted.
            if not reserve.free():
                raise
            connections, lock = open_for_writing(path)
        store = cls(path, connections, lock, writable=True)
        try:
            if not connections.initialised:
                store._initialise()
            store._check_format()
            store._bind(identity)
            store._bind_objects(objects)
        except BaseException:
            store.close()
            raise
        if lock is not None:
            reserve.take()
        return store

    @classmethod
    def open_reader(cls, path: Path, *, identity: ModelIdentity | None = None) -> Self:
        """Open the index in the folder ``path`` for reading, also while it is written or on a read-only disk.

        Raises ``StoreMissing``, ``StoreFormat``, ``ModelMismatch``.
        """
        path = Path(path)
        store = cls(path, open_for_reading(path), None)
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
        (another dimension), ``StoreUnwritable`` or ``ObjectsUnavailable``.
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
        storage = self._objects.storage
        with self._writing, self._connections.write() as connection:
            damaged = {(error.row, error.part) for error in self._damage(connection)}
            return Changes(connection, damaged, storage).put(hashed, matrix)

    def update(self, records: Sequence[Record]) -> list[Outcome]:
        """Store what is new of documents of which the index has the content: their file, tags and metadata.

        A photo comes back from the trash with all that belonged to it. Returns and raises as ``put``, but
        that an original of a file, or one more origin, is no change of a document.
        """
        self._require_writer()
        hashed = [record.hashed() for record in records]
        quiet: list[bool] = []
        storage = self._objects.storage
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
            outcomes = Changes(connection, storage=storage).put(hashed, None)
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

    def put_texts(self, texts: Sequence[SeenText]) -> None:
        """Store what was read in photos, in one transaction; searches find it from then on."""
        self._require_writer()
        with self._writing, self._connections.write() as connection:
            put_texts(connection, texts)

    def adopt_files(self) -> None:
        """Note where photos lie that have the path of a file as their URI; see ``upgrade.adopt_files``."""
        from crossmodal.index.embedded.upgrade import adopt_files

        with self._writing, self._connections.write() as connection:
            adopt_files(connection)

    def mark_converted(self, format: str) -> None:
        """Notes that this index is whole and was converted from another format."""
        with self._writing, self._connections.write() as connection:
            write_meta(connection, "converted_from", format)

    @property
    def superseded(self) -> bool:
        """Whether to open the index again: its file, or the lock of who writes it, was deleted or replaced
        since, or this was closed."""
        return self._connections.superseded or (self._lock is not None and not self._lock.held)

    def _require_writer(self) -> None:
        if not self._writable:
            raise StoreError(
                f"The index in {self.path} is open for reading; open it with open_writer to change it."
            )

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
            # Another process may have made them while this one waited to write.
            if self._connections.has_tables(connection):
                return
            self._connections.make_tables(connection)
            connection.execute("INSERT INTO meta VALUES ('id', ?)", (uuid.uuid4().hex,))
            connection.execute("INSERT INTO state VALUES (1, 0, 0, 0)")
            for modality in MODALITIES:
                connection.execute("INSERT INTO counts VALUES (?, 0, 0, 0, NULL)", (modality,))
        sync_folder(self.path)

    def _check_format(self) -> None:
        found = self._connections.format
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
            if self._writable and identity.hubness not in ("", self.banks_fingerprint):
                self.take_banks_of(identity)
            return
        if known is not None or any(self.counts(modality).vectors for modality in MODALITIES):
            raise ModelMismatch(mismatch_message(self.path, known, identity))
        if self._writable:
            with self._writing, self._connections.write() as connection:
                # Another process may have bound it to its model meanwhile.
                if (other := read_meta(connection, "model")) is not None:
                    built_by = replace(ModelIdentity.from_json(json.loads(other)), hubness=identity.hubness)
                    if built_by != identity:
                        raise ModelMismatch(mismatch_message(self.path, built_by, identity))
                for name, value in (
                    ("model", json.dumps(identity.to_json())),
                    ("dimension", str(identity.dimension)),
                ):
                    write_meta(connection, name, value)
            self.take_banks_of(identity)

    def _bind_objects(self, objects: str | None) -> None:
        """Has an index without documents put its originals and thumbnails where ``objects`` says."""
        address = self.check_objects(objects)
        places = self._objects.places
        if address != places.address:
            with self._writing:
                self._objects.change(places.writing_to(address))

    def check_objects(self, objects: str | None) -> str:
        """The address that ``objects`` names, as ``--objects``, or that of the index where that is None.

        Raises SettingsError where the index has documents and another address.
        """
        places = self._objects.places
        address = places.address if objects is None else checked_objects(objects)
        if address == places.address:
            return address
        if any(self.counts(modality).documents for modality in MODALITIES) or self.library.trash():
            raise SettingsError(
                f"The index in {self.path} keeps originals and thumbnails in "
                f"{places.address or 'its own file'}. Move them with: crossmodal convert --workspace "
                f"{shlex.quote(str(self.path))} --objects {shlex.quote(objects or 'embedded')}"
            )
        return address

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
