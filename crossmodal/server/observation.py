"""What is seen of one request on its way: filled in by whoever does a part of it, read when it ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from crossmodal.query.request import SearchRequest, Timing

__all__ = ["OBSERVED", "STAGES", "Observation", "observed"]

# The parts of a search in their order: waiting for a thread and the calls before it, and then what the engine
# times.
STAGES = ("wait", "encode", "search", "words", "rerank", "fetch")

# Of a write that names more, the log has the first ones and their number.
_NAMED_IDS = 5


@dataclass(slots=True)
class Observation:
    """One HTTP request as it is seen.

    ``stages`` are milliseconds by the names in STAGES, and ``spans`` when each of them began and ended, in
    nanoseconds since 1970. ``characters`` is the length of each sentence that is searched for, as what people
    ask is not for a log; ``shared`` how many queries the model was called with together. Of a write,
    ``action`` is "index" or "delete", ``ids`` the first few and ``outcomes`` how many became what.
    ``refusal`` says in a word why the request was refused, where its status doesn't. ``elsewhere`` is set
    where another process answers it, and notes it.
    """

    id: str = ""
    stages: dict[str, float] = field(default_factory=dict)
    spans: list[tuple[str, int, int]] = field(default_factory=list)
    queries: int = 0
    characters: list[int] = field(default_factory=list)
    shared: int = 0
    action: str | None = None
    ids: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    refusal: str | None = None
    elsewhere: bool = False

    def add_stage(self, stage: str, milliseconds: float, ended_ns: int | None = None) -> int:
        """Adds to the time that a stage took, which ended now if ``ended_ns`` is None; returns its begin."""
        ended = time.time_ns() if ended_ns is None else ended_ns
        began = ended - int(milliseconds * 1e6)
        self.stages[stage] = self.stages.get(stage, 0.0) + milliseconds
        self.spans.append((stage, began, ended))
        return began

    def add_queries(self, requests: Sequence[SearchRequest]) -> None:
        """Notes what is searched for."""
        self.queries += len(requests)
        self.characters += [len(term.text) for asked in requests for term in asked.terms if term.text]

    def add_search(self, wait_ms: float, timing: Timing, shared: int) -> None:
        """Notes a call of the engine that ``shared`` queries were answered by, and that has just ended."""
        self.shared = max(self.shared, shared)
        at: int | None = None
        # From its end backwards: how long each part took is known, and in which order they came.
        for stage, taken in (
            ("fetch", timing.fetch_ms),
            ("rerank", timing.rerank_ms),
            ("words", timing.words_ms),
            ("search", timing.search_ms),
            ("encode", timing.encode_ms),
            ("wait", wait_ms),
        ):
            if taken or stage not in ("words", "rerank"):
                at = self.add_stage(stage, taken, at)

    def begin_write(self, action: str, ids: Iterable[str]) -> None:
        """Notes that these documents are to be written or deleted."""
        self.action = action
        for id in ids:
            if len(self.ids) == _NAMED_IDS:
                break
            self.ids.append(id)


OBSERVED: ContextVar[Observation | None] = ContextVar("observed", default=None)


def observed() -> Observation:
    """The request that is being answered; one that nobody reads where none is."""
    return OBSERVED.get() or Observation()
