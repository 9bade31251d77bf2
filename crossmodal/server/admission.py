"""How much work a server takes on, and for how long: bounded queues by kind, and deadlines.

What is beyond a queue is refused at once with 429, before anything is read or made of it. Work whose deadline
has passed, or whose client has hung up, is given up: it leaves its queue, and its place is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from crossmodal.deadlines import Deadline
from crossmodal.places import Places

__all__ = ["Admission"]

# Sentences that are taken on for each core: as many as are answered within half a second or so, and not fewer
# than keep the cores busy with full batches.
_MOST_SENTENCES_A_CORE = 128
_LEAST_SENTENCES_A_CORE = 24
_WAIT_SECONDS = 0.5

# How much the latest batch changes what is known of the time that a sentence takes.
_NEWEST_SHARE = 0.2

# Photos that may wait for each core: a decoded one takes tens of milliseconds.
_PHOTOS_A_CORE = 16

# Requests that write, each with a document and two batches in memory, and requests that only read.
_WRITES = 32
_READS = 256

# MiB of photos that are read or sent at the same time: one may have 64, and a slow client takes long for it.
_PHOTOS_SENT_MIB = 256

# Originals that are read from the index at the same time, before it is known how large they are; and those of
# them that are for archives, which nobody else waits for.
_READ_AT_ONCE = 4
_ARCHIVED_AT_ONCE = 2

# Archives that are being sent. Each has a list of its photos, some MiB where they are many.
_ARCHIVES = 16

# A request of many sentences has so many under way at a time.
_HEAVIEST = 16

# A step that works on for so long after the last one who waited for it left does not come back.
_STUCK_SECONDS = 30.0


@dataclass
class Admission:
    """The places of one serving process with ``cores``, its deadlines, and what was refused and given up.

    ``seconds`` is the deadline of a request that names none; an upload's begins anew with each part of it.
    """

    cores: int
    seconds: float
    timed_out: int = 0
    hung_up: int = 0
    body_bytes: int = 0
    _seconds_each: float = 0.0
    _under_way: set[Deadline] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.sentences = Places("sentences", _MOST_SENTENCES_A_CORE * self.cores)
        self.photos = Places("photos", _PHOTOS_A_CORE * self.cores)
        self.writes = Places("writing requests", _WRITES)
        self.reads = Places("reading requests", _READS)
        self.sent = Places("MiB of photos", _PHOTOS_SENT_MIB)
        self.archives = Places("archives", _ARCHIVES)
        self.reading = asyncio.Semaphore(_READ_AT_ONCE)
        self.archiving = asyncio.Semaphore(_ARCHIVED_AT_ONCE)
        # For all that is read under the two.
        self.reading_threads = _READ_AT_ONCE + _ARCHIVED_AT_ONCE

    def search_places(self, sentences: int, photos: int) -> AbstractContextManager[None]:
        """The places of one search request, as a context; raises Overloaded."""
        if photos:
            return self.photos.take(photos)
        return self.sentences.take(min(sentences, _HEAVIEST))

    def note_batch(self, sentences: int, seconds: float) -> None:
        """Learns from a batch of ``sentences`` that took ``seconds`` how many can be answered in time."""
        each = seconds / sentences
        self._seconds_each += _NEWEST_SHARE * (each - self._seconds_each)
        # The batches of all cores are under way where any are waiting.
        in_time = int(_WAIT_SECONDS / max(self._seconds_each, 1e-6))
        most, least = _MOST_SENTENCES_A_CORE, _LEAST_SENTENCES_A_CORE
        self.sentences.most = self.cores * min(max(in_time, least), most)

    @property
    def overloaded(self) -> bool:
        """Whether the next search would be refused."""
        return self.sentences.full

    @property
    def stuck(self) -> str | None:
        """A sentence where a step that is under way will not come back; None where all do."""
        overdue = max((deadline.overdue for deadline in list(self._under_way)), default=0.0)
        if overdue < _STUCK_SECONDS:
            return None
        return f"A step is stuck: it should have ended {overdue:,.0f} seconds ago."

    def status(self) -> dict[str, Any]:
        """By kind the places ``held``, the ``most`` there are and those ``shed``; what was given up."""
        kinds = (self.sentences, self.photos, self.writes, self.reads, self.sent, self.archives)
        return {
            "queues": {
                places.name: {"held": places.held, "most": places.most, "shed": places.shed}
                for places in kinds
            },
            "timed_out": self.timed_out,
            "hung_up": self.hung_up,
            "body_bytes": self.body_bytes,
        }

    @contextmanager
    def under_way(self, deadline: Deadline) -> Iterator[None]:
        """Notes that a thread works, and is to be done by ``deadline``, as long as the context lasts."""
        self._under_way.add(deadline)
        try:
            yield
        finally:
            self._under_way.discard(deadline)
