"""Makes sure that a Flow has done all its steps on every document, and does it again where not.

Under load at start-up, jina was seen to answer a request although a branch, or one shard, had never seen
its documents: neither an error nor a gap shows that. So every step writes its name on the document, and
whoever sends documents compares. Indexing and searching can be repeated without harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from crossmodal.documents import MediaDocument
from crossmodal.errors import ServiceError
from crossmodal.flow.topology import Topology

__all__ = ["deliver", "undone"]

_TRIES = 4
_PAUSE_SECONDS = 0.5

Send = Callable[[list[MediaDocument]], Awaitable[Iterable[MediaDocument]]]


async def deliver(docs: Sequence[MediaDocument], topology: Topology, send: Send) -> dict[str, MediaDocument]:
    """What ``send`` answers, by id; documents that missed a step are sent again, a few times.

    Raises ServiceError, naming the step, where a document still misses one.
    """
    answered: dict[str, MediaDocument] = {}
    waiting = list(docs)
    for attempt in range(_TRIES):
        if attempt:
            await asyncio.sleep(_PAUSE_SECONDS * attempt)
        answered.update((str(doc.id), doc) for doc in await send(waiting))
        waiting = [doc for doc in waiting if undone(doc, answered.get(str(doc.id)), topology)]
        if not waiting:
            return answered
    missed = undone(waiting[0], answered.get(str(waiting[0].id)), topology)
    raise ServiceError(
        f"{len(waiting)} of {len(docs)} documents never came through {', '.join(sorted(missed))}, "
        f"tried {_TRIES} times; start again."
    )


def undone(sent: MediaDocument, answer: MediaDocument | None, topology: Topology) -> frozenset[str]:
    """The steps that a document should have been through and has not; none where it has an error."""
    if answer is not None and answer.error is not None:
        return frozenset()
    return topology.trail(sent) - set((answer.trail if answer else None) or ())
