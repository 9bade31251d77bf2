"""The document types that walk through the Flows.

Every field defaults to None, because jina joins branches field by field and a field that one
branch leaves at None never overwrites what another branch wrote. ``matches`` is annotated as a
plain ``DocList``: as ``Optional[DocList[...]]`` jina's gateway rebuilds the nested type without its
fields and every match arrives empty. Annotations are real types here, never strings (no
``from __future__ import annotations``), as jina looks at them when it tells the gateway the schema.
"""

from collections.abc import Callable, Mapping
from typing import Any, Dict, List, Optional

import orjson
from docarray import BaseDoc, DocList
from docarray.typing import NdArray

from crossmodal.records import Record

__all__ = [
    "ALONE",
    "PACKED",
    "MatchDocument",
    "MediaDocument",
    "ShardScores",
    "pack_matches",
    "tags_for_wire",
    "tags_from_wire",
    "unpack_matches",
]

# Parameters of /search. Each sentence is encoded by itself, whatever comes in the same request, and its
# vector comes back.
ALONE = "alone"

# The matches come as ``pack_matches`` makes them.
PACKED = "packed"

# docarray sends whole numbers inside a dictionary as int32, and floats as float64.
_LARGEST_SENT = 2**31 - 1
_LARGEST_EXACT = 2**53


class _SparseDocument(BaseDoc):
    """A document that carries only what is set to another process, where the rest is None by default.

    docarray packs and unpacks a field without a value like any other, and most are without.
    """

    def to_protobuf(self) -> Any:
        """The message of the fields that are not None."""
        sparse = type(self).__new__(type(self))
        object.__setattr__(
            sparse, "__dict__", {name: value for name, value in self.__dict__.items() if value is not None}
        )
        return BaseDoc.to_protobuf(sparse)


class MatchDocument(_SparseDocument):
    """One result: a photo or a caption of the index with its cosine ``score`` in [-1, 1].

    ``rank`` (1 is the best) is only given where the query asked for this document (``wanted``).
    """

    modality: Optional[str] = None
    text: Optional[str] = None
    uri: Optional[str] = None
    mime_type: Optional[str] = None
    photo_id: Optional[str] = None
    tags: Optional[Dict[str, Any]] = None
    score: Optional[float] = None
    rank: Optional[int] = None


class ShardScores(BaseDoc):
    """What a shard answers to a query with ``wanted``: the score of everything that it holds.

    ``id`` names the shard. ``ids`` is a JSON list: as a list of strings, docarray was seen to take 34 ms to
    pack and unpack 5,000 of them, and 1.3 ms so. ``scores`` is float64 (ids,) in the same order.
    """

    ids: Optional[str] = None
    scores: Optional[NdArray] = None


