"""What the routes of one server share."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from crossmodal import limits
from crossmodal.access.own_paths import OwnPaths
from crossmodal.deadlines import Deadline, current_deadline, until
from crossmodal.engine.amending import amend
from crossmodal.engine.describing import cut_to
from crossmodal.engine.engine import Engine
from crossmodal.engine.group_names import GroupName
from crossmodal.engine.indexing import Indexed
from crossmodal.engine.suggestions import Suggestion
from crossmodal.errors import DataError, ObjectsUnavailable, QueryError, ServiceError, StoreUnwritable
from crossmodal.flow.topology import FlowKind
from crossmodal.http_shapes.v1.answers import index_state
from crossmodal.images.budget import process_budget
from crossmodal.images.limits import MEGABYTE
from crossmodal.machine import available_cores
from crossmodal.query.heat_maps import HeatMap
from crossmodal.query.request import SearchOutcome, SearchRequest, Timing
from crossmodal.records import MODALITIES, Amendment, Modality, Record
from crossmodal.request_ids import REQUEST_IDS
from crossmodal.server.admission import Admission
from crossmodal.server.connections import Connections
from crossmodal.server.metrics import Metrics
from crossmodal.server.micro_batcher import MicroBatcher
from crossmodal.server.observation import observed
from crossmodal.server.pictures import Pictures
from crossmodal.server.text_reading import TextReading
from crossmodal.settings import Settings
from crossmodal.url_photos import UrlPhotos

__all__ = ["Serving", "Writing"]

# Sentences take the encoder some milliseconds each: others wait for so many at most.
_SEARCHED_TOGETHER = 16

# Requests that write at the same time; each is a batch on its way through the index Flow.
_WRITES_AT_ONCE = 4

# Those who type wait for no more than the words of an index, which are read once.
_SUGGESTED_AT_ONCE = 2

# A batch that is written takes longer than this, and so much more for each of its documents, only where it
# will never end: the largest models take seconds for a photo, and several batches share the cores.
_WRITING_SECONDS = 120.0
_WRITING_SECONDS_EACH = 15.0
_DOCUMENTS_A_BATCH = 32

# The first one loads the model, perhaps over a slow line.
_LOADING_SECONDS = 1800.0

# What doesn't find anything for one word within this is not ready.
_READY_SECONDS = 5.0

# Everybody may ask whether the server is ready: what is known is told for so long without looking again.
_READY_KNOWN_SECONDS = 1.0

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Writing:
    """Whether documents can be added and deleted; ``reason`` says why not."""

    allowed: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One query, and the HTTP request that it came in."""

    request: SearchRequest
    request_id: str


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the engine: when it began (``time.perf_counter``), for how many queries, and its times."""

    began: float
    queries: int
    timing: Timing


@dataclass(frozen=True, slots=True)
class _Answer:
    """What became of one query, in which call."""

    outcome: SearchOutcome
    call: _Call


@dataclass
class Serving:
    """One running server: the engine behind it, and who may write.

    ``kind`` is the Flow that it serves: "index" writes and answers no searches. ``settings`` are those of the
    index. ``url_photos`` fetches photos by URL, None where nothing is fetched. For one event loop.
    """

    kind: FlowKind
    engine: Engine
    settings: Settings
    writing: Writing = Writing()
    url_photos: UrlPhotos | None = None
    metrics: Metrics = field(default_factory=Metrics)
    connections: Connections = field(default_factory=Connections)
    started: float = field(default_factory=time.time)
    # The same moment by a clock that nobody sets.
    since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        cores = available_cores()
        # For errors of single documents and queries; those of whole requests lose paths on the way out.
        self.path_names = OwnPaths(self.settings)
        self.admission = Admission(cores, self.settings.request_timeout)
        self._searching = ThreadPoolExecutor(cores, thread_name_prefix="search")
        # Photos have threads of their own, so that sentences don't wait for those that are decoded.
        self._photos = ThreadPoolExecutor(cores, thread_name_prefix="photo")
        self._writing = ThreadPoolExecutor(_WRITES_AT_ONCE, thread_name_prefix="write")
        # A large file, or a disk that doesn't answer, holds up nothing but others that are read.
        self._reading = ThreadPoolExecutor(self.admission.reading_threads, thread_name_prefix="read")
        # What is suggested first waits for the words of the whole index.
        self._suggesting = ThreadPoolExecutor(_SUGGESTED_AT_ONCE, thread_name_prefix="suggest")
        self._pictures = Pictures(
            max_pixels=self.settings.max_pixels, memory=(self.settings.decode_memory or 0) * MEGABYTE
        )
        self._batches: MicroBatcher[_Asked, _Answer] = MicroBatcher(
            self._search_together, most=_SEARCHED_TOGETHER, at_once=cores
        )
        # What is changed is read before: nothing may change it in between.
        self._amending = threading.Lock()
        self._readiness = _SharedCheck(self._find_something)
        self.texts = TextReading(self.engine, lambda: self.admission.writes.held > 0)
        self.metrics.add_source("searches", self._batches.status)
        self.metrics.add_source("admission", self._admission_counts)
        self.metrics.add_source("admission_bytes", lambda: {"bodies": self.admission.body_bytes})
        self.metrics.add_source("connections", self.connections.status)
        # All processes of a server share it.
        self.metrics.add_source("decode_memory_bytes", _decode_memory, common=True)
        self.metrics.add_source("decode", lambda: {"waiting": process_budget().status().waiting})

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
        # A second stage takes as long as a photo, at least.
        photos += sum(request.rerank is not None for request in requests)
        with self.admission.search_places(len(requests), photos):
            return await self._search(requests, alone=photos > 0)

    async def _search(
        self, requests: Sequence[SearchRequest], *, alone: bool
    ) -> tuple[list[SearchOutcome], Timing]:
        seen = observed()
        seen.add_queries(requests)
        asked = [_Asked(request, seen.id) for request in requests]
        outcomes: list[SearchOutcome] = []
        timing = Timing()
        left = limits.ANSWER_TOGETHER.most
        # One batch after the other: a large request doesn't fill the queue at once.
        for start in range(0, len(asked), len(asked) if alone else _SEARCHED_TOGETHER):
            submitted = time.perf_counter()
            if alone:
                answered = await self._in(self._photos, self._answer, asked)
            else:
                answered = await self._batches(asked[start : start + _SEARCHED_TOGETHER])
            found = [answer.outcome for answer in answered]
            left = cut_to(found, left)
            outcomes += found
            call = answered[0].call
            timing.add(call.timing)
            seen.add_search((call.began - submitted) * 1000, call.timing, call.queries)
        return outcomes, timing

    async def encode(self, inputs: Sequence[str | bytes]) -> list[NDArray[np.float32]]:
        """The vectors, float32 (dimension,), of sentences and of photos (the bytes of their files), in order.

        Raises Overloaded where too much is waiting already, DeadlinePassed between two batches, and
        QueryError for a photo that cannot be read, with its place as a JSON pointer.
        """
        texts = [number for number, item in enumerate(inputs) if isinstance(item, str)]
        photos = [(number, item) for number, item in enumerate(inputs) if isinstance(item, bytes)]
        seen = observed()
        seen.queries += len(inputs)
        seen.characters += [len(inputs[number]) for number in texts]
        vectors: dict[int, NDArray[np.float32]] = {}
        started = time.perf_counter()
        with self.admission.search_places(len(texts), len(photos)):
            for start in range(0, len(texts), _SEARCHED_TOGETHER):
                batch = texts[start : start + _SEARCHED_TOGETHER]
                sentences = [item for number in batch if isinstance(item := inputs[number], str)]
                made = await self._in(self._searching, partial(self.engine.encode, texts=sentences))
                vectors |= zip(batch, made, strict=True)
            cores = self.admission.cores
            for start in range(0, len(photos), cores):
                several = photos[start : start + cores]
                vectors |= await asyncio.gather(*(self._encode_photo(*numbered) for numbered in several))
        seen.add_stage("encode", (time.perf_counter() - started) * 1000)
        return [vectors[number] for number in range(len(inputs))]

    async def _encode_photo(self, number: int, photo: bytes) -> tuple[int, NDArray[np.float32]]:
        try:
            made = await self._in(self._photos, partial(self.engine.encode, photos=[photo]))
        except DataError as error:
            raise QueryError(str(error), pointer=f"/input/{number}") from None
        return number, made[0]

    async def heat_map(self, id: str, text: str) -> HeatMap | None:
        """Which parts of a photo fit a sentence; see ``Engine.heat_map``.

        Raises Overloaded where too much is waiting already.
        """
        seen = observed()
        seen.queries += 1
        seen.characters.append(len(text))
        started = time.perf_counter()
        with self.admission.search_places(0, 1):
            found = await self._in(self._photos, self.engine.heat_map, id, text)
        seen.add_stage("encode", (time.perf_counter() - started) * 1000)
        return found

    async def group_names(self) -> list[GroupName]:
        """What the groups of photos on their map show; see ``Engine.group_names``.

        Raises Overloaded where too much is waiting already.
        """
        with self.admission.search_places(0, 1):
            return await self._in(self._photos, self.engine.group_names)

    async def index(self, records: Sequence[Record]) -> dict[str, Indexed]:
        """Indexes hashed records; what became of each, by id. Raises what the engine raises."""

        def work() -> dict[str, Indexed]:
            became: dict[str, Indexed] = {}
            try:
                # One batch at a time: other requests that write are under way as well.
                written = self.engine.index(records, at_once=1)
                while True:
                    with self._write_under_way(len(records)):
                        indexed = next(written, None)
                    if indexed is None:
                        break
                    if isinstance(indexed, Indexed):
                        became[indexed.record.id] = indexed
            except (StoreUnwritable, ObjectsUnavailable) as error:
                if all(indexed.error for indexed in became.values()):
                    raise
                # Some of it is written, and stays so.
                failed = {record.id: Indexed(record, error=str(error)) for record in records}
                return failed | became
            return became

        seen = observed()
        seen.begin_write("index", (record.id for record in records))
        became = await self._in(self._writing, work)
        self.texts.wake()
        for record in records:
            outcome = became[record.id].outcome or "failed"
            seen.outcomes[outcome] += 1
            self.metrics.count_written(outcome)
        return became

    async def read(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """What ``work`` makes of a file that it reads, as part of the originals that are read at once.

        To be called with a place of ``admission``. Whoever leaves meanwhile leaves the thread to its end: the
        next ones wait for it.
        """
        context = copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reading, context.run, work, *arguments)

    async def suggest(self, text: str, limit: int, *, places: bool) -> list[Suggestion]:
        """What may be meant by the beginning of it; see ``Engine.suggest``."""
        work = partial(self.engine.suggest, text, limit, places=places)
        return await asyncio.get_running_loop().run_in_executor(self._suggesting, work)

    async def picture(self, tag: str, file: bytes, size: int | None = None) -> bytes:
        """The picture of the photo in a ``file`` that ``tag`` names, for browsers; see ``Pictures.made``.

        Raises Overloaded where too many photos are waiting already, ImageError where it cannot be read.
        """
        if (kept := self.kept_picture(tag, size)) is not None:
            return kept
        with self.admission.search_places(0, 1):
            return await self._in(self._photos, self._pictures.made, tag, file, size)

    def kept_picture(self, tag: str, size: int | None = None) -> bytes | None:
        """The picture of the file that ``tag`` names where it was made lately, so that nobody reads that."""
        return self._pictures.kept(tag, size)

    async def amend(self, id: str, amendment: Amendment) -> Amendment | None:
        """Changes a document in place, one at a time. Returns and raises as ``amend``."""

        def work() -> Amendment | None:
            with self._amending, self._write_under_way(1):
                return amend(self.engine, id, amendment)

        seen = observed()
        seen.begin_write("index", [id])
        undo = await self._in(self._writing, work)
        seen.outcomes["replaced"] += undo is not None
        self.metrics.count_written("replaced", int(undo is not None))
        return undo

    async def delete(
        self, ids: Sequence[str], *, captions: bool, modality: Modality | None = None
    ) -> list[str]:
        """Deletes photos and captions by id, or those of ``modality``; the ids that were there.

        Raises as ``Engine.delete``.
        """

        def work() -> list[str]:
            with self._write_under_way(len(ids)):
                return self.engine.delete(ids, captions=captions, modality=modality)

        seen = observed()
        seen.begin_write("delete", ids)
        deleted = await self._in(self._writing, work)
        seen.outcomes["deleted"] += len(deleted)
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
        """Searches as a client would; of the index Flow, whether it still holds the writer's lock.

        All who ask at about the same time get the result of one check. Raises StoreError where the index
        cannot be read, or there is none, ServiceError where no answer comes
        in time, a step is stuck, or more is waiting already than is taken on.
        """
        self.require_healthy()
        if self.admission.overloaded:
            raise ServiceError("This server is busy: as many sentences are waiting as it takes on.")
        await self._readiness.require()

    def close(self) -> None:
        """Ends the threads, after what they are doing."""
        self.texts.close()
        self._searching.shutdown(cancel_futures=True)
        self._photos.shutdown(cancel_futures=True)
        self._reading.shutdown(cancel_futures=True)
        # Closing the engine gives up what they wait for.
        self._suggesting.shutdown(wait=False, cancel_futures=True)
        self._writing.shutdown()
        self._pictures.close()
        if self.url_photos is not None:
            self.url_photos.close()

    def _admission_counts(self) -> dict[str, Any]:
        return {name: value for name, value in self.admission.status().items() if name != "body_bytes"}

    async def _find_something(self) -> None:
        check = self.engine.check_search if self.kind == "query" else self.engine.check_writer
        # Of all who ask: the deadline of the first is not theirs.
        with until(Deadline(self.admission.seconds)):
            await self._in(self._searching, check)

    async def _search_together(self, asked: list[_Asked]) -> list[_Answer]:
        # Of many requests: each leaves by itself where nobody waits for it any more.
        started = time.monotonic()
        with until(Deadline(self.admission.seconds)):
            answers = await self._in(self._searching, self._answer, asked)
        self.admission.note_batch(len(asked), time.monotonic() - started)
        return answers

    def _answer(self, asked: Sequence[_Asked]) -> list[_Answer]:
        began = time.perf_counter()
        REQUEST_IDS.set(tuple(dict.fromkeys(query.request_id for query in asked)))
        outcomes, timing = self.engine.search([query.request for query in asked])
        call = _Call(began, len(asked), timing)
        return [_Answer(outcome, call) for outcome in outcomes]

    def _write_under_way(self, documents: int) -> AbstractContextManager[None]:
        """Notes that a batch of at most so many documents is written, as long as the context lasts."""
        if self.engine.writer_state == "running":
            each = _WRITING_SECONDS_EACH * min(documents, _DOCUMENTS_A_BATCH)
            return self.admission.under_way(Deadline(_WRITING_SECONDS + each))
        return self.admission.under_way(Deadline(_LOADING_SECONDS))

    async def _in(
        self, threads: ThreadPoolExecutor, work: Callable[..., _Result], *arguments: Any
    ) -> _Result:
        # What writes has a watch for each of its batches.
        seconds = math.inf if threads is self._writing else self.admission.seconds
        deadline = current_deadline() or Deadline(seconds)

        def watched() -> _Result:
            # Counted from when a thread takes it: who waits in the queue is not stuck.
            with self.admission.under_way(Deadline(seconds)), until(deadline):
                return work(*arguments)

        # What is logged there is about the same request.
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(threads, context.run, watched)


def _decode_memory() -> dict[str, int]:
    budget = process_budget().status()
    return {"limit": budget.limit, "used": budget.used}


class _SharedCheck:
    """A check of which one at a time is under way, however many ask; for one event loop."""

    def __init__(self, check: Callable[[], Awaitable[None]]) -> None:
        self._check = check
        self._began = 0.0
        self._ended = 0.0
        self._latest: asyncio.Task[Exception | None] | None = None

    async def require(self) -> None:
        """Raises what the latest check raised, and ServiceError where that takes too long."""
        now = time.monotonic()
        if self._latest is None or (self._latest.done() and now - self._ended >= _READY_KNOWN_SECONDS):
            self._began = now
            self._latest = asyncio.create_task(self._result())
        try:
            async with asyncio.timeout(self._began + _READY_SECONDS - now):
                # Who asks may leave; the others wait on.
                failed = await asyncio.shield(self._latest)
        except TimeoutError:
            raise ServiceError(f"No search was answered within {_READY_SECONDS:.0f} seconds.") from None
        if failed is not None:
            raise failed.with_traceback(None)

    async def _result(self) -> Exception | None:
        try:
            await self._check()
        except Exception as error:  # noqa: BLE001  it is for all who ask
            return error
        finally:
            self._ended = time.monotonic()
        return None
