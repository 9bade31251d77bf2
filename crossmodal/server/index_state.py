"""Asks the shards of the index, through the Flow, how they search."""

from __future__ import annotations

from typing import Any

from crossmodal.api_shapes import index_state
from crossmodal.documents import MediaDocument, tags_from_wire
from crossmodal.errors import ServiceError
from crossmodal.records import IMAGE, TEXT, Modality
from crossmodal.workspace import IMAGE_VECTORS, TEXTS
from crossmodal.server.serving import Serving

__all__ = ["ask_index_state"]

_STORES: dict[str, Modality] = {IMAGE_VECTORS: IMAGE, TEXTS: TEXT}


async def ask_index_state(serving: Serving) -> dict[str, Any]:
    """``index`` of GET /v1/status; raises ServiceError where the Flow doesn't answer.

    The index Flow isn't asked: it answers no searches.
    """
    shards: dict[Modality, list[dict[str, Any]]] = {IMAGE: [], TEXT: []}
    if serving.kind == "index":
        return index_state(shards)
    # A sentence ends in the index of photos, and a photo in that of captions; each shard names its store.
    probes = [MediaDocument(id=modality, modality=modality) for modality in (TEXT, IMAGE)]
    answered = await serving.stream(probes, "/status", {})
    for doc in answered.values():
        if doc.error is not None:
            raise ServiceError(doc.error)
        for match in doc.matches or ():
            shards[_STORES[str(match.id).partition("/")[0]]].append(tags_from_wire(match.tags))
    return index_state(shards)