class MediaDocument(_SparseDocument):
    """A photo or a caption to index, or a query.

    ``blob`` holds the untouched bytes of a photo; ``pixels`` uint8 of shape (height, width, 3), first
    the decoded photo, then the crop that the encoder sees; ``frame`` float64 of shape (4,), the rectangle of
    the decoded pixels that the photo fills (left, top, right, bottom); ``embedding`` float32 of shape
    (dimension,), unit length; a query that brings one needs neither text nor blob, and its modality says
    which index is searched: "text" the photos, "image" the captions. ``outcome`` is added, replaced,
    unchanged or deleted, or None where there was nothing to delete; ``error`` is a sentence, and no later
    step does anything with a document that has one; ``aborted`` is True where every other document will
    fail for the same reason (a full disk). ``trail`` names the steps, and of a sharded one the shards, that
    the document has been through.

    ``wanted`` is for evaluation: a query that names documents by id gets those as its matches, with their
    ranks among everything in the index, instead of the best ``top_k``. Until the last step has counted,
    ``shard_scores`` holds what each shard said. ``packed_matches`` is between ``pack_matches`` and
    ``unpack_matches``. ``encoded_ms`` is what its request spent on encoding, in milliseconds, where that was
    asked for alone.
    """

    modality: Optional[str] = None
    text: Optional[str] = None
    uri: Optional[str] = None
    mime_type: Optional[str] = None
    photo_id: Optional[str] = None
    tags: Optional[Dict[str, Any]] = None
    content_hash: Optional[str] = None
    # bytes | None; said in the annotation, jina's gateway would rebuild the field as a string.
    blob: Any = None
    pixels: Optional[NdArray] = None
    frame: Optional[NdArray] = None
    embedding: Optional[NdArray] = None
    outcome: Optional[str] = None
    error: Optional[str] = None
    aborted: Optional[bool] = None
    # Not Optional either: as a plain list, jina joins the branches' and shards' lists into one.
    trail: List[str] = None  # type: ignore[assignment]
    matches: DocList[MatchDocument] = None
    # bytes | None, as ``blob`` is.
    packed_matches: Any = None
    encoded_ms: Optional[float] = None
    wanted: List[str] = None  # type: ignore[assignment]
    shard_scores: DocList[ShardScores] = None

    @classmethod
    def from_record(cls, record: Record) -> "MediaDocument":
        """The document that carries ``record`` into the index Flow."""
        return cls(
            id=record.id,
            modality=record.modality,
            text=record.text,
            uri=record.uri,
            mime_type=record.mime_type,
            photo_id=record.photo_id,
            tags=tags_for_wire(record.tags),
            content_hash=record.content_hash,
            blob=record.content,
        )

    def to_record(self) -> Record:
        """The record that the indexers store; the reverse of ``from_record``."""
        return Record(
            id=str(self.id),
            modality="image" if self.modality == "image" else "text",
            text=self.text,
            uri=self.uri,
            mime_type=self.mime_type,
            photo_id=self.photo_id,
            tags=tags_from_wire(self.tags),
            content=self.blob,
            content_hash=self.content_hash or "",
        )


def pack_matches(doc: MediaDocument) -> None:
    """Replaces ``matches`` by one field, which one process hands to another much more quickly.

    docarray takes about 0.8 ms to pack and unpack ten matches field by field, and 0.05 ms so.
    """
    if doc.matches is None:
        return
    doc.packed_matches = orjson.dumps(
        [
            {name: value for name, value in match.__dict__.items() if value is not None}
            for match in doc.matches
        ]
    )
    doc.matches = None


def unpack_matches(doc: MediaDocument) -> None:
    """The reverse of ``pack_matches``; leaves a document alone that was not packed."""
    if doc.packed_matches is None:
        return
    matches = [MatchDocument.construct(**match) for match in orjson.loads(doc.packed_matches)]
    doc.matches = DocList[MatchDocument].construct(matches)
    doc.packed_matches = None


def tags_for_wire(tags: Mapping[str, Any]) -> Dict[str, Any]:
    """``tags`` as a document can carry them to another process: whole numbers of 2**31 and more as floats.

    Exact up to 2**53, and tags hold no larger ones.
    """
    return {name: _each_number(value, _for_wire) for name, value in tags.items()}


def tags_from_wire(tags: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """The tags that a document brought: the reverse of ``tags_for_wire``; empty for None."""
    return {name: _each_number(value, _from_wire) for name, value in (tags or {}).items()}


def _each_number(value: Any, change: Callable[[float], float]) -> Any:
    if isinstance(value, list):
        return [_each_number(element, change) for element in value]
    if isinstance(value, dict):
        return {name: _each_number(element, change) for name, element in value.items()}
    return change(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _for_wire(number: float) -> float:
    return number if abs(number) <= _LARGEST_SENT else float(number)


def _from_wire(number: float) -> float:
    sent_as_float = _LARGEST_SENT < abs(number) <= _LARGEST_EXACT and float(number).is_integer()
    return int(number) if sent_as_float else number
