"""The messages that jina carries from process to process, and how a ``Document`` becomes one and back.

Every field defaults to None, because jina joins branches field by field and a field that one
branch leaves at None never overwrites what another branch wrote. ``matches`` is annotated as a
plain ``DocList``: as ``Optional[DocList[...]]`` jina's gateway rebuilds the nested type without its
fields and every match arrives empty. Annotations are real types here, never strings (no
``from __future__ import annotations``), as jina reads them for the schema that it sends to the gateway.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Dict, List, Optional

import numpy as np
import orjson
from docarray import BaseDoc, DocList
from docarray.typing import NdArray

from crossmodal.documents import Document, ShardScores
from crossmodal.errors import DataError
from crossmodal.jina.checks import IN_FLOW, check_message
from crossmodal.match import Match, video_moment
from crossmodal.records import LocalFile, Modality, Record, checked_modality, file_name
from crossmodal.steps.joining import join, merge_shards

__all__ = [
    "MatchDocument",
    "MediaDocument",
    "ShardScoresDocument",
    "read_messages",
    "tags_for_wire",
    "tags_from_wire",
    "write_message",
]

# docarray sends whole numbers inside a dictionary as int32, and floats as float64.
_LARGEST_SENT = 2**31 - 1
_LARGEST_EXACT = 2**53

# Fields that a message has under the same name and with the same type as a document, or a match and a record.
_OF_DOCUMENT = ("stage", "text", "thumbnail", "warning", "error", "aborted", "encoded_ms", "corrected")
_ONLY_STORED = ("metadata", "digest", "local", "origin", "keeps")
_OF_MATCH_AND_RECORD = ("text", "uri", "mime_type", "photo_id")


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
    """One result: a photo or a caption of the index.

    ``score`` is the cosine of its vector and the query's, from -1 to 1, as clients of jina know it; it isn't
    the calibrated ``score`` from 0 to 1 of the native API, which has the cosine under its own name.
    ``corrected`` is what it is ranked by where that isn't its cosine. ``rank``
    (1 is the best) and ``plain_rank`` are only given where the query asked for this document (``wanted``).
    """

    modality: Optional[str] = None
    text: Optional[str] = None
    uri: Optional[str] = None
    mime_type: Optional[str] = None
    photo_id: Optional[str] = None
    tags: Optional[Dict[str, Any]] = None
    score: Optional[float] = None
    corrected: Optional[float] = None
    rank: Optional[int] = None
    plain_rank: Optional[int] = None


class ShardScoresDocument(BaseDoc):
    """What a shard answers to a query with ``wanted``: the score of everything that it holds.

    ``id`` is the shard's number. ``ids`` is a JSON list: as a list of strings, docarray was seen to take 34
    ms to pack and unpack 5,000 of them, and 1.3 ms so. ``cosines`` float64 (ids,) and ``hubness`` are in the
    same order.
    """

    ids: Optional[str] = None
    cosines: Optional[NdArray] = None
    hubness: Optional[NdArray] = None


class MediaDocument(_SparseDocument):
    """A ``Document`` (which says what the fields mean) on its way to another process, with its record.

    ``blob`` is its content. jina decides by ``modality``, ``seeks`` and ``stage`` which branch it takes.
    ``shard_states`` are JSON objects. ``visited`` names the visited steps, and of a sharded one the shards.
    ``unmerged`` says that the answers of several shards are not merged yet.
    """

    modality: Optional[str] = None
    seeks: Optional[str] = None
    stage: Optional[str] = None
    text: Optional[str] = None
    uri: Optional[str] = None
    mime_type: Optional[str] = None
    photo_id: Optional[str] = None
    tags: Optional[Dict[str, Any]] = None
    content_hash: Optional[str] = None
    # What only the index needs of a record: a JSON object of ``_ONLY_STORED``.
    stored: Optional[str] = None
    # bytes | None; said in the annotation, jina's gateway would rebuild the field as a string.
    blob: Any = None
    pixels: Optional[NdArray] = None
    frame: Optional[NdArray] = None
    # bytes | None, as ``blob`` is.
    thumbnail: Any = None
    # What the record has of a photo, bytes | None both.
    original: Any = None
    stored_thumbnail: Any = None
    embedding: Optional[NdArray] = None
    warning: Optional[str] = None
    error: Optional[str] = None
    aborted: Optional[str] = None
    encoded_ms: Optional[float] = None
    corrected: Optional[bool] = None
    outcome: Optional[str] = None
    unmerged: Optional[bool] = None
    # Not Optional either: as plain lists, jina joins those of the branches and shards into one.
    visited: List[str] = None  # type: ignore[assignment]
    wanted: List[str] = None  # type: ignore[assignment]
    shard_states: List[str] = None  # type: ignore[assignment]
    matches: DocList[MatchDocument] = None
    shard_scores: DocList[ShardScoresDocument] = None


def write_message(doc: Document, *, visited: Sequence[str] = (), unmerged: bool = False) -> MediaDocument:
    """The message that carries ``doc``."""
    record = doc.record
    fields: dict[str, Any] = {
        **{name: getattr(doc, name) for name in ("modality", "seeks", "pixels", "embedding", *_OF_DOCUMENT)},
        "blob": doc.content,
        "frame": None if doc.frame is None else np.asarray(doc.frame, np.float64),
        "unmerged": unmerged or None,
        "outcome": doc.outcome,
        "visited": list(visited) or None,
        "wanted": None if doc.wanted is None else list(doc.wanted),
    }
    if record is not None:
        fields |= {name: getattr(record, name) for name in ("uri", "mime_type", "photo_id", "content_hash")}
        fields["tags"] = tags_for_wire(record.tags)
        fields["stored"] = _stored_for_wire(record)
        fields |= {"original": record.content, "stored_thumbnail": record.thumbnail}
    if doc.shard_states is not None:
        fields["shard_states"] = [orjson.dumps(state).decode() for state in doc.shard_states]
    if doc.matches is not None:
        fields["matches"] = DocList[MatchDocument]([_match_message(match) for match in doc.matches])
    if doc.shard_scores is not None:
        fields["shard_scores"] = DocList[ShardScoresDocument](
            [
                ShardScoresDocument(
                    id=str(part.shard),
                    ids=orjson.dumps(list(part.ids)).decode(),
                    cosines=part.cosines,
                    hubness=part.hubness,
                )
                for part in doc.shard_scores
            ]
        )
    return MediaDocument(id=doc.id, **{name: value for name, value in fields.items() if value is not None})


def read_messages(
    messages: Iterable[MediaDocument], parameters: Mapping[str, Any], *, indexing: bool
) -> tuple[list[Document], dict[str, list[str]]]:
    """The documents that came, and the visited steps of each by its id.

    Joins what jina's own rule leaves: a document twice, where three branches met, and the matches of all
    shards in any order. ``indexing`` says that each is a record. A value that no document has is an error of
    the document that brings it, from which nothing else is taken then.
    """
    documents: list[Document] = []
    visited: dict[str, list[str]] = {}
    unmerged: set[str] = set()
    for message in messages:
        doc = _read_message(message, indexing)
        documents.append(doc)
        visited[doc.id] = list(dict.fromkeys([*visited.get(doc.id, ()), *(message.visited or ())]))
        if message.unmerged:
            unmerged.add(doc.id)
    joined = join([documents])
    merge_shards([doc for doc in joined if doc.id in unmerged], parameters)
    return joined, visited


def _read_message(message: MediaDocument, indexing: bool) -> Document:
    try:
        check_message(message, IN_FLOW, indexing=indexing)
        return _read_checked(message, indexing)
    except (DataError, ValueError) as error:
        # A ValueError is what a shard says and is no JSON.
        return Document(str(message.id), error=message.error or str(error))


def _read_checked(message: MediaDocument, indexing: bool) -> Document:
    doc = Document(
        str(message.id),
        content=message.blob,
        pixels=_array(message.pixels),
        frame=None if message.frame is None else tuple(float(value) for value in message.frame),  # type: ignore[arg-type]  # four of them
        embedding=_array(message.embedding),
        outcome=message.outcome,
        wanted=None if message.wanted is None else list(dict.fromkeys(message.wanted)),
        **{name: getattr(message, name) for name in _OF_DOCUMENT},
    )
    if message.shard_states is not None:
        doc.shard_states = [orjson.loads(state) for state in dict.fromkeys(message.shard_states)]
    if message.shard_scores is not None:
        doc.shard_scores = [
            ShardScores(
                int(part.id), orjson.loads(part.ids), np.asarray(part.cosines), np.asarray(part.hubness)
            )
            for part in message.shard_scores
        ]
    doc.modality = _modality(message.modality, message, indexing)
    doc.seeks = _modality(message.seeks, message, False)
    if message.matches is not None:
        doc.matches = [_match(match) for match in message.matches]
    if indexing and doc.modality is not None:
        doc.record = Record(
            id=doc.id,
            modality=doc.modality,
            **{name: getattr(message, name) for name in _OF_MATCH_AND_RECORD},
            tags=tags_from_wire(message.tags),
            **_stored_from_wire(message.stored),
            content=message.original,
            thumbnail=message.stored_thumbnail,
            content_hash=message.content_hash or "",
        )
    return doc.checked()


def _stored_for_wire(record: Record) -> Optional[str]:
    fields = {name: value for name in _ONLY_STORED if (value := getattr(record, name))}
    return json.dumps(fields, default=_attributes) if fields else None


def _attributes(local: Any) -> Any:
    return asdict(local) if isinstance(local, LocalFile) else str(local)


def _stored_from_wire(text: Optional[str]) -> Dict[str, Any]:
    fields = {} if text is None else json.loads(text)
    if (local := fields.get("local")) is not None:
        fields["local"] = LocalFile(**local)
    return {**fields, "keeps": tuple(fields.get("keeps", ()))}


def _modality(value: Optional[str], message: MediaDocument, needed: bool) -> Optional[Modality]:
    return None if value is None and not needed else checked_modality(value, f"The document {message.id}")


def _array(value: Any) -> Any:
    return None if value is None else np.asarray(value)


def _match_message(match: Match) -> MatchDocument:
    fields: dict[str, Any] = {
        **{name: getattr(match, name) for name in ("modality", *_OF_MATCH_AND_RECORD)},
        "tags": tags_for_wire(match.tags) if match.tags else None,
        "score": match.cosine,
        "corrected": match.corrected,
        "rank": match.rank or None,
        "plain_rank": match.plain_rank,
    }
    return MatchDocument(id=match.id, **{name: value for name, value in fields.items() if value is not None})


def _match(message: MatchDocument) -> Match:
    tags = tags_from_wire(message.tags)
    return Match(
        str(message.id),
        checked_modality(message.modality, f"The match {message.id}"),
        float(message.score or 0.0),
        rank=int(message.rank or 0),
        plain_rank=None if message.plain_rank is None else int(message.plain_rank),
        corrected=None if message.corrected is None else float(message.corrected),
        file=file_name(message.uri, tags),
        tags=tags,
        video=video_moment(str(message.id), message.mime_type, tags),
        **{name: getattr(message, name) for name in _OF_MATCH_AND_RECORD},
    )


def tags_for_wire(tags: Mapping[str, Any]) -> Dict[str, Any]:
    """``tags`` as a message can carry them to another process: whole numbers of 2**31 and more as floats.

    Exact up to 2**53, and tags hold no larger ones.
    """
    return {name: _each_number(value, _for_wire) for name, value in tags.items()}


def tags_from_wire(tags: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """The tags that a message brought: the reverse of ``tags_for_wire``; empty for None."""
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
