"""One LMDB environment with documents, their bytes and their vectors.

Its trees: ``meta`` (format, identity, counters), ``ids`` (id to the document's number), ``documents`` (number
to metadata), ``contents`` and ``thumbnails`` (number to bytes), ``captions`` (a photo's id to the ids of
the captions that describe it), ``blocks`` (first row to a block of vectors), ``dead`` (rows that were
replaced but still lie in a block) and ``deaths`` (sequence number to the rows that died with it, so that a
reader in memory can follow).

Numbers ascend, so that new documents are written in one place; only ``ids`` and ``captions`` have their
keys in no order of time.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import (
    DataError,
    ModelMismatch,
    StoreError,
    StoreFormat,
    StoreUnwritable,
)
from crossmodal.models.identity import ModelIdentity
from crossmodal.records import Outcome, Record
from crossmodal.stores.batch import Batch
from crossmodal.stores.captions import PhotoCaptions
from crossmodal.stores.environment import Environment
from crossmodal.stores.file_check import DATA_FILE, damage_advice
from crossmodal.stores.keys import LONGEST_ID_BYTES, id_key, id_of, usable_key
from crossmodal.stores.mismatch import mismatch_message
from crossmodal.stores.reading import read_dimension, read_document, read_documents, read_number, read_state
from crossmodal.stores.row_blocks import RowBlocks
from crossmodal.stores.snapshot import VectorSnapshot
from crossmodal.stores.state import State
from crossmodal.stores.writer_lock import WriterLock

__all__ = ["FORMAT", "Store"]

# Grows whenever what lies on disk changes its meaning.
FORMAT = 3

_DIMENSION_LIMIT = 65_536


class Store:
    """One LMDB environment in a folder: at most one writer, any number of readers, in any processes.

    A batch is one transaction, synced to disk before it is acknowledged. Make one with
    ``open_writer`` or ``open_reader``, and close it or use it in a ``with`` statement. Safe to use from
    several threads. ``identity`` is that of the model that made the vectors, None where there is none yet.
    """

    def __init__(self, path: Path, environment: Environment, lock: WriterLock | None) -> None:
        self.path = path
        self._environment = environment
        self._lock = lock
        self._writing = threading.Lock()
        self._closed = False
        # Never changes once it is there.
        self._dimension: int | None = None
        try:
            self._check_format()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open_writer(cls, path: Path, *, identity: ModelIdentity | None = None) -> Store:
        """Open the store in the folder ``path`` for writing, made if it is not there.

        A new store is bound to ``identity``. Raises ``StoreLocked`` (another writer), ``ModelMismatch``,
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
        lock = WriterLock(path)
        try:
            environment = Environment.open(path, create=True)
        except BaseException:
            lock.release()
            raise
        try:
            environment.require_writable()
            if environment.blank:
                _initialise(environment)
                _sync_folder(path)
        except BaseException:
            environment.close()
            lock.release()
            raise
        store = cls(path, environment, lock)
        store._bind(identity)
        return store

    @classmethod
    def open_reader(cls, path: Path, *, identity: ModelIdentity | None = None) -> Store:
        """Open the store in the folder ``path`` for reading, also while it is written or on a read-only disk.

        Each call sees the newest commit. Raises ``StoreMissing``, ``StoreFormat``, ``ModelMismatch``.
        """
        path = Path(path)
        store = cls(path, Environment.open(path, create=False), None)
        store._bind(identity)
        return store

    def close(self) -> None:
        """Release the files and the writer's lock; harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        self._environment.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def put(
        self, records: Sequence[Record], vectors: NDArray[np.floating[Any]] | None = None
    ) -> list[Outcome]:
        """Store a batch in one transaction and return, after it is on disk, what became of each record.

        ``vectors`` is (n, dimension), one row for each record. A record whose content hash is already stored,
        along with everything that is given here, is unchanged and not written; what is given for the first
        time is added to what is there. Of an id that occurs twice the last wins. Raises ``DataError`` (an id
        or a vector that can't be stored; nothing is written then), ``ModelMismatch`` (another dimension) or
        ``StoreUnwritable``.
        """
        self._require_writer()
        hashed = [record if record.content_hash else record.hashed() for record in records]
        for record in hashed:
            if not usable_key(record.id):
                raise DataError(
                    f"The id {record.id[:60]!r} has {len(id_key(record.id))} bytes; an id must have 1 "
                    f"to {LONGEST_ID_BYTES}."
                )
        matrix = None if vectors is None else self._checked_vectors(vectors, len(hashed))
        with self._writing, self._environment.write() as transaction:
            return Batch(self._environment, transaction).put(hashed, matrix)

    def delete(self, ids: Iterable[str]) -> list[str]:
        """Delete documents with their bytes and vectors in one transaction.

        Returns the ids of those that there were, each once.
        """
        self._require_writer()
        wanted = [id for id in dict.fromkeys(ids) if usable_key(id)]
        with self._writing, self._environment.write() as transaction:
            return Batch(self._environment, transaction).delete(wanted)

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        """The records of ``ids`` without content and thumbnail, None for each that is not stored."""
        with self._reading() as transaction:
            found = read_documents(self._environment, transaction, ids)
        return [None if document is None else document.record for document in found]

    def vectors(self, ids: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """The vector, float32 (dimension,), of each of ``ids`` that has one; the others are left out."""
        with self._reading() as transaction:
            rows = {
                id: document.row
                for id in ids
                if (document := read_document(self._environment, transaction, id))
                and document.row is not None
            }
            found = RowBlocks(self._environment, transaction).read(rows.values())
        return {id: found[row] for id, row in rows.items()}

    def captions_of(self, photo_ids: Sequence[str]) -> list[list[Record]]:
        """For each of ``photo_ids`` the captions stored here that name it as their photo.

        They are in natural order of their ids, ``42-2`` before ``42-10``.
        """
        with self._reading() as transaction:
            captions = PhotoCaptions(self._environment, transaction)
            found = []
            for photo_id in photo_ids:
                documents = read_documents(self._environment, transaction, captions.of(photo_id))
                found.append([document.record for document in documents if document is not None])
            return found

    def hashes(self, ids: Sequence[str]) -> list[str | None]:
        """The content hashes of ``ids``, None for each that is not stored."""
        return [None if record is None else record.content_hash for record in self.get(ids)]

    def content(self, id: str) -> bytes | None:
        """The untouched bytes of a photo's file; None if they or the document are not stored."""
        return self._part("contents", id)

    def has_content(self, ids: Sequence[str]) -> list[bool]:
        """Whether the untouched bytes of each photo are stored; reads none of them."""
        with self._reading() as transaction:
            contents = self._environment.databases["contents"]
            numbers = [read_number(self._environment, transaction, id) for id in ids]
            return [
                number is not None and transaction.get(number, db=contents) is not None for number in numbers
            ]

    def thumbnail(self, id: str) -> bytes | None:
        """The small JPEG of a photo; None if it or the document is not stored."""
        return self._part("thumbnails", id)

    def ids(self, *, after: str | None = None) -> Iterator[str]:
        """All ids (those that come after ``after``) in the order of their bytes, as of one commit."""
        with (
            self._reading() as transaction,
            transaction.cursor(self._environment.databases["ids"]) as cursor,
        ):
            if after is not None and not _move_behind(cursor, after):
                return
            for key in cursor.iternext(keys=True, values=False):
                yield id_of(key)

    @contextmanager
    def vector_snapshot(self) -> Iterator[VectorSnapshot]:
        """All vectors as of one commit, for an index in memory to load or to follow."""
        with self._reading() as transaction:
            state = read_state(self._environment, transaction)
            yield VectorSnapshot(
                store_id=self._text(transaction, "store"),
                sequence=state.sequence,
                next_row=state.next_row,
                count=state.vectors,
                dimension=read_dimension(self._environment, transaction),
                _rows=RowBlocks(self._environment, transaction),
                _environment=self._environment,
                _transaction=transaction,
                _pruned=state.deaths_pruned,
            )

    def verify(self) -> list[str]:
        """Every inconsistency found in a full check of the store, a sentence each; empty if it is sound.

        Reads everything once. The structure of the file itself is checked only by a writer, because
        that needs a file that nobody else changes.
        """
        from crossmodal.stores.verification import find_damage

        with self._writing:
            return find_damage(self._environment, structure=self._lock is not None)

    @property
    def sequence(self) -> int:
        """The number of commits that changed something."""
        return self._counters().sequence

    @property
    def document_count(self) -> int:
        """How many documents are stored."""
        return self._counters().documents

    @property
    def vector_count(self) -> int:
        """How many of them have a vector."""
        return self._counters().vectors

    @property
    def last_change(self) -> datetime | None:
        """When the last commit was made, in UTC; None if there was none."""
        seconds = self._counters().last_change
        return datetime.fromtimestamp(seconds, UTC) if seconds else None

    @property
    def dimension(self) -> int | None:
        """The length of each vector; None until the store has an identity or a vector."""
        if self._dimension is None:
            with self._reading() as transaction:
                self._dimension = read_dimension(self._environment, transaction)
        return self._dimension

    @property
    def id(self) -> str:
        """What tells this store from one that was made later in the same folder."""
        with self._reading() as transaction:
            return self._text(transaction, "store")

    @property
    def identity(self) -> ModelIdentity | None:
        """The model that made the vectors; None for a store that has none."""
        with self._reading() as transaction:
            text = self._text(transaction, "identity")
        return ModelIdentity.from_json(json.loads(text)) if text else None

    @property
    def bytes_on_disk(self) -> int:
        """The size of all files of the store, derived ones included."""
        size = 0
        for file in self.path.iterdir():
            # Derived files are written and renamed at any moment.
            with suppress(FileNotFoundError):
                status = file.stat()
                size += status.st_size if S_ISREG(status.st_mode) else 0
        return size

    @property
    def superseded(self) -> bool:
        """Whether to open the store again: the folder was deleted or made anew since, or this was closed."""
        return self._closed or not self._environment.is_in(self.path)

    def _reading(self) -> Any:
        if self._closed:
            raise StoreError(f"The store {self.path} is closed.")
        return self._environment.read()

    def _require_writer(self) -> None:
        if self._closed:
            raise StoreError(f"The store {self.path} is closed.")
        if self._lock is None:
            raise StoreError(
                f"The store {self.path} is open for reading; open it with Store.open_writer to change it."
            )

    def _counters(self) -> State:
        with self._reading() as transaction:
            return read_state(self._environment, transaction)

    def _text(self, transaction: Any, name: str) -> str:
        value = transaction.get(name.encode(), db=self._environment.databases["meta"])
        return "" if value is None else bytes(value).decode()

    def _part(self, database: str, id: str) -> bytes | None:
        with self._reading() as transaction:
            number = read_number(self._environment, transaction, id)
            if number is None:
                return None
            value = transaction.get(number, db=self._environment.databases[database])
            return None if value is None else bytes(value)

    def _checked_vectors(self, vectors: NDArray[np.floating[Any]], count: int) -> NDArray[np.float32]:
        matrix = np.ascontiguousarray(vectors, dtype=np.float32)
        if matrix.ndim != 2 or len(matrix) != count or not 0 < matrix.shape[1] <= _DIMENSION_LIMIT:
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

    def _check_format(self) -> None:
        environment = self._environment
        if not environment.initialised:
            raise StoreFormat(
                f"{self.path / DATA_FILE} is an LMDB file, but not an index of this project. "
                f"{damage_advice(self.path)}"
            )
        with self._reading() as transaction:
            found = self._text(transaction, "format")
        if found == str(FORMAT):
            return
        if not found.isdecimal():
            raise StoreFormat(
                f"The index in {self.path} has no format version that can be read ({found!r}). "
                f"{damage_advice(self.path)}"
            )
        advice = "Update this program, or delete" if int(found) > FORMAT else "Delete"
        raise StoreFormat(
            f"The index in {self.path} has format {found}, but this program knows format {FORMAT} only. "
            f"{advice} the workspace that it is part of and index again, or choose another --workspace."
        )

    def _bind(self, identity: ModelIdentity | None) -> None:
        """Compare ``identity`` to the store's own, or make it that if the store is new."""
        if identity is None:
            return
        try:
            known = self.identity
            if known is None and self._counters().next_row == 0:
                if self._lock is not None:
                    with self._writing, self._environment.write() as transaction:
                        text = json.dumps(identity.to_json())
                        meta = self._environment.databases["meta"]
                        transaction.put(b"identity", text.encode(), db=meta)
                        transaction.put(b"dimension", str(identity.dimension).encode(), db=meta)
            elif known != identity:
                raise ModelMismatch(mismatch_message(self.path, known, identity))
        except BaseException:
            self.close()
            raise


def _move_behind(cursor: Any, id: str) -> bool:
    """Move ``cursor`` to the first key that comes after ``id``; False if there is none."""
    # No key is longer, so what comes after a longer id is what comes after its beginning.
    key = id_key(id)[:LONGEST_ID_BYTES]
    if not key:
        return bool(cursor.first())
    if not cursor.set_range(key):
        return False
    return bytes(cursor.key()) != key or bool(cursor.next())


def _make_folder(path: Path) -> None:
    """Make ``path`` and its parents so that they survive a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        _sync_folder(folder.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _initialise(environment: Environment) -> None:
    with environment.write() as transaction:
        environment.create_databases(transaction)
        meta = environment.databases["meta"]
        transaction.put(b"format", str(FORMAT).encode(), db=meta)
        transaction.put(b"store", uuid.uuid4().hex.encode(), db=meta)
        transaction.put(b"state", State().to_bytes(), db=meta)
