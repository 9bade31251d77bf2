"""Adding documents to the index and deleting them, for all routes that do."""

from __future__ import annotations

from collections.abc import Sequence

from crossmodal.engine.indexing import Indexed
from crossmodal.errors import StoreUnwritable
from crossmodal.http_shapes import ParsedDocument
from crossmodal.records import Record
from crossmodal.server.serving import Serving

__all__ = ["delete_records", "index_records", "record_of"]


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


async def index_records(serving: Serving, records: Sequence[Record]) -> dict[str, Indexed]:
    """Brings hashed records into the index; what became of each, by id. Raises what the engine raises."""

    def work() -> dict[str, Indexed]:
        became: dict[str, Indexed] = {}
        try:
            # One batch at a time: other requests that write are under way as well.
            for one in serving.engine.index(records, at_once=1):
                if isinstance(one, Indexed):
                    became[one.record.id] = one
        except StoreUnwritable as error:
            if all(one.error for one in became.values()):
                raise
            # Some of it is written, and stays so.
            return {record.id: became.get(record.id, Indexed(record, error=str(error))) for record in records}
        return became

    became = await serving.write(work)
    for record in records:
        serving.metrics.count_written(became[record.id].outcome or "failed")
    return became


async def delete_records(serving: Serving, ids: Sequence[str], *, captions: bool) -> list[str]:
    """Deletes photos and captions by id; the ids that were there. Raises as ``Engine.delete``."""
    deleted = await serving.write(lambda: serving.engine.delete(ids, captions=captions))
    serving.metrics.count_written("deleted", len(deleted))
    return deleted
