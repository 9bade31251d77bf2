"""How many documents go in one request: bounded by number, by bytes, and by the pixels they decode to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from crossmodal.images import pixel_count
from crossmodal.records import IMAGE, Record

__all__ = ["MAX_REQUEST_BYTES", "batched", "batched_by_modality"]

# A step holds one request at a time, one that encodes as many as it has cores for, so these bound the memory,
# whatever the data set or a client sends.
MAX_REQUEST_BYTES = 8 << 20
MAX_DECODED_BYTES = 128 << 20
_BYTES_PER_PIXEL = 3

# A caption takes a fraction of a photo's time, and the more there are of them, the more alike in length are
# those that are encoded together.
CAPTIONS_FOR_A_PHOTO = 4


def batched(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    """Groups records into lists of at most ``size``; one of several records keeps within the limits above."""
    batch = _Batch(size)
    for record in records:
        yield from batch.add(record)
    yield from batch.rest()


def batched_by_modality(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    """The same in lists of photos alone and of captions alone, of which one holds up to 4 * ``size``."""
    photos, captions = _Batch(size), _Batch(CAPTIONS_FOR_A_PHOTO * size)
    for record in records:
        yield from (photos if record.modality == IMAGE else captions).add(record)
    yield from photos.rest()
    yield from captions.rest()


class _Batch:
    """The list that is being filled."""

    def __init__(self, size: int) -> None:
        self._size = size
        # By id: branches and shards become one again by it, so that an id stands once in a request.
        self._records: dict[str, Record] = {}
        self._held = self._decoded = 0

    def add(self, record: Record) -> Iterator[list[Record]]:
        """Takes ``record`` in, and yields what has become full before or with it."""
        pixels = _BYTES_PER_PIXEL * pixel_count(record.content) if record.content else 0
        too_large = self._held + record.size > MAX_REQUEST_BYTES or self._decoded + pixels > MAX_DECODED_BYTES
        if too_large or record.id in self._records:
            yield from self.rest()
        self._records[record.id] = record
        self._held += record.size
        self._decoded += pixels
        if len(self._records) == self._size:
            yield from self.rest()

    def rest(self) -> Iterator[list[Record]]:
        """Yields what is there, if anything is, and starts over."""
        if self._records:
            full, self._records, self._held, self._decoded = list(self._records.values()), {}, 0, 0
            yield full
