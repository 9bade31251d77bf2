"""How many documents go in one request: bounded by number, by bytes, and by the pixels they decode to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from crossmodal.documents import MediaDocument
from crossmodal.images import pixel_count
from crossmodal.records import IMAGE, Record

__all__ = ["batched", "batched_by_modality", "batched_documents"]

# A step holds one request at a time, one that encodes as many as it has cores for, so these bound the memory,
# whatever the data set or a client sends.
MAX_REQUEST_BYTES = 8 << 20
MAX_DECODED_BYTES = 128 << 20
_BYTES_PER_PIXEL = 3

# A caption takes a fraction of a photo's time, and the more there are of them, the more alike in length are
# those that are encoded together.
CAPTIONS_FOR_A_PHOTO = 4

Item = TypeVar("Item")


def batched(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    """Groups records into lists of at most ``size``; one of several records keeps within the limits above."""
    return _batched(records, _Batch(size, _weight))


def batched_by_modality(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    """The same in lists of photos alone and of captions alone, of which one holds up to 4 * ``size``."""
    photos = _Batch[Record](size, _weight)
    captions = _Batch[Record](CAPTIONS_FOR_A_PHOTO * size, _weight)
    for record in records:
        yield from (photos if record.modality == IMAGE else captions).add(record)
    yield from photos.rest()
    yield from captions.rest()


def batched_documents(
    docs: Sequence[MediaDocument], size: int | None = None
) -> Iterator[list[MediaDocument]]:
    """Groups the documents of one HTTP request in the same way; any number of them without ``size``."""
    batch = _Batch[MediaDocument](size or max(len(docs), 1), lambda doc: (len(doc.blob or b""), doc.blob))
    return _batched(docs, batch)


def _batched(items: Iterable[Item], batch: _Batch[Item]) -> Iterator[list[Item]]:
    for item in items:
        yield from batch.add(item)
    yield from batch.rest()


def _weight(record: Record) -> tuple[int, bytes | None]:
    return record.size, record.content


class _Batch(Generic[Item]):
    """The list that is being filled; ``weigh`` tells the bytes of an item and, of a photo, its file."""

    def __init__(self, size: int, weigh: Callable[[Item], tuple[int, bytes | None]]) -> None:
        self._size = size
        self._weigh = weigh
        self._items: list[Item] = []
        self._held = self._decoded = 0

    def add(self, item: Item) -> Iterator[list[Item]]:
        """Takes ``item`` in, and yields what has become full before or with it."""
        weight, content = self._weigh(item)
        pixels = _BYTES_PER_PIXEL * pixel_count(content) if content else 0
        if self._held + weight > MAX_REQUEST_BYTES or self._decoded + pixels > MAX_DECODED_BYTES:
            yield from self.rest()
        self._items.append(item)
        self._held += weight
        self._decoded += pixels
        if len(self._items) == self._size:
            yield from self.rest()

    def rest(self) -> Iterator[list[Item]]:
        """Yields what is there, if anything is, and begins anew."""
        if self._items:
            full, self._items, self._held, self._decoded = self._items, [], 0, 0
            yield full
