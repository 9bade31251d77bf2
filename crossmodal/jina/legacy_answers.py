"""Answers over gRPC for an old docarray: what a search found, and /encode and /rank of clip-as-service.

Its client sends them: https://clip-as-service.jina.ai/user-guides/client/.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.engine.engine import Engine
from crossmodal.http_shapes.legacy.encoding import Encoding, inputs_of, parse_encoded, rendered_items
from crossmodal.http_shapes.v1.embeddings import is_served, no_such_model
from crossmodal.jina.documents import MatchDocument, MediaDocument
from crossmodal.jina.legacy_documents import legacy_fields, write_legacy

__all__ = ["encoded", "found"]


def encoded(engine: Engine, encoding: Encoding, documents: Sequence[Any]) -> bytes:
    """The data of the answer to ``documents`` of an old docarray.

    Raises RequestError for the first that cannot be encoded, and for another model than the engine's.
    """
    if encoding.model is not None and not is_served(encoding.model, engine.model):
        raise no_such_model(encoding.model, engine.model)
    fields = [legacy_fields(one) for one in documents]
    items = parse_encoded(fields, ranked=encoding.name == "rank", host=None, fetched=None)
    return write_legacy(rendered_items(items, _encode(engine, inputs_of(items))))


def _encode(engine: Engine, inputs: Sequence[str | bytes]) -> list[NDArray[np.float32]]:
    """The vectors of sentences and photos, in their order."""
    texts = [number for number, item in enumerate(inputs) if isinstance(item, str)]
    photos = [number for number, item in enumerate(inputs) if isinstance(item, bytes)]
    made = engine.encode(
        texts=[item for item in inputs if isinstance(item, str)],
        photos=[item for item in inputs if isinstance(item, bytes)],
    )
    by_number = dict(zip([*texts, *photos], made, strict=True))
    return [by_number[number] for number in range(len(inputs))]


def found(documents: Sequence[MediaDocument]) -> bytes:
    """The data of the answer with ``documents`` of today's docarray and their matches."""
    return write_legacy(
        {
            "id": document.id,
            "text": document.text,
            "embedding": document.embedding,
            # There is no other place in an old document.
            "tags": {"error": document.error} if document.error else {},
            "matches": [_match(match) for match in document.matches or ()],
        }
        for document in documents
    )


def _match(match: MatchDocument) -> dict[str, Any]:
    return {
        "id": match.id,
        "text": match.text,
        "mime_type": match.mime_type,
        "tags": match.tags,
        "scores": {"cosine": {"value": match.score}},
    }
