"""One row of ``documents``: a record without its bytes, and what other tables store of it."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

import orjson
from xxhash import xxh3_64_intdigest

from crossmodal.errors import StoreDamaged, StoreFormat
from crossmodal.index.embedded.connections import storable
from crossmodal.index.embedded.schema import vector_table
from crossmodal.records import MODALITIES, Modality, Record

__all__ = [
    "LONGEST_ID_BYTES",
    "Part",
    "StoredDocument",
    "captions_of",
    "captions_or_damage",
    "checksum",
    "damage_of_row",
    "document_in_row",
    "documents_in_order",
    "natural_order",
    "natural_sorted",
    "read_document",
    "stored_part",
    "tags_of",
    "usable_id",
]

LONGEST_ID_BYTES = 511

Part = Literal["vector", "original", "thumbnail"]
PARTS: tuple[Part, ...] = get_args(Part)

# Stands between the values of a row where its checksum is made.
_BETWEEN = "\x1f"

_JSON = json.JSONEncoder(separators=(",", ":"), default=str)

_FIELDS = (
    "row, modality, id, content_hash, text, uri, mime_type, photo_id, tags, has_vector, content_bytes,"
    " thumbnail_bytes, checksum"
)
_SELECT = f"SELECT {_FIELDS} FROM documents"
_SELECT_BY_ID = f"{_SELECT} WHERE modality = ? AND id = CAST(? AS TEXT)"
_SELECT_CAPTIONS = f"{_SELECT} WHERE modality = 'text' AND photo_id = CAST(? AS TEXT)"
_TEXT = "CAST(? AS TEXT)"


def checksum(data: bytes, row: int) -> int:
    """The XXH3 of ``data`` with the number of its row as the seed, 63 bits of it: SQLite's are signed."""
    return xxh3_64_intdigest(data, seed=row) >> 1


