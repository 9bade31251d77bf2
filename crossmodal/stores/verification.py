"""The full check of a store: whether what it holds is whole and agrees with itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crossmodal.errors import StoreFormat
from crossmodal.stores.captions import PhotoCaptions, described_photo
from crossmodal.stores.checksum import checksum
from crossmodal.stores.environment import Environment
from crossmodal.stores.file_check import DATA_FILE, structural_damage
from crossmodal.stores.keys import id_of, unpack_number
from crossmodal.stores.row_blocks import RowBlocks
from crossmodal.stores.state import State
from crossmodal.stores.stored_document import StoredDocument, StoredPart

__all__ = ["find_damage"]


def find_damage(environment: Environment, *, structure: bool) -> list[str]:
    """Every inconsistency, one sentence each; ``structure`` walks the pages too, which needs a quiet file."""
    problems = structural_damage(environment.folder / DATA_FILE) if structure else []
    if problems:
        return [f"the file is damaged: {problem}" for problem in problems]
    with environment.read() as transaction:
        check = _Check(environment, transaction)
        return [
            *check.documents(),
            *check.parts("contents"),
            *check.parts("thumbnails"),
            *check.captions(),
            *check.vectors(),
        ]


class _Check:
    def __init__(self, environment: Environment, transaction: Any) -> None:
        self._environment = environment
        self._transaction = transaction
        self._state = State.from_bytes(transaction.get(b"state", db=environment.databases["meta"]))
        self._row_of: dict[str, int] = {}
        self._described: set[tuple[str, str]] = set()
        self._parts: dict[str, dict[int, StoredPart]] = {"contents": {}, "thumbnails": {}}

    def documents(self) -> Iterator[str]:
        noted = {unpack_number(number): id_of(id) for id, number in self._items("ids")}
        count = 0
        for key, value in self._items("documents"):
            count += 1
            number = unpack_number(key)
            known_as = noted.pop(number, None)
            try:
                document = StoredDocument.from_bytes(number, value)
            except StoreFormat as error:
                yield str(error)
                continue
            id = document.record.id
            if known_as != id:
                yield f"number {number} is the document {id!r} but is noted for {known_as!r}"
            if number >= self._state.next_number:
                yield f"number {number} was never given out"
            if document.row is not None:
                self._row_of[id] = document.row
            if (photo_id := described_photo(document.record)) is not None:
                self._described.add((photo_id, id))
            for name, part in (("contents", document.content), ("thumbnails", document.thumbnail)):
                if part is not None:
                    self._parts[name][number] = part
        for number, id in noted.items():
            yield f"the document {id!r}, number {number}, is missing"
        if count != self._state.documents:
            yield f"{count} documents are stored but {self._state.documents} are counted"

    def parts(self, name: str) -> Iterator[str]:
        expected = dict(self._parts[name])
        for key, value in self._items(name):
            number = unpack_number(key)
            part = expected.pop(number, None)
            if part is None:
                yield f"the {name} hold number {number}, which no document asks for"
            elif len(value) != part.size or checksum(value) != part.checksum:
                yield f"the {name} of document number {number} do not match their checksum"
        for number in expected:
            yield f"the {name} of document number {number} are missing"

    def captions(self) -> Iterator[str]:
        noted = PhotoCaptions(self._environment, self._transaction).pairs()
        for photo_id, id in sorted(noted - self._described):
            yield f"the captions of {photo_id!r} name {id!r}, which does not describe it"
        for photo_id, id in sorted(self._described - noted):
            yield f"the captions of {photo_id!r} lack {id!r}"

    def vectors(self) -> Iterator[str]:
        rows = RowBlocks(self._environment, self._transaction)
        dimension = self._transaction.get(b"dimension", db=self._environment.databases["meta"])
        expected = dict(self._row_of)
        stored: set[int] = set()
        try:
            for block in rows.every():
                if dimension is None or block.vectors.shape[1] != int(bytes(dimension)):
                    yield f"a block of vectors has {block.vectors.shape[1]} dimensions, unlike the store"
                for row in block.rows.tolist():
                    if row in stored or row >= self._state.next_row:
                        yield f"row {row} is stored twice or was never given out"
                    stored.add(row)
            for block in rows.live():
                for id, row in zip(block.ids, block.rows.tolist(), strict=True):
                    if expected.pop(id, None) != row:
                        yield f"row {row} belongs to {id!r}, whose document has row {self._row_of.get(id)}"
        except StoreFormat as error:
            yield str(error)
            return
        for id, row in expected.items():
            yield f"the vector of {id!r}, row {row}, is missing"
        for row in rows.dead_rows().tolist():
            if row not in stored:
                yield f"row {row} is marked as dead but not stored"
        if len(self._row_of) != self._state.vectors:
            yield f"{len(self._row_of)} documents have a vector but {self._state.vectors} are counted"
        with self._transaction.cursor(self._environment.databases["deaths"]) as cursor:
            if cursor.last() and unpack_number(cursor.key()) > self._state.sequence:
                yield "rows died after the last change"

    def _items(self, name: str) -> Iterator[tuple[memoryview, memoryview]]:
        with self._transaction.cursor(self._environment.databases[name]) as cursor:
            yield from cursor
