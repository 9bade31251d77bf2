"""What the routes of one server share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from crossmodal import limits
from crossmodal.deadlines import Deadline, current_deadline, until
from crossmodal.engine.describing import cut_to
from crossmodal.engine.engine import Engine
from crossmodal.engine.indexing import Indexed
from crossmodal.errors import ServiceError, StoreUnwritable
from crossmodal.flow.topology import FlowKind
from crossmodal.http_shapes.v1.answers import index_state
from crossmodal.models.runtimes.forms import available_cores
from crossmodal.query.request import SearchOutcome, SearchRequest, Timing
from crossmodal.records import MODALITIES, Modality, Record
from crossmodal.server.admission import Admission
from crossmodal.server.connections import Connections
from crossmodal.server.metrics import Metrics
from crossmodal.server.micro_batcher import MicroBatcher
from crossmodal.settings import Settings

__all__ = ["Serving", "Writing"]

# Sentences take the encoder some milliseconds each: others wait for so many at most.
_SEARCHED_TOGETHER = 16

# Requests that write at the same time; each is a batch on its way through the index Flow.
_WRITES_AT_ONCE = 4

# A batch that is written takes longer than this only where it will never end: the first loads the model.
_WRITING_SECONDS = 1800.0

# A model that doesn't encode one word within this is not ready.
_READY_SECONDS = 5.0

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Writing:
    """Whether documents can be added and deleted; ``reason`` says why not."""

    allowed: bool = False
    reason: str = ""


@dataclass
class Serving:
    """One running server: the engine behind it, and who may write.

    ``kind`` is the Flow that it serves: "index" writes and answers no searches. ``settings`` are those of the
    index. For one event loop.
    """

    kind: FlowKind
    engine: Engine
    settings: Settings
    writing: Writing = Writing()
    metrics: Metrics = field(default_factory=Metrics)
    started: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        cores = available_cores()
        self.admission = Admission(cores, self.settings.request_timeout)
        self.connections = Connections()
        self._searching = ThreadPoolExecutor(cores, thread_name_prefix="search")
        # Photos have threads of their own, so that sentences don't wait for those that are decoded.
        self._photos = ThreadPoolExecutor(cores, thread_name_prefix="photo")
        self._writing = ThreadPoolExecutor(_WRITES_AT_ONCE, thread_name_prefix="write")
        self._batches: MicroBatcher[SearchRequest, tuple[SearchOutcome, Timing]] = MicroBatcher(
            self._search_together, most=_SEARCHED_TOGETHER, at_once=cores
        )

    @property
    def model(self) -> str:
        """The name of the model that built the index."""
        return str(self.settings.model)

    async def search(self, requests: Sequence[SearchRequest]) -> tuple[list[SearchOutcome], Timing]:
        """One outcome a request, in order; requests that come at the same time are answered together.

        Their answers don't depend on that. A request with photos is answered by itself, as they take long.
        Raises Overloaded where too much is waiting already, DeadlinePassed between two steps.
        """
        photos = sum(term.image is not None for request in requests for term in request.terms)
        with self.admission.search_places(len(requests), photos):
            return await (self._search_photos if photos else self._search_sentences)(requests)

    async def _search_photos(self, requests: Sequence[SearchRequest]) -> tuple[list[SearchOutcome], Timing]:
        outcomes, timing = await self._in(self._photos, self.engine.search, requests)
        cut_to(outcomes, limits.ANSWER_TOGETHER.most)
        return outcomes, timing

    async def _search_sentences(
        self, requests: Sequence[SearchRequest]
    ) -> tuple[list[SearchOutcome], Timing]:
        outcomes, timing = list[SearchOutcome](), Timing()
        left = limits.ANSWER_TOGETHER.most
        # One batch after the other: a large request doesn't fill the queue at once.
        for start in range(0, len(requests), _SEARCHED_TOGETHER):
            answered = await self._batches(requests[start : start + _SEARCHED_TOGETHER])
            found = [outcome for outcome, _ in answered]
            left = cut_to(found, left)
            outcomes += found
            timing.add(answered[0][1])
        return outcomes, timing

    async def index(self, records: Sequence[Record]) -> dict[str, Indexed]:
        """Indexes hashed records; what became of each, by id. Raises what the engine raises."""

        def work() -> dict[str, Indexed]:
            became: dict[str, Indexed] = {}
            try:
                # One batch at a time: other requests that write are under way as well.
                for indexed in self.engine.index(records, at_once=1):
                    if isinstance(indexed, Indexed):
                        became[indexed.record.id] = indexed
            except StoreUnwritable as error:
                if all(indexed.error for indexed in became.values()):
                    raise
                # Some of it is written, and stays so.
                failed = {record.id: Indexed(record, error=str(error)) for record in records}
                return failed | became
            return became

        became = await self._in(self._writing, work)
        for record in records:
            self.metrics.count_written(became[record.id].outcome or "failed")
        return became

    async def delete(self, ids: Sequence[str], *, captions: bool) -> list[str]:
        """Deletes photos and captions by id; the ids that were there. Raises as ``Engine.delete``."""
        deleted = await self._in(self._writing, lambda: self.engine.delete(ids, captions=captions))
        self.metrics.count_written("deleted", len(deleted))
        return deleted

    async def index_state(self) -> dict[str, Any]:
        """``index`` of GET /v1/status; raises StoreError where a shard cannot be read."""
        shards: dict[Modality, list[dict[str, Any]]] = {modality: [] for modality in MODALITIES}
        if self.kind == "query":
            for state in await self._in(self._searching, self.engine.shard_states):
                shards[state["modality"]].append(state)
        return index_state(shards)

    def require_healthy(self) -> None:
        """Raises ServiceError where a step is stuck, which only a restart mends."""
        if (stuck := self.admission.stuck) is not None:
            raise ServiceError(stuck)

    async def require_ready(self) -> None:
        """Sends a word through the encoder and looks at the index.

        Raises StoreMissing where there is no index, ServiceError where the model doesn't answer or more is
        waiting already than is taken on.
        """
        self.require_healthy()
        if self.admission.overloaded:
            raise ServiceError("This server is busy: as many sentences are waiting as it takes on.")
        await self._in(self._searching, self.engine.workspace.require)
        if self.kind != "query":
            return
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._in(self._searching, lambda: self.engine.encode(texts=["ready"]))
        except TimeoutError:
            raise ServiceError(f"The model did not answer within {_READY_SECONDS:.0f} seconds.") from None

    def close(self) -> None:
        """Ends the threads, after what they are doing."""
        self._searching.shutdown(cancel_futures=True)
        self._photos.shutdown(cancel_futures=True)
        self._writing.shutdown()

    async def _search_together(self, requests: list[SearchRequest]) -> list[tuple[SearchOutcome, Timing]]:
        # Of many requests: each leaves by itself where nobody waits for it any more.
        started = time.monotonic()
        with until(Deadline(self.admission.seconds)):
            outcomes, timing = await self._in(self._searching, self.engine.search, requests)
        self.admission.note_batch(len(requests), time.monotonic() - started)
        return [(outcome, timing) for outcome in outcomes]

    async def _in(
        self, threads: ThreadPoolExecutor, work: Callable[..., _Result], *arguments: Any
    ) -> _Result:
        # A write loads the model first, which nobody can hurry.
        seconds = _WRITING_SECONDS if threads is self._writing else self.admission.seconds
        deadline = current_deadline() or Deadline(seconds)

        def watched() -> _Result:
            # Counted from when a thread takes it: who waits in the queue is not stuck.
            with self.admission.under_way(Deadline(seconds)), until(deadline):
                return work(*arguments)

        return await asyncio.get_running_loop().run_in_executor(threads, watched)
