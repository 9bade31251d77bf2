"""One document's metadata as LMDB keeps it: a checksum, the id, and the other fields as a JSON list."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import orjson
from xxhash import xxh3_64_intdigest

from crossmodal.errors import StoreFormat
from crossmodal.records import MODALITIES, Record
from crossmodal.stores.checksum import checksum
from crossmodal.stores.keys import id_key

__all__ = ["StoredDocument", "StoredPart"]

# A checksum of all that follows it, and the length of the id, which follows as it is: JSON would join
# surrogates.
_CHECKSUM = struct.Struct("<Q")
_ID_LENGTH = struct.Struct("<H")
_ID_START = _CHECKSUM.size + _ID_LENGTH.size


# Made once: for a list this short, making it takes longer than using it.
_JSON = json.JSONEncoder(separators=(",", ":"), default=str)


class StoredPart(NamedTuple):
    """What is known of a content or thumbnail that is kept beside the document: its size and checksum."""

    size: int
    checksum: int

    @classmethod
    def of(cls, value: bytes | None) -> StoredPart | None:
        """The part for ``value``, or None if there is nothing to keep."""
        return None if value is None else cls(len(value), checksum(value))


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A record without its bytes, with the ``row`` of its vector (None: it has none) and its kept parts.

    ``number`` is the key of the document, its content and its thumbnail: given once, in ascending order.
    """

    number: int
    record: Record
    row: int | None
    content: StoredPart | None
    thumbnail: StoredPart | None

    def to_bytes(self) -> bytes:
        """The value in LMDB; the number is its key. Tags that JSON doesn't know are written as text."""
        record = self.record
        fields = (
            record.modality,
            record.content_hash,
            self.row,
            record.text,
            record.uri,
            record.mime_type,
            record.photo_id,
            self.content,
            self.thumbnail,
            dict(record.tags),
        )
        id = id_key(record.id)
        body = _ID_LENGTH.pack(len(id)) + id + _JSON.encode(fields).encode()
        return _CHECKSUM.pack(checksum(body)) + body

    @classmethod
    def from_bytes(cls, number: int, value: bytes | memoryview) -> StoredDocument:
        """The reverse of ``to_bytes``; raises ``StoreFormat`` if ``value`` is damaged."""
        if len(value) < _ID_START:
            raise StoreFormat(f"document number {number} has only {len(value)} bytes")
        if _CHECKSUM.unpack_from(value) != (xxh3_64_intdigest(value[_CHECKSUM.size :]),):
            raise StoreFormat(f"document number {number} does not match its checksum")
        (id_length,) = _ID_LENGTH.unpack_from(value, _CHECKSUM.size)
        fields_start = _ID_START + id_length
        try:
            fields = orjson.loads(value[fields_start:])
        except orjson.JSONDecodeError:
            # Halves of characters, as file names have them that are no UTF-8.
            fields = json.loads(str(value[fields_start:], "ascii"))
        modality, content_hash, row, text, uri, mime_type, photo_id, content, thumbnail, tags = fields
        return cls(
            number,
            Record(
                id=str(value[_ID_START:fields_start], "utf-8", "surrogatepass"),
                modality=modality if modality in MODALITIES else _unknown_modality(modality, number),
                text=text,
                uri=uri,
                mime_type=mime_type,
                photo_id=photo_id,
                tags=tags,
                content_hash=content_hash,
            ),
            row,
            None if content is None else StoredPart(*content),
            None if thumbnail is None else StoredPart(*thumbnail),
        )


def _unknown_modality(value: object, number: int) -> NoReturn:
    raise StoreFormat(
        f"document number {number} has the modality {value!r}; it must be {' or '.join(MODALITIES)}"
    )