def usable_id(id: str) -> bool:
    """Whether a document can have this id: 1 to 511 bytes of UTF-8."""
    return 0 < len(id.encode("utf-8", "surrogatepass")) <= LONGEST_ID_BYTES


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A record without its bytes, its ``row``, and the sizes of what is stored of it (None: it isn't)."""

    INSERT = (
        f"INSERT INTO documents ({_FIELDS}) VALUES"
        f" (?, ?, {_TEXT}, ?, {_TEXT}, {_TEXT}, {_TEXT}, {_TEXT}, ?, ?, ?, ?, ?)"
    )

    row: int
    record: Record
    has_vector: bool
    content_bytes: int | None
    thumbnail_bytes: int | None

    @classmethod
    def of(cls, row: int, record: Record, *, has_vector: bool) -> Self:
        """The document that stores ``record``, bytes included."""
        return cls(
            row,
            replace(record, content=None, thumbnail=None),
            has_vector,
            None if record.content is None else len(record.content),
            None if record.thumbnail is None else len(record.thumbnail),
        )

    def values(self) -> tuple[Any, ...]:
        """The values of ``INSERT``; tags that JSON doesn't know are written as text."""
        record = self.record
        described = (
            record.modality,
            record.id,
            record.content_hash,
            record.text,
            record.uri,
            record.mime_type,
            record.photo_id,
            _JSON.encode(dict(record.tags)),
        )
        sizes = (int(self.has_vector), self.content_bytes, self.thumbnail_bytes)
        text = _BETWEEN.join(map(str, (*described, *sizes)))
        known = checksum(text.encode("utf-8", "surrogatepass"), self.row)
        return self.row, *map(storable, described), *sizes, known

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> Self:
        """The reverse of ``values``; raises ``StoreFormat`` where they don't match their checksum."""
        row, modality, id, content_hash, text, uri, mime_type, photo_id, tags = values[:9]
        has_vector, content_bytes, thumbnail_bytes, known = values[9:]
        text_of_all = _BETWEEN.join(map(str, values[1:12]))
        if checksum(text_of_all.encode("utf-8", "surrogatepass"), row) != known:
            raise StoreDamaged("document", str(id), row, modality=modality)
        if modality not in MODALITIES:
            raise StoreFormat(f"the document {id!r} has the modality {modality!r}, not {MODALITIES}")
        record = Record(
            id=id,
            modality=modality,
            text=text,
            uri=uri,
            mime_type=mime_type,
            photo_id=photo_id,
            tags={} if tags == "{}" else tags_of(tags),
            content_hash=content_hash,
        )
        return cls(row, record, bool(has_vector), content_bytes, thumbnail_bytes)


def read_document(connection: sqlite3.Connection, modality: Modality, id: str) -> StoredDocument | None:
    """The document ``id``, None if it isn't stored; raises ``StoreFormat`` if it is damaged."""
    values = connection.execute(_SELECT_BY_ID, (modality, storable(id))).fetchone()
    return None if values is None else StoredDocument.from_values(values)


def document_in_row(connection: sqlite3.Connection, row: int) -> StoredDocument | None:
    """The document in ``row``, None if there is none; raises as ``read_document``."""
    values = connection.execute(f"{_SELECT} WHERE row = ?", (row,)).fetchone()
    return None if values is None else StoredDocument.from_values(values)


def damage_of_row(connection: sqlite3.Connection, row: int) -> list[StoreDamaged]:
    """What is damaged of the document in ``row``; nothing where there is none (any more)."""
    try:
        document = document_in_row(connection, row)
    except StoreDamaged as error:
        return [error]
    except StoreFormat:
        return []
    if document is None:
        return []
    found = []
    for part in PARTS:
        try:
            stored_part(connection, document, part)
        except StoreDamaged as error:
            found.append(error)
    return found


def stored_part(connection: sqlite3.Connection, document: StoredDocument, part: Part) -> bytes | None:
    """The vector, original or thumbnail of ``document``, None if it has none; raises ``StoreDamaged``."""
    record, row = document.record, document.row
    table, column, expected = {
        "vector": (vector_table(record.modality), "vector", document.has_vector),
        "original": ("contents", "content", document.content_bytes is not None),
        "thumbnail": ("thumbnails", "content", document.thumbnail_bytes is not None),
    }[part]
    if not expected:
        return None
    found = connection.execute(f"SELECT {column}, checksum FROM {table} WHERE row = ?", (row,)).fetchone()
    if found is None or checksum(found[0], row) != found[1]:
        raise StoreDamaged(part, record.id, row, modality=record.modality)
    return bytes(found[0])


def captions_of(connection: sqlite3.Connection, photo_id: str) -> dict[str, StoredDocument]:
    """The captions that name ``photo_id`` as their photo, by id, in no particular order.

    Raises as ``read_document``.
    """
    captions = {}
    for caption in captions_or_damage(connection, photo_id):
        if isinstance(caption, StoreFormat):
            raise caption
        captions[caption.record.id] = caption
    return captions


def captions_or_damage(
    connection: sqlite3.Connection, photo_id: str
) -> Iterator[StoredDocument | StoreFormat]:
    """The captions of ``photo_id`` in no particular order; as ``documents_in_order``."""
    return _documents(connection.execute(_SELECT_CAPTIONS, (storable(photo_id),)))


def documents_in_order(connection: sqlite3.Connection) -> Iterator[StoredDocument | StoreFormat]:
    """All documents by row, and in the place of a damaged one what is wrong with it."""
    return _documents(connection.execute(f"{_SELECT} ORDER BY row"))


def _documents(found: sqlite3.Cursor) -> Iterator[StoredDocument | StoreFormat]:
    for values in found:
        try:
            yield StoredDocument.from_values(values)
        except StoreFormat as error:
            yield error


def tags_of(text: str) -> Any:
    """The tags that the JSON ``text`` in the column ``tags`` holds."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # NaN, and halves of characters.
        return json.loads(text)


_DIGITS = re.compile(r"([0-9]+)")


def natural_order(id: str) -> tuple[list[str | tuple[int, str]], str]:
    """A key that sorts ``42-2`` before ``42-10``: runs of digits by their number, then by the id itself."""
    parts: list[str | tuple[int, str]] = list(_DIGITS.split(id))
    # A number's length and digits order it as its value does, without a limit to its length.
    for position in range(1, len(parts), 2):
        digits = str(parts[position]).lstrip("0")
        parts[position] = len(digits), digits
    return parts, id


def natural_sorted(ids: list[str]) -> list[str]:
    """``ids`` in their natural order."""
    if len(ids) < 2:
        return ids
    start = ids[0].rpartition("-")[0] + "-"
    numbers = [id[len(start) :] for id in ids if id.startswith(start)]
    together = "".join(numbers)
    if len(numbers) == len(ids) and together.isascii() and together.isdigit() and all(numbers):
        # As data sets number them, ten times as quick.
        return [id for _, id in sorted(zip(map(int, numbers), ids, strict=True))]
    return sorted(ids, key=natural_order)
