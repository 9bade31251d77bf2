"""How many documents go in one request: bounded by number, by bytes, and by the pixels they decode to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from crossmodal.documents import MediaDocument
from crossmodal.images import pixel_count
from crossmodal.records import Record

__all__ = ["batched", "batched_documents"]

# A step holds one request at a time, so these bound the memory, whatever the data set or a client sends.
MAX_REQUEST_BYTES = 8 << 20
MAX_DECODED_BYTES = 128 << 20
_BYTES_PER_PIXEL = 3

Item = TypeVar("Item")


def batched(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    """Groups records into lists of at most ``size``; one of several records keeps within the limits above."""
    return _batched(records, size, lambda record: (record.size, record.content))


def batched_documents(
    docs: Sequence[MediaDocument], size: int | None = None
) -> Iterator[list[MediaDocument]]:
    """Groups the documents of one HTTP request in the same way; any number of them without ``size``."""
    return _batched(docs, size or max(len(docs), 1), lambda doc: (len(doc.blob or b""), doc.blob))


def _batched(
    items: Iterable[Item], size: int, weigh: Callable[[Item], tuple[int, bytes | None]]
) -> Iterator[list[Item]]:
    batch: list[Item] = []
    held = decoded = 0
    for item in items:
        weight, content = weigh(item)
        pixels = _BYTES_PER_PIXEL * pixel_count(content) if content else 0
        if batch and (held + weight > MAX_REQUEST_BYTES or decoded + pixels > MAX_DECODED_BYTES):
            yield batch
            batch, held, decoded = [], 0, 0
        batch.append(item)
        held += weight
        decoded += pixels
        if len(batch) == size:
            yield batch
            batch, held, decoded = [], 0, 0
    if batch:
        yield batch
