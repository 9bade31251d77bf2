"""Makes sure that a Flow of processes has done all its steps on every document, and repeats it where not.

Under load at start-up, jina was seen to answer a request although a branch, or one shard, had never seen
its documents: neither an error nor a gap shows that. So every step writes its name on the document, and the
sender compares. Indexing and searching can be repeated without harm.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from crossmodal.documents import Document
from crossmodal.errors import ServiceError
from crossmodal.flow.topology import GATEWAY, Topology

__all__ = [
    "DEADLINE_PARAMETER",
    "REQUEST_IDS_PARAMETER",
    "Answer",
    "LostShards",
    "deliver",
    "steps_to_visit",
    "visited_name",
]

# The parameter of a request to a Flow that names the requests to the server that it is made for.
REQUEST_IDS_PARAMETER = "request_ids"

# That of the seconds after which nobody waits for the answer any more; the clocks of two hosts may differ.
DEADLINE_PARAMETER = "deadline_s"

_logger = logging.getLogger(__name__)

_TRIES = 4
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back of a document, and the steps that it has visited."""

    doc: Document
    visited: Collection[str]


class LostShards:
    """The shards of ``topology`` that have not answered lately, and that answers may do without.

    Which ones those are is found out by trying again; from then on no request waits for them, but each asks
    them. An answer needs at least one shard of each step. For any number of threads.
    """

    def __init__(self, topology: Topology) -> None:
        self._steps = [
            {visited_name(step.name, shard, step.shards) for shard in range(step.shards)}
            for step in topology.steps
            if step.shards > 1
        ]
        self._lost: frozenset[str] = frozenset()
        self._changing = threading.Lock()

    @property
    def names(self) -> frozenset[str]:
        """Those that are lost now."""
        return self._lost

    def answered(self, visited: Iterable[str]) -> None:
        """Notes what has been visited."""
        with self._changing:
            back = self._lost.intersection(visited)
            self._lost -= back
        _warn(back, "answers again")

    def may_lack(self, missed: Set[str]) -> bool:
        """Whether an answer may go out without them, as they are known to be lost."""
        return missed <= self._lost and self._leaves_some(missed)

    def lose(self, missed: Set[str]) -> bool:
        """Notes what has not been, unless that is more than some shards of a step: then it is False."""
        if not missed <= set[str]().union(*self._steps) or not self._leaves_some(missed):
            return False
        with self._changing:
            new = missed - self._lost
            self._lost |= new
        _warn(new, "does not answer: searches go on without it")
        return True

    def _leaves_some(self, missed: Set[str]) -> bool:
        return not any(step <= missed for step in self._steps)


def _warn(shards: Iterable[str], what: str) -> None:
    for name in sorted(shards):
        _logger.warning("The shard %s %s.", name, what)


Send = Callable[[Sequence[Document]], Mapping[str, Answer]]


def deliver(
    docs: Sequence[Document], topology: Topology, send: Send, lost: LostShards | None = None
) -> dict[str, Document]:
    """What ``send`` answers, by id; documents that missed a step are sent again, a few times.

    A document that takes no branch has no answer. Raises ServiceError, naming the step, where a document
    still misses one; with ``lost`` it may be a shard, but not all of a step, and has it among its
    ``lost_shards`` then.
    """
    answered: dict[str, Answer] = {}
    waiting = list(docs)
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE_SECONDS * attempt)
        answered.update(send(waiting))
        missed = {doc.id: _missed(doc, answered.get(doc.id), topology) for doc in docs}
        if lost is not None:
            lost.answered(name for answer in answered.values() for name in answer.visited)
        waiting = [
            doc for doc in waiting if missed[doc.id] and (lost is None or not lost.may_lack(missed[doc.id]))
        ]
        if not waiting:
            break
    all_missed = frozenset[str]().union(*(missed[doc.id] for doc in waiting))
    if waiting and (lost is None or not lost.lose(all_missed)):
        raise ServiceError(
            f"{len(waiting)} of {len(docs)} documents never came through {', '.join(sorted(all_missed))}, "
            f"tried {_TRIES} times; see that its host answers, or start again."
        )
    for id, answer in answered.items():
        answer.doc.lost_shards = sorted(missed[id]) or None
    return {id: answer.doc for id, answer in answered.items()}


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
