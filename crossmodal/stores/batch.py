"""The changes that one transaction makes to a store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import StoreFormat
from crossmodal.records import Outcome, Record
from crossmodal.stores.captions import PhotoCaptions
from crossmodal.stores.environment import Environment
from crossmodal.stores.keys import id_key, pack_number, unpack_number
from crossmodal.stores.reading import read_document, read_state
from crossmodal.stores.row_blocks import RowBlocks
from crossmodal.stores.stored_document import StoredDocument, StoredPart

__all__ = ["Batch"]

# A reader that missed more commits with deaths than this loads all vectors again.
_DEATHS_KEPT = 4096

# The trees whose keys are the numbers of documents.
_BY_NUMBER = ("documents", "contents", "thumbnails")


class Batch:
    """The changes of one write transaction: documents, bytes, vectors, deaths and counters together."""

    def __init__(self, environment: Environment, transaction: Any) -> None:
        self._environment = environment
        self._transaction = transaction
        self._before = read_state(environment, transaction)
        self._rows = RowBlocks(environment, transaction)
        self._captions = PhotoCaptions(environment, transaction)
        self._died: list[int] = []
        self._next_number = self._before.next_number
        self._added: dict[str, list[tuple[bytes, bytes]]] = {name: [] for name in ("ids", *_BY_NUMBER)}

    def put(self, records: Sequence[Record], vectors: NDArray[np.float32] | None) -> list[Outcome]:
        """Store hashed ``records`` with ``vectors`` (n, dimension) if there are any; see ``Store.put``."""
        stored: dict[str, StoredDocument | None] = {}
        last: dict[str, int] = {}
        outcomes: list[Outcome] = []
        for position, record in enumerate(records):
            if record.id not in stored:
                stored[record.id] = read_document(self._environment, self._transaction, record.id)
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
            row = None if vectors is None else first_row + offset
            if (old := stored[record.id]) is None:
                self._add(record, row)
            else:
                self._replace(old, record, row)
        self._append_added()
        if vectors is not None:
            self._rows.append(first_row, [records[position].id for position in changed], vectors[changed])
            self._transaction.put(b"dimension", str(vectors.shape[1]).encode(), db=self._database("meta"))
        self._finish(
            documents=sum(stored[records[position].id] is None for position in changed),
            rows=0 if vectors is None else len(changed),
        )
        return outcomes

    def delete(self, ids: Sequence[str]) -> list[str]:
        """Remove documents with all that belongs to them; returns the ids of those that there were."""
        removed = []
        for id in ids:
            document = read_document(self._environment, self._transaction, id)
            if document is None:
                continue
            removed.append(id)
            self._transaction.delete(id_key(id), db=self._database("ids"))
            for name in _BY_NUMBER:
                self._transaction.delete(pack_number(document.number), db=self._database(name))
            self._captions.replace(id, document.record, None)
            if document.row is not None:
                self._died.append(document.row)
        if removed:
            self._finish(documents=-len(removed), rows=0)
        return removed

    def _database(self, name: str) -> Any:
        return self._environment.databases[name]

    def _add(self, record: Record, row: int | None) -> None:
        number = self._next_number
        self._next_number += 1
        document = StoredDocument(
            number, record, row, StoredPart.of(record.content), StoredPart.of(record.thumbnail)
        )
        key = pack_number(number)
        self._added["ids"].append((id_key(record.id), key))
        self._added["documents"].append((key, document.to_bytes()))
        if record.content is not None:
            self._added["contents"].append((key, record.content))
        if record.thumbnail is not None:
            self._added["thumbnails"].append((key, record.thumbnail))
        self._captions.replace(record.id, None, record)

    def _append_added(self) -> None:
        """Put what ``_add`` collected; what has a number goes behind all others, which fills every page."""
        self._added["ids"].sort()
        for name, items in self._added.items():
            with self._transaction.cursor(self._database(name)) as cursor:
                _, added = cursor.putmulti(items, append=name in _BY_NUMBER)
            if added != len(items):
                raise StoreFormat(f"{len(items)} new {name} are not behind those that there are")

    def _replace(self, old: StoredDocument, record: Record, row: int | None) -> None:
        # The same version of a document keeps what it had and isn't given again; a new one keeps nothing.
        same = old.record.content_hash == record.content_hash
        document = StoredDocument(
            old.number,
            record,
            old.row if row is None and same else row,
            self._replace_part("contents", old.number, record.content, old.content, same),
            self._replace_part("thumbnails", old.number, record.thumbnail, old.thumbnail, same),
        )
        self._transaction.put(pack_number(old.number), document.to_bytes(), db=self._database("documents"))
        self._captions.replace(record.id, old.record, record)
        if old.row is not None and old.row != document.row:
            self._died.append(old.row)

    def _replace_part(
        self, name: str, number: int, value: bytes | None, old: StoredPart | None, keep: bool
    ) -> StoredPart | None:
        if value is not None:
            self._transaction.put(pack_number(number), value, db=self._database(name))
            return StoredPart.of(value)
        if old is not None and not keep:
            self._transaction.delete(pack_number(number), db=self._database(name))
        return old if keep else None

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
            next_number=self._next_number,
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
                pruned = unpack_number(cursor.key())
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
