"""What a request says and what an answer holds, as plain data."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from crossmodal.query.terms import MAX_TEXT
from crossmodal.records import Modality
from crossmodal.settings import MAX_TOP_K

__all__ = [
    "DeleteResult",
    "Endpoint",
    "Envelope",
    "IndexResult",
    "Limits",
    "ParsedDocument",
    "ParsedRequest",
    "QueryItem",
    "QueryResult",
    "ShownMatch",
]

Endpoint = Literal["search", "index", "update", "delete"]


class Envelope(enum.Enum):
    """The client whose shape of answer is wanted; the value is its name in an explicit override."""

    JINABOX = "jinabox"
    JINA1 = "jina1"
    JINA2 = "jina2"
    JINA3 = "jina3"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for: counts, characters of a query or caption, bytes of one decoded photo."""

    default_top_k: int = 10
    max_top_k: int = MAX_TOP_K
    max_queries: int = 64
    max_documents: int = 1000
    max_characters: int = MAX_TEXT
    max_image_bytes: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class QueryItem:
    """One query: a sentence (``text``), a photo (``content``), or a photo of the index (``indexed_id``).

    ``refused`` is a sentence where this item cannot be answered; nothing else is set then but the id.
    """

    id: str
    modality: Modality
    text: str | None = None
    content: bytes | None = None
    mime_type: str | None = None
    indexed_id: str | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """One photo or one caption to index; ``photo_id`` is the photo that a caption describes.

    ``refused`` is a sentence where this document cannot be indexed.
    """

    id: str
    modality: Modality
    text: str | None = None
    content: bytes | None = None
    mime_type: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    photo_id: str | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request that can be answered: ``queries`` to search for, ``documents`` to index, ``ids`` to delete.

    ``parameters`` are the client's own, for an answer that repeats them.
    """

    endpoint: Endpoint
    envelope: Envelope
    request_id: str
    top_k: int
    queries: tuple[QueryItem, ...] = ()
    documents: tuple[ParsedDocument, ...] = ()
    ids: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShownMatch:
    """A ``Match`` as these clients see it, with its ``cosine`` in [-1, 1], which is the score that they read.

    ``uri`` is where a client can see it (for a photo, ``image_url``); ``tags`` are JSON values.
    """

    id: str
    modality: Modality
    cosine: float
    text: str | None = None
    uri: str | None = None
    mime_type: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What became of one query: its matches, best first, or the sentence that says why there are none."""

    query: QueryItem
    matches: tuple[ShownMatch, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class IndexResult:
    """What became of one document: added, replaced or unchanged, or the sentence that says why not."""

    document: ParsedDocument
    outcome: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """What became of one id that was to be deleted: whether a photo or caption of that id was there."""

    id: str
    deleted: bool
