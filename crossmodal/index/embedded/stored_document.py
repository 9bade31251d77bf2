"""One row of ``documents``: a record without its bytes, and what other tables store of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

import orjson
from xxhash import xxh3_64_intdigest

from crossmodal import limits
from crossmodal.errors import StoreDamaged, StoreFormat
from crossmodal.index.embedded.connections import storable
from crossmodal.index.embedded.dialect import Connection, Found
from crossmodal.index.embedded.schema import vector_table
from crossmodal.index.objects import Stored, size_of
from crossmodal.records import IMAGE, MODALITIES, LocalFile, Look, Modality, Record

__all__ = [
    "BETWEEN",
    "RESTORED",
    "Part",
    "StoredDocument",
    "Whole",
    "captions_of",
    "captions_or_damage",
    "checksum",
    "colour_of",
    "damage_of_row",
    "document_in_row",
    "documents_in_order",
    "look_of",
    "parts_or_damage",
    "read_document",
    "rewrite",
    "stored_part",
    "stored_vector",
    "tags_of",
    "usable_id",
]

Part = Literal["vector", "original", "thumbnail"]
PARTS: tuple[Part, ...] = get_args(Part)

# Stands between the values of a row where its checksum is made.
BETWEEN = "\x1f"

# What ``uploaded`` is of a photo that was brought back from the trash: it stays without a file, until that is
# back as well.
RESTORED = 2

_JSON = json.JSONEncoder(separators=(",", ":"), default=str)

_FIELDS = (
    "row, modality, id, content_hash, text, uri, mime_type, photo_id, tags, metadata, digest, origin,"
    " uploaded, has_vector, content_bytes, thumbnail_bytes, checksum"
)
# The first file of the photo, of a caption's photo, or of a moment's video.
_FILE = (
    "(SELECT rtrim(roots.path, '/') || '//' || files.path FROM files JOIN roots ON roots.id = files.root"
    " WHERE files.photo = coalesce(documents.photo_id, documents.id) ORDER BY files.root, files.path LIMIT 1)"
)
_SELECT = f"SELECT {_FIELDS}, {_FILE} FROM documents"
_SELECT_BY_ID = f"{_SELECT} WHERE modality = ? AND id = CAST(? AS TEXT)"
_SELECT_CAPTIONS = f"{_SELECT} WHERE modality = 'text' AND photo_id = CAST(? AS TEXT) ORDER BY row"
_SELECT_PARTS = f"{_SELECT} WHERE photo_id = CAST(? AS TEXT) ORDER BY row"
_SELECT_LOOK = (
    "SELECT metadata, colour FROM documents LEFT JOIN colours USING (row)"
    " WHERE modality = 'image' AND id = CAST(? AS TEXT)"
)
_TEXT = "CAST(? AS TEXT)"


def checksum(data: Stored, row: int) -> int:
    """The XXH3 of ``data`` with the number of its row as the seed, 63 bits of it: SQLite's are signed."""
    data = data.encode() if isinstance(data, str) else data
    return xxh3_64_intdigest(data, seed=row) >> 1


def usable_id(id: str) -> bool:
    """Whether a document can have this id: 1 to 511 bytes of UTF-8."""
    return 0 < len(id.encode("utf-8", "surrogatepass")) <= limits.STORED_ID.most


