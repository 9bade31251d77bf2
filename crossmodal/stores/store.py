"""One LMDB environment with documents, their bytes and their vectors.

Its trees: ``meta`` (format, identity, counters), ``documents`` (id to metadata), ``contents`` and
``thumbnails`` (id to bytes), ``blocks`` (first row to a block of vectors), ``dead`` (rows that were
replaced but still lie in a block) and ``deaths`` (sequence number to the rows that died with it, so that
a reader in memory can follow).
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
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
from crossmodal.stores.blocks import VectorBlock
from crossmodal.stores.environment import Environment
from crossmodal.stores.file_check import DATA_FILE, damage_advice
from crossmodal.stores.row_blocks import RowBlocks, pack_number
from crossmodal.stores.state import State
from crossmodal.stores.stored_document import StoredDocument, StoredPart
from crossmodal.stores.writer_lock import WriterLock

__all__ = ["FORMAT", "Store", "VectorSnapshot"]

# Grows whenever what lies on disk changes its meaning.
FORMAT = 1

# LMDB's own limit for a key (MDB_MAXKEYSIZE).
_LONGEST_ID_BYTES = 511

# A reader that missed more commits with deaths than this loads all vectors again.
_DEATHS_KEPT = 4096

_DIMENSION_LIMIT = 65_536


def _key(id: str) -> bytes:
    return id.encode("utf-8", "surrogatepass")


def _usable_key(id: str) -> bool:
    return 0 < len(_key(id)) <= _LONGEST_ID_BYTES


@dataclass(frozen=True, slots=True)
class VectorSnapshot:
    """The vectors of a store as of one commit, ``sequence``; usable inside ``Store.vector_snapshot`` only.

    ``store_id`` tells this store from one made later in the same folder; ``count`` is the number of living
    vectors, and rows are numbered below ``next_row``.
    """

    store_id: str
    sequence: int
    next_row: int
    count: int
    dimension: int | None
    _rows: RowBlocks
    _deaths: Any
    _transaction: Any
    _pruned: int

    def blocks(self, first_row: int = 0) -> Iterator[VectorBlock]:
        """The living rows from ``first_row`` on, ascending; copy the arrays to keep them."""
        return self._rows.live(first_row)

    def deaths_after(self, sequence: int) -> NDArray[np.uint64] | None:
        """The rows that died after ``sequence``; None if that is too long ago to tell: load everything."""
        if sequence < self._pruned or sequence > self.sequence:
            return None
        with self._transaction.cursor(self._deaths) as cursor:
            if not cursor.set_range(pack_number(sequence + 1)):
                return np.empty(0, np.uint64)
            died = [np.frombuffer(bytes(value), "<u8") for value in cursor.iternext(keys=False, values=True)]
        return np.concatenate(died)


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
        along with everything that is given here, is unchanged and not written. Of an id that occurs twice the
        last wins. Raises ``DataError`` (an id or a vector that can't be stored; nothing is written then),
        ``ModelMismatch`` (another dimension) or ``StoreUnwritable``.
        """
        self._require_writer()
        hashed = [record if record.content_hash else record.hashed() for record in records]
        for record in hashed:
            if not _usable_key(record.id):
                raise DataError(
                    f"The id {record.id[:60]!r} has {len(_key(record.id))} bytes; an id must have 1 to "
                    f"{_LONGEST_ID_BYTES}."
                )
        matrix = None if vectors is None else self._checked_vectors(vectors, len(hashed))
        with self._writing, self._environment.write() as transaction:
            return _Batch(self._environment, transaction).put(hashed, matrix)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete documents with their bytes and vectors in one transaction; returns how many there were."""
        self._require_writer()
        wanted = [id for id in dict.fromkeys(ids) if _usable_key(id)]
        with self._writing, self._environment.write() as transaction:
            return _Batch(self._environment, transaction).delete(wanted)

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        """The records of ``ids`` without content and thumbnail, None for each that is not stored."""
        with self._reading() as transaction:
            found = [_document(self._environment, transaction, id) for id in ids]
        return [None if document is None else document.record for document in found]

    def hashes(self, ids: Sequence[str]) -> list[str | None]:
        """The content hashes of ``ids``, None for each that is not stored."""
        return [None if record is None else record.content_hash for record in self.get(ids)]

    def content(self, id: str) -> bytes | None:
        """The untouched bytes of a photo's file; None if they or the document are not stored."""
        return self._part("contents", id)

    def thumbnail(self, id: str) -> bytes | None:
        """The small JPEG of a photo; None if it or the document is not stored."""
        return self._part("thumbnails", id)

    def ids(self) -> Iterator[str]:
        """All ids in the order of their bytes, as of one commit."""
        with (
            self._reading() as transaction,
            transaction.cursor(self._environment.database("documents")) as cursor,
        ):
            for key in cursor.iternext(keys=True, values=False):
                yield bytes(key).decode("utf-8", "surrogatepass")

    @contextmanager
    def vector_snapshot(self) -> Iterator[VectorSnapshot]:
        """All vectors as of one commit, for an index in memory to load or to follow."""
        with self._reading() as transaction:
            state = _state(self._environment, transaction)
            yield VectorSnapshot(
                store_id=self._text(transaction, "store"),
                sequence=state.sequence,
                next_row=state.next_row,
                count=state.vectors,
                dimension=_dimension(self._environment, transaction),
                _rows=RowBlocks(self._environment, transaction),
                _deaths=self._environment.database("deaths"),
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
        with self._reading() as transaction:
            return _dimension(self._environment, transaction)

    @property
    def identity(self) -> ModelIdentity | None:
        """The model that made the vectors; None for a store that has none."""
        with self._reading() as transaction:
            text = self._text(transaction, "identity")
        return ModelIdentity.from_json(json.loads(text)) if text else None

    @property
    def bytes_on_disk(self) -> int:
        """The size of all files of the store, derived ones included."""
        return sum(file.stat().st_size for file in self.path.iterdir() if file.is_file())

    @property
    def superseded(self) -> bool:
        """Whether the folder was deleted or made anew since this store was opened: open it again then."""
        return not self._environment.is_in(self.path)

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
            return _state(self._environment, transaction)

    def _text(self, transaction: Any, name: str) -> str:
        value = transaction.get(name.encode(), db=self._environment.database("meta"))
        return "" if value is None else bytes(value).decode()

    def _part(self, database: str, id: str) -> bytes | None:
        if not _usable_key(id):
            return None
        with self._reading() as transaction:
            value = transaction.get(_key(id), db=self._environment.database(database))
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
        advice = "Update this program" if int(found) > FORMAT else "Use the older version of this program"
        raise StoreFormat(
            f"The index in {self.path} has format {found}, but this program knows format {FORMAT} only. "
            f"{advice}, or index again into another --workspace."
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
                        transaction.put(b"identity", text.encode(), db=self._environment.database("meta"))
            elif known != identity:
                raise ModelMismatch(mismatch_message(self.path, known, identity))
        except BaseException:
            self.close()
            raise


def mismatch_message(path: Path, built_by: ModelIdentity | None, asked: ModelIdentity) -> str:
    """The sentences that name both models and say what to do."""
    if built_by is None:
        return (
            f"The index in {path} doesn't say which model built it, so {asked} cannot be used with it. "
            "Delete it and index again, or choose another --workspace."
        )
    return (
        f"The index in {path} was built by the model {built_by}, but {asked} is asked for. Use -m "
        f"{built_by.name} with the same weights, or choose another --workspace, or delete the index and "
        "index again."
    )


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
        meta = environment.database("meta")
        transaction.put(b"format", str(FORMAT).encode(), db=meta)
        transaction.put(b"store", uuid.uuid4().hex.encode(), db=meta)
        transaction.put(b"state", State().to_bytes(), db=meta)


def _state(environment: Environment, transaction: Any) -> State:
    value = transaction.get(b"state", db=environment.database("meta"))
    if value is None:
        raise StoreFormat("its counters are missing")
    return State.from_bytes(value)


def _dimension(environment: Environment, transaction: Any) -> int | None:
    value = transaction.get(b"dimension", db=environment.database("meta"))
    return None if value is None else int(bytes(value))


def _document(environment: Environment, transaction: Any, id: str) -> StoredDocument | None:
    if not _usable_key(id):
        return None
    value = transaction.get(_key(id), db=environment.database("documents"))
    return None if value is None else StoredDocument.from_bytes(id, value)


class _Batch:
    """The changes of one transaction."""

    def __init__(self, environment: Environment, transaction: Any) -> None:
        self._environment = environment
        self._transaction = transaction
        self._before = _state(environment, transaction)
        self._rows = RowBlocks(environment, transaction)
        self._died: list[int] = []

    def put(self, records: Sequence[Record], vectors: NDArray[np.float32] | None) -> list[Outcome]:
        stored: dict[str, StoredDocument | None] = {}
        last: dict[str, int] = {}
        outcomes: list[Outcome] = []
        for position, record in enumerate(records):
            if record.id not in stored:
                stored[record.id] = _document(self._environment, self._transaction, record.id)
            earlier, old = last.get(record.id), stored[record.id]
            if earlier is not None:
                same = records[earlier].content_hash == record.content_hash
            elif old is not None:
                same = _has_all(old, record, vectors is not None)
            else:
                outcomes.append("added")
                last[record.id] = position
                continue
            outcomes.append("unchanged" if same else "replaced")
            last[record.id] = position
        changed = [
            position
            for id, position in last.items()
            if (old := stored[id]) is None or not _has_all(old, records[position], vectors is not None)
        ]
        if not changed:
            return outcomes
        first_row = self._before.next_row
        for offset, position in enumerate(changed):
            record = records[position]
            self._write(record, stored[record.id], None if vectors is None else first_row + offset)
        if vectors is not None:
            self._rows.append(first_row, [records[position].id for position in changed], vectors[changed])
            self._transaction.put(b"dimension", str(vectors.shape[1]).encode(), db=self._database("meta"))
        self._finish(
            documents=sum(stored[records[position].id] is None for position in changed),
            rows=0 if vectors is None else len(changed),
        )
        return outcomes

    def delete(self, ids: Sequence[str]) -> int:
        count = 0
        for id in ids:
            document = _document(self._environment, self._transaction, id)
            if document is None:
                continue
            count += 1
            for name in ("documents", "contents", "thumbnails"):
                self._transaction.delete(_key(id), db=self._database(name))
            if document.row is not None:
                self._died.append(document.row)
        if count:
            self._finish(documents=-count, rows=0)
        return count

    def _database(self, name: str) -> Any:
        return self._environment.database(name)

    def _write(self, record: Record, old: StoredDocument | None, row: int | None) -> None:
        key = _key(record.id)
        parts = (
            ("contents", record.content, None if old is None else old.content),
            ("thumbnails", record.thumbnail, None if old is None else old.thumbnail),
        )
        for name, value, old_part in parts:
            if value is not None:
                self._transaction.put(key, value, db=self._database(name))
            elif old_part is not None:
                self._transaction.delete(key, db=self._database(name))
        document = StoredDocument(record, row, StoredPart.of(record.content), StoredPart.of(record.thumbnail))
        self._transaction.put(key, document.to_bytes(), db=self._database("documents"))
        if old is not None and old.row is not None:
            self._died.append(old.row)

    def _finish(self, *, documents: int, rows: int) -> None:
        before = self._before
        sequence = before.sequence + 1
        pruned = before.deaths_pruned
        if self._died:
            self._rows.bury(self._died)
            log = self._database("deaths")
            self._transaction.put(pack_number(sequence), np.array(self._died, "<u8").tobytes(), db=log)
            pruned = self._prune(log, pruned)
        state = replace(
            before,
            sequence=sequence,
            documents=before.documents + documents,
            vectors=before.vectors + rows - len(self._died),
            next_row=before.next_row + rows,
            deaths_pruned=pruned,
            last_change=time.time(),
        )
        self._transaction.put(b"state", state.to_bytes(), db=self._database("meta"))

    def _prune(self, log: Any, pruned: int) -> int:
        """Forget the older half of the log of deaths when it is full; returns the last sequence forgotten."""
        if self._transaction.stat(log)["entries"] <= _DEATHS_KEPT:
            return pruned
        with self._transaction.cursor(log) as cursor:
            cursor.first()
            for _ in range(_DEATHS_KEPT // 2):
                pruned = int.from_bytes(cursor.key(), "big")
                cursor.delete()
        return pruned


def _has_all(old: StoredDocument, record: Record, with_vector: bool) -> bool:
    """Whether ``old`` is ``record`` already, with everything that is now given of it."""
    return (
        old.record.content_hash == record.content_hash
        and (old.row is not None or not with_vector)
        and (old.content is not None or record.content is None)
        and (old.thumbnail is not None or record.thumbnail is None)
    )
