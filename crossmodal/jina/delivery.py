"""Makes sure that a Flow of processes has done all its steps on every document, and repeats it where not.

Under load at start-up, jina was seen to answer a request although a branch, or one shard, had never seen
its documents: neither an error nor a gap shows that. So every step writes its name on the document, and the
sender compares. Indexing and searching can be repeated without harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from crossmodal.documents import Document
from crossmodal.errors import ServiceError
from crossmodal.flow.topology import GATEWAY, Topology

__all__ = [
    "DEADLINE_PARAMETER",
    "REQUEST_IDS_PARAMETER",
    "Answer",
    "deliver",
    "steps_to_visit",
    "visited_name",
]

# The parameter of a request to a Flow that names the requests to the server that it is made for.
REQUEST_IDS_PARAMETER = "request_ids"

# That of the seconds after which nobody waits for the answer any more; the clocks of two hosts may differ.
DEADLINE_PARAMETER = "deadline_s"

_TRIES = 4
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back of a document, and the steps that it has visited."""

    doc: Document
    visited: Collection[str]


Send = Callable[[Sequence[Document]], Mapping[str, Answer]]


def deliver(docs: Sequence[Document], topology: Topology, send: Send) -> dict[str, Document]:
    """What ``send`` answers, by id; documents that missed a step are sent again, a few times.

    A document that takes no branch has no answer. Raises ServiceError, naming the step, where a document
    still misses one.
    """
    answered: dict[str, Answer] = {}
    waiting = list(docs)
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE_SECONDS * attempt)
        answered.update(send(waiting))
        waiting = [doc for doc in waiting if _missed(doc, answered.get(doc.id), topology)]
        if not waiting:
            return {id: answer.doc for id, answer in answered.items()}
    missed = _missed(waiting[0], answered.get(waiting[0].id), topology)
    raise ServiceError(
        f"{len(waiting)} of {len(docs)} documents never came through {', '.join(sorted(missed))}, "
        f"tried {_TRIES} times; start again."
    )


def steps_to_visit(topology: Topology, doc: Document) -> frozenset[str]:
    """The steps, and of a sharded one the shards, that ``doc`` visits on its way through the whole Flow."""
    reached = {GATEWAY}
    names: set[str] = set()
    for step in topology.steps:
        if reached & set(step.needs) and step.takes(doc):
            reached.add(step.name)
            names |= {visited_name(step.name, shard, step.shards) for shard in range(step.shards)}
    return frozenset(names)


def visited_name(step: str, shard: int, shards: int) -> str:
    """How a step, or one of several shards of it, is named among the visited steps."""
    return step if shards == 1 else f"{step}/{shard}"


def _missed(sent: Document, answer: Answer | None, topology: Topology) -> frozenset[str]:
    """The steps that a document should have visited and has not; none where it has an error."""
    if answer is None:
        return steps_to_visit(topology, sent)
    return frozenset() if answer.doc.error else steps_to_visit(topology, sent) - set(answer.visited)