@dataclass(slots=True)
class Whole:
    """A record without its bytes, and all that is stored of it, as it stands in the rows of the index.

    ``original`` and ``thumbnail`` are the bytes themselves or references to them, ``colour`` is 0xRRGGBB.
    """

    record: Record
    vector: bytes | None = None
    original: Stored | None = None
    thumbnail: Stored | None = None
    colour: int | None = None

    @classmethod
    def of(cls, record: Record, vector: bytes | None = None, *, colour: int | None = None) -> Self:
        """What a record with its bytes brings."""
        bare = replace(record, content=None, thumbnail=None)
        return cls(bare, vector, record.content, record.thumbnail, colour)


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A record without its bytes, its ``row``, and the sizes of what is stored of it (None: it isn't).

    ``uploaded`` is 1 where it came without a file on this machine, and so doesn't go with one, ``RESTORED``
    where it stays for another reason, else 0.
    """

    INSERT = (
        f"INSERT INTO documents ({_FIELDS}) VALUES"
        f" (?, ?, {_TEXT}, ?, {_TEXT}, {_TEXT}, {_TEXT}, {_TEXT}, ?, ?, ?, {_TEXT}, ?, ?, ?, ?, ?)"
    )

    row: int
    record: Record
    has_vector: bool
    content_bytes: int | None
    thumbnail_bytes: int | None
    uploaded: int

    @classmethod
    def of(cls, row: int, whole: Whole, *, uploaded: int) -> Self:
        """The document that stores ``whole``."""
        original, thumbnail = (
            None if each is None else size_of(each) for each in (whole.original, whole.thumbnail)
        )
        return cls(row, whole.record, whole.vector is not None, original, thumbnail, uploaded)

    def values(self) -> tuple[Any, ...]:
        """The values of ``INSERT``; tags that JSON doesn't know are written as text."""
        record = self.record
        described = (
            record.modality,
            record.id,
            record.content_hash,
            record.text,
            record.own_uri,
            record.mime_type,
            record.photo_id,
            _JSON.encode(dict(record.tags)),
            _JSON.encode(dict(record.metadata)),
            record.digest,
            record.origin,
        )
        sizes = (int(self.uploaded), int(self.has_vector), self.content_bytes, self.thumbnail_bytes)
        text = BETWEEN.join(map(str, (*described, *sizes)))
        known = checksum(text.encode("utf-8", "surrogatepass"), self.row)
        return self.row, *map(storable, described), *sizes, known

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> Self:
        """The reverse of ``values``; raises ``StoreFormat`` where they don't match their checksum."""
        row, modality, id, content_hash, text, uri, mime_type, photo_id, tags, metadata = values[:10]
        digest, origin, uploaded, has_vector, content_bytes, thumbnail_bytes, known, file = values[10:]
        text_of_all = BETWEEN.join(map(str, values[1:16]))
        if checksum(text_of_all.encode("utf-8", "surrogatepass"), row) != known:
            raise StoreDamaged("document", str(id), row, modality=modality)
        if modality not in MODALITIES:
            raise StoreFormat(f"the document {id!r} has the modality {modality!r}, not {MODALITIES}")
        # A root may be an address, with slashes of its own.
        local = None if file is None else LocalFile(file.rpartition("//")[0] or "/", file.rpartition("//")[2])
        record = Record(
            id=id,
            modality=modality,
            text=text,
            uri=local.absolute if uri is None and local is not None else uri,
            mime_type=mime_type,
            photo_id=photo_id,
            tags={} if tags == "{}" else tags_of(tags),
            metadata={} if metadata == "{}" else tags_of(metadata),
            digest=digest,
            local=local if modality == IMAGE else None,
            origin=origin,
            content_hash=content_hash,
        )
        return cls(row, record, bool(has_vector), content_bytes, thumbnail_bytes, int(uploaded))


def read_document(connection: Connection, modality: Modality, id: str) -> StoredDocument | None:
    """The document ``id``, None if it isn't stored; raises ``StoreFormat`` if it is damaged."""
    values = connection.execute(_SELECT_BY_ID, (modality, storable(id))).fetchone()
    return None if values is None else StoredDocument.from_values(values)


def look_of(connection: Connection, photo_id: str) -> Look | None:
    """How a photo looks; None if it isn't stored."""
    found = connection.execute(_SELECT_LOOK, (storable(photo_id),)).fetchone()
    if found is None:
        return None
    # What is damaged is said where the document is read.
    with suppress(ValueError, AttributeError):
        tags = tags_of(found[0])
        colour = None if found[1] is None else f"#{found[1]:06x}"
        return Look(_side(tags.get("width")), _side(tags.get("height")), colour)
    return Look()


def _side(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def rewrite(connection: Connection, document: StoredDocument) -> None:
    """Writes another version of what is in the document's row, of which tags and words are the same."""
    connection.execute("DELETE FROM documents WHERE row = ?", (document.row,))
    connection.execute(StoredDocument.INSERT, document.values())


def document_in_row(connection: Connection, row: int) -> StoredDocument | None:
    """The document in ``row``, None if there is none; raises as ``read_document``."""
    values = connection.execute(f"{_SELECT} WHERE row = ?", (row,)).fetchone()
    return None if values is None else StoredDocument.from_values(values)


def damage_of_row(connection: Connection, row: int, lost: Collection[str] = ()) -> list[StoreDamaged]:
    """What is damaged of the document in ``row``; nothing where there is none (any more).

    ``lost`` are parts of it that an object store was found not to have.
    """
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
            stored = stored_part(connection, document, part)
        except StoreDamaged as error:
            found.append(error)
        else:
            if part in lost and isinstance(stored, str):
                found.append(StoreDamaged(part, document.record.id, row, modality=document.record.modality))
    return found


def stored_part(connection: Connection, document: StoredDocument, part: Part) -> Stored | None:
    """The vector of ``document``, or its original or thumbnail as it is stored; None if it has none.

    Raises ``StoreDamaged``.
    """
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
    stored: Stored = found[0]
    return stored


def stored_vector(connection: Connection, document: StoredDocument) -> bytes | None:
    """The vector of ``document``, float32, None if it has none; raises ``StoreDamaged``."""
    stored = stored_part(connection, document, "vector")
    assert not isinstance(stored, str), "only originals and thumbnails lie elsewhere"
    return stored


def colour_of(connection: Connection, row: int) -> int | None:
    """The average colour of the thumbnail in ``row``; None where it has none."""
    found = connection.execute("SELECT colour FROM colours WHERE row = ?", (row,)).fetchone()
    return None if found is None else int(found[0])


def captions_of(connection: Connection, photo_id: str) -> list[StoredDocument]:
    """The captions that name ``photo_id`` as their photo, in the order in which they came.

    Raises as ``read_document``.
    """
    captions = []
    for caption in captions_or_damage(connection, photo_id):
        if isinstance(caption, StoreFormat):
            raise caption
        captions.append(caption)
    return captions


def captions_or_damage(connection: Connection, photo_id: str) -> Iterator[StoredDocument | StoreFormat]:
    """The captions of ``photo_id`` in the order in which they came; as ``documents_in_order``."""
    return _documents(connection.execute(_SELECT_CAPTIONS, (storable(photo_id),)))


def parts_or_damage(connection: Connection, photo_id: str) -> Iterator[StoredDocument | StoreFormat]:
    """What hangs on a photo, its captions, or on a video, its moments too; as ``captions_or_damage``."""
    return _documents(connection.execute(_SELECT_PARTS, (storable(photo_id),)))


def documents_in_order(connection: Connection) -> Iterator[StoredDocument | StoreFormat]:
    """All documents by row, and in the place of a damaged one what is wrong with it."""
    return _documents(connection.execute(f"{_SELECT} ORDER BY row"))


def _documents(found: Found) -> Iterator[StoredDocument | StoreFormat]:
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
