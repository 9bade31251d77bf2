"""One document's metadata as LMDB keeps it: a checksum and JSON."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

from crossmodal.errors import StoreFormat
from crossmodal.records import IMAGE, TEXT, Record

__all__ = ["StoredDocument", "StoredPart"]


@dataclass(frozen=True, slots=True)
class StoredPart:
    """What is known of a content or thumbnail that is kept beside the document: bytes and CRC-32."""

    size: int
    checksum: int

    @classmethod
    def of(cls, value: bytes | None) -> StoredPart | None:
        """The part for ``value``, or None if there is nothing to keep."""
        return None if value is None else cls(len(value), zlib.crc32(value))


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A record without its bytes, with the ``row`` of its vector (None: it has none) and its kept parts."""

    record: Record
    row: int | None
    content: StoredPart | None
    thumbnail: StoredPart | None

    def to_bytes(self) -> bytes:
        """The value in LMDB; the id is its key. Tags that JSON doesn't know are written as text."""
        record = self.record
        fields: dict[str, Any] = {
            "modality": record.modality,
            "hash": record.content_hash,
            "tags": dict(record.tags),
        }
        for name in ("text", "uri", "mime_type", "photo_id"):
            if (value := getattr(record, name)) is not None:
                fields[name] = value
        if self.row is not None:
            fields["row"] = self.row
        if self.content is not None:
            fields["content"] = [self.content.size, self.content.checksum]
        if self.thumbnail is not None:
            fields["thumbnail"] = [self.thumbnail.size, self.thumbnail.checksum]
        body = json.dumps(fields, separators=(",", ":"), default=str).encode()
        return zlib.crc32(body).to_bytes(4, "little") + body

    @classmethod
    def from_bytes(cls, id: str, value: bytes | memoryview) -> StoredDocument:
        """The reverse of ``to_bytes``; raises ``StoreFormat`` if ``value`` is damaged."""
        body = bytes(value[4:])
        if zlib.crc32(body) != int.from_bytes(value[:4], "little"):
            raise StoreFormat(f"the document {id!r} does not match its checksum")
        fields = json.loads(body)
        return cls(
            record=Record(
                id=id,
                modality=IMAGE if fields["modality"] == IMAGE else TEXT,
                text=fields.get("text"),
                uri=fields.get("uri"),
                mime_type=fields.get("mime_type"),
                photo_id=fields.get("photo_id"),
                tags=fields["tags"],
                content_hash=fields["hash"],
            ),
            row=fields.get("row"),
            content=StoredPart(*fields["content"]) if "content" in fields else None,
            thumbnail=StoredPart(*fields["thumbnail"]) if "thumbnail" in fields else None,
        )
