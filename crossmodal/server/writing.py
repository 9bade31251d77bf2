"""Adding documents to the index and deleting them, for all routes that do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from crossmodal.documents import MediaDocument
from crossmodal.errors import RequestError
from crossmodal.http_shapes import ParsedDocument
from crossmodal.records import IMAGE, TEXT, Modality, Record
from crossmodal.workspace import Workspace
from crossmodal.server.serving import Serving, Writer

__all__ = ["Written", "delete_records", "index_records", "record_of"]


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one document: added, replaced or unchanged, or the sentence that says why not."""

    outcome: str | None = None
    error: str | None = None


def record_of(document: ParsedDocument) -> Record:
    """The hashed record that a document of a request becomes."""
    return Record(
        id=document.id,
        modality=document.modality,
        text=document.text,
        mime_type=document.mime_type,
        photo_id=document.photo_id,
        tags=document.tags,
        content=document.content,
    ).hashed()


async def index_records(serving: Serving, records: Sequence[Record]) -> dict[str, Written]:
    """Brings hashed records into the index, those there already excepted; what became of each, by id.

    Raises RequestError, 507, where nothing could be written, and what the writer raises.
    """
    known = await asyncio.to_thread(
        serving.workspace.unchanged, list(records), originals=serving.keep == "original"
    )
    new = [MediaDocument.from_record(record) for record in records if record.id not in known]
    answered = await _writer(serving).index(new) if new else {}
    aborted = next((doc.error for doc in answered.values() if doc.aborted), None)
    if aborted is not None and all(doc.error for doc in answered.values()):
        raise RequestError(aborted, status=507)
    written = {}
    for record in records:
        doc = answered.get(record.id)
        if doc is None:
            written[record.id] = Written("unchanged")
        else:
            written[record.id] = Written(None if doc.error else doc.outcome, doc.error)
        serving.metrics.count_written(written[record.id].outcome or "failed")
    return written


async def delete_records(serving: Serving, ids: Sequence[str], *, captions: bool) -> list[str]:
    """Deletes photos and captions by id, with ``captions`` also those that describe the photos.

    Returns the ids that were there. An id that both a photo and a caption have deletes both.
    """
    wanted = await asyncio.to_thread(_deletable, serving.workspace, ids, captions)
    if not wanted:
        return []
    # Captions first: should the photo's deletion fail, it can be asked for again.
    deleted: list[str] = []
    for modality in (TEXT, IMAGE):
        docs = [MediaDocument(id=id, modality=modality) for id, kind in wanted if kind == modality]
        if docs:
            answered = await _writer(serving).delete(docs)
            failed = next((doc.error for doc in answered.values() if doc.error), None)
            if failed is not None:
                raise RequestError(failed, status=507)
            deleted += [str(doc.id) for doc in docs if answered[str(doc.id)].outcome == "deleted"]
    serving.metrics.count_written("deleted", len(deleted))
    order = {id: place for place, id in enumerate(ids)}
    return sorted(dict.fromkeys(deleted), key=lambda id: (order.get(id, len(order)), id))


def _deletable(workspace: Workspace, ids: Sequence[str], captions: bool) -> list[tuple[str, Modality]]:
    distinct = list(dict.fromkeys(ids))
    photos = workspace.records(distinct, IMAGE)
    found: list[tuple[str, Modality]] = [(id, IMAGE) for id in photos]
    found += [(id, TEXT) for id in workspace.records(distinct, TEXT)]
    if captions and photos:
        for described in workspace.captions_of(list(photos)).values():
            found += [(caption.id, TEXT) for caption in described]
    return list(dict.fromkeys(found))


def _writer(serving: Serving) -> Writer:
    if serving.writer is None:
        raise RequestError("This server cannot write to the index.", status=403)
    return serving.writer
