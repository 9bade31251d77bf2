"""The engine: everything that an index can do, for every caller.

``PhotoIndex``, the command line, the server and the evaluation all use it. It runs the two Flows, in this
process unless it is given another way, and adds what comes before and after them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from crossmodal.documents import Document
from crossmodal.engine.duplicates import DuplicateGroup, find_duplicates
from crossmodal.engine.encoding import encoded
from crossmodal.engine.group_names import GroupName, GroupNames
from crossmodal.engine.heat_maps import heat_map
from crossmodal.engine.indexing import Indexed, index_batches, index_records
from crossmodal.engine.layout import Layout, Layouts
from crossmodal.engine.opening import OpenFlow, local_flows, resolved_for_reading, resolved_for_writing
from crossmodal.engine.search import Searcher
from crossmodal.engine.suggestions import Suggestion, Suggestions
from crossmodal.engine.texts import ReadText, read_texts
from crossmodal.engine.writer import Writer, WriterState
from crossmodal.errors import (
    BackendUnavailable,
    DataError,
    ServiceError,
    StoreLocked,
    StoreUnwritable,
)
from crossmodal.flow.pipeline import run_batches
from crossmodal.flow.runner import Flow
from crossmodal.images.limits import MEGABYTE
from crossmodal.index.protocols import SeenText
from crossmodal.query.calibration import Calibration
from crossmodal.query.heat_maps import HeatMap
from crossmodal.query.request import SearchOutcome, SearchRequest, Timing
from crossmodal.records import IMAGE, MODALITIES, TEXT, Failure, LocalFile, Modality, Record
from crossmodal.rerankers import public_name
from crossmodal.settings import Settings
from crossmodal.steps.step import TOGETHER, Operation
from crossmodal.videos.formats import reads_videos
from crossmodal.workspace import Workspace

__all__ = ["Engine"]

# So often it is looked whether another process still writes.
_LOCKED_SECONDS = 1.0

# Files that are forgotten with one request.
_FILES_AT_ONCE = 256


class Engine:
    """One index: searched through the query Flow, changed through the index Flow.

    ``settings`` say which index and which model; what they leave open, the index decides. Each Flow is opened
    at its first use, by ``open_flow`` (None: in this process). The index Flow holds the lock of the index's
    one writer, until nothing has been written for ``writer_idle_seconds``. Safe to use from several threads.
    Close it, or use it in a ``with`` statement.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        open_flow: OpenFlow | None = None,
        writer_idle_seconds: float = 0.0,
    ) -> None:
        self.workspace = Workspace(settings.workspace)
        self._given = settings
        self._open_flow = open_flow or local_flows()
        self._opening = threading.RLock()
        self._query: Flow | None = None
        self._searcher: Searcher | None = None
        self._suggestions = Suggestions(self.workspace)
        self._layouts = Layouts(self.workspace)
        self._group_names = GroupNames(self.workspace, self._encode_words)
        self._writer = Writer(self._open_writer, writer_idle_seconds)

    @property
    def settings(self) -> Settings:
        """The settings with the model and the shards of the index; raises as ``resolved_for_reading``."""
        return resolved_for_reading(self._given, self.workspace)

    @property
    def model(self) -> str:
        """The name of the model that built the index; raises StoreMissing where there is none."""
        return str(self.settings.model)

    @property
    def keeps_originals(self) -> bool:
        """Whether photos on this machine are copied into the index."""
        return self._given.keep == "original"

    @property
    def moments(self) -> int:
        """How many moments of a video are indexed at most; 0 where nothing reads videos."""
        return self._given.moments if reads_videos() else 0

    @property
    def writer_state(self) -> WriterState:
        """Whether the index Flow is open at this moment."""
        return self._writer.state

    def prepare(self) -> None:
        """Opens the query Flow and loads all that the first search would load."""
        self._query_flow().prepare()
        # The first call of a network, and of faiss, takes many times as long as the others.
        # A vector database may come later.
        with suppress(BackendUnavailable):
            self.run_query("search", [Document.of_query("first", text="first")], {"top_k": 1})
        self._search().calibration()

    def check(self) -> None:
        """Raises ServiceError where a process that searches need has ended."""
        if self._query is not None:
            self._query.check()

    def check_search(self) -> None:
        """Searches photos and captions for one word; raises what a search would raise.

        A word goes through the encoder; its vector finds captions, for which no sentence is searched.
        """
        self.workspace.require()
        (word,) = self.encode(texts=["ready"])
        probes = [Document.of_query(f"ready-{seeks}", vector=word, seeks=seeks) for seeks in MODALITIES]
        for doc in self.run_query("search", probes, {"top_k": 1}):
            if doc.error is not None:
                raise ServiceError(doc.error)

    def check_writer(self) -> None:
        """Raises StoreMissing where there is no index, ServiceError where what writes it lost its lock."""
        self.workspace.require()
        self._writer.check()

    def search(self, requests: Sequence[SearchRequest]) -> tuple[list[SearchOutcome], Timing]:
        """One outcome a request, in order; an error of one request leaves the others alone.

        Raises StoreMissing where there is no index, ModelMismatch where another model built it.
        """
        return self._search().search(requests)

    def duplicates(self) -> list[DuplicateGroup]:
        """All photos that repeat another, in groups; needs no model. Raises as ``find_duplicates``."""
        return find_duplicates(self.workspace)

    def suggest(self, text: str, limit: int = 10, *, places: bool = True) -> list[Suggestion]:
        """What may be meant by the beginning of it; needs no model. See ``Suggestions.find``."""
        return self._suggestions.find(text, limit, places=places)

    def layout(self, *, wait: bool = False) -> Layout:
        """Where the photos lie on a map of them, as far as that is computed; see ``Layouts.current``."""
        return self._layouts.current(wait=wait)

    def group_names(self) -> list[GroupName]:
        """What the groups of the layout show, as far as that is computed; see ``GroupNames.of``."""
        return self._group_names.of(self.layout())

    def calibration(self) -> Calibration | None:
        """How cosines become scores in this index; None where nothing is known of it."""
        return self._search().calibration()

    def take_cache_counts(self) -> tuple[int, int]:
        """How many sentences' vectors were remembered and how many had to be made, since the last call."""
        return self._search().take_cache_counts()

    def encode(self, *, texts: Sequence[str] = (), photos: Sequence[bytes] = ()) -> NDArray[np.float32]:
        """The vectors of sentences, then of photos (the bytes of their files): float32 (n, dimension).

        Each is what it would be alone, to the last bit. Raises DataError for an empty sentence or bytes that
        are no photo.
        """
        docs = [Document.of_query(f"text-{number}", text=text) for number, text in enumerate(texts)]
        docs += [Document.of_query(f"photo-{number}", content=photo) for number, photo in enumerate(photos)]
        if not docs:
            raise DataError("There is nothing to encode; give at least one sentence or photo.")
        return encoded(self._query_flow(), docs)

    def _encode_words(self, words: Sequence[str]) -> NDArray[np.float32]:
        docs = [Document.of_query(f"word-{number}", text=word) for number, word in enumerate(words)]
        return encoded(self._query_flow(), docs, {TOGETHER: True})

    def heat_map(self, id: str, text: str) -> HeatMap | None:
        """Which parts of the photo ``id`` fit ``text``; None where there is no such photo.

        It takes one pass of the model for each part. Raises as ``heat_maps.heat_map``.
        """
        return heat_map(self._query_flow(), self.workspace, self.settings, id, text)

    def index(
        self, items: Iterable[Record | Failure], *, size: int = 32, at_once: int | None = None
    ) -> Generator[Indexed | Failure, None, None]:
        """Brings records into the index and yields what became of each, after it is on disk.

        Arguments as in ``index_records``. Raises StoreLocked where another process writes, StoreUnwritable
        where the disk is full or read-only, ModelMismatch, and what ``items`` raise.
        """
        with self._writer.flow() as flow:
            yield from index_records(
                flow, self.workspace, items, size=size, originals=self.keeps_originals, at_once=at_once
            )

    def index_batches(self, batches: Iterator[list[Record]]) -> Generator[list[Indexed], None, None]:
        """Brings hashed records into the index, each batch as one request; yields what became of each batch.

        Raises as ``index``.
        """
        with self._writer.flow() as flow:
            yield from index_batches(flow, batches)

    def read_texts(
        self,
        *,
        background: bool = False,
        skip: Collection[str] = (),
        patient: Callable[[float], bool] = lambda seconds: False,
        ended: Callable[[], bool] = lambda: False,
    ) -> Generator[ReadText, None, None]:
        """Reads the text in the photos in which nobody has looked for any yet; yields what each has.

        What is stored is found at once, by hybrid searches. It can be ended at any moment and goes on from
        there another time. The index Flow is open only while something is stored. Where another process
        writes just then, storing waits as long as ``patient`` says so of the seconds so far; nothing is
        stored any more when ``ended`` says so. Other arguments as in ``texts.read_texts``. Raises
        MissingExtra where the extra ``ocr`` is not installed, StoreMissing, StoreLocked where another
        process writes, and StoreUnwritable.
        """
        self.workspace.require()
        settings = self._given
        memory = (settings.decode_memory or 0) * MEGABYTE

        def put(texts: Sequence[SeenText]) -> None:
            if not ended():
                self._put_texts_patiently(texts, patient)

        yield from read_texts(
            self.workspace,
            put,
            max_pixels=settings.max_pixels,
            memory=memory,
            background=background,
            skip=skip,
        )

    def _put_texts_patiently(self, texts: Sequence[SeenText], patient: Callable[[float], bool]) -> None:
        since = time.monotonic()
        while True:
            try:
                self._put_texts(texts)
                return
            except StoreLocked:
                if not patient(time.monotonic() - since):
                    raise
                time.sleep(_LOCKED_SECONDS)

    def _put_texts(self, texts: Sequence[SeenText]) -> None:
        docs = [
            Document(
                each.photo,
                IMAGE,
                record=Record(each.photo, IMAGE, digest=each.digest, metadata={"text": each.text}),
            )
            for each in texts
        ]
        with self._writer.flow(lingers=False) as flow:
            _raise_failed(flow.run("update", docs, {"seen_texts": True}))

    def delete(
        self, ids: Sequence[str], *, captions: bool = True, modality: Modality | None = None
    ) -> list[str]:
        """Deletes photos and captions by id, with ``captions`` also those that describe the photos.

        An id that both a photo and a caption have deletes both, or with ``modality`` that one. Returns the
        ids that were there: those named, in their order, then the others. The moments of a video go with it,
        and are not named. Raises as ``index``, and StoreMissing where there is no index.
        """
        self.workspace.require()
        named = list(dict.fromkeys(ids))
        described = self._captions_of(named) if captions else []
        parameters = {"captions": captions, "modality": modality or ""}
        with self._writer.flow() as flow:
            docs = flow.run("delete", [Document(id, IMAGE) for id in named], parameters)
        _raise_failed(docs)
        gone = {doc.id for doc in docs if doc.outcome == "deleted"}
        left = set(self.workspace.known_ids(described, TEXT))
        others = {id for id in described if id not in left} - gone
        return [id for id in named if id in gone] + sorted(others)

    def add_root(self, folder: str) -> None:
        """Makes the absolute path ``folder`` a root that takes in those inside of it. Raises as ``index``."""
        root = Document("root", IMAGE, record=Record("root", IMAGE, local=LocalFile(folder, "")))
        with self._writer.flow() as flow:
            _raise_failed(flow.run("update", [root]))

    def forget(self, files: Sequence[LocalFile]) -> None:
        """Forgets files that are gone; photos that lie nowhere else go to the trash. Raises as ``index``."""
        for start in range(0, len(files), _FILES_AT_ONCE):
            docs = [
                Document(str(number), IMAGE, record=Record(str(number), IMAGE, local=file))
                for number, file in enumerate(files[start : start + _FILES_AT_ONCE])
            ]
            with self._writer.flow() as flow:
                _raise_failed(flow.run("forget", docs))

    def withdraw_captions(self, origin: str, ids: Sequence[str]) -> None:
        """Says that the file ``origin`` doesn't give these captions any more; those of no other file go.

        Raises as ``index``.
        """
        for start in range(0, len(ids), _FILES_AT_ONCE):
            docs = [
                Document(id, TEXT, record=Record(id, TEXT, origin=origin))
                for id in ids[start : start + _FILES_AT_ONCE]
            ]
            with self._writer.flow() as flow:
                _raise_failed(flow.run("forget", docs))

    def forget_superseded(self, photos: Mapping[str, str | None]) -> None:
        """Takes those of ``photos`` to the trash that lie in no file any more. Raises as ``index``.

        The values are the photos that took their places, where that is known; they inherit what people said.
        """
        waiting = list(photos.items())
        for start in range(0, len(waiting), _FILES_AT_ONCE):
            docs = [
                Document(photo, IMAGE, record=Record(photo, IMAGE, photo_id=heir))
                for photo, heir in waiting[start : start + _FILES_AT_ONCE]
            ]
            with self._writer.flow() as flow:
                _raise_failed(flow.run("forget", docs))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keeps the index Flow open, and with it the writer's lock, as long as the context lasts."""
        with self._writer.flow():
            yield

    def run_query(
        self, operation: Operation, docs: Sequence[Document], parameters: Mapping[str, Any] | None = None
    ) -> list[Document]:
        """Documents through the query Flow as they are, for callers who bring vectors or want ranks."""
        return self._query_flow().run(operation, docs, parameters)

    def query_batches(
        self,
        operation: Operation,
        batches: Iterator[Sequence[Document]],
        parameters: Mapping[str, Any] | None = None,
    ) -> Iterator[list[Document]]:
        """Many requests through the query Flow, several at once, as ``run_batches`` does it."""
        return run_batches(self._query_flow(), operation, batches, parameters)

    def shard_states(self) -> list[dict[str, Any]]:
        """How each shard answers searches: ``modality``, ``shard`` and the keys of ``VectorIndex.status``.

        Raises StoreError where the index cannot be read.
        """
        probes = [Document(str(modality), seeks=modality) for modality in (IMAGE, TEXT)]
        states: list[dict[str, Any]] = []
        for doc in self._query_flow().run("status", probes):
            if doc.error is not None:
                raise ServiceError(doc.error)
            states += doc.shard_states or ()
        return states

    def close(self) -> None:
        """Ends both Flows, after what is under way, and lets go of all files; a later use reopens them."""
        self._writer.close()
        with self._opening:
            if self._query is not None:
                self._query.close()
            self._query = self._searcher = None
        self._suggestions.close()
        self._layouts.close()
        self.workspace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _search(self) -> Searcher:
        searcher = self._searcher
        if searcher is None:
            with self._opening:
                if self._searcher is None:
                    settings = self.settings
                    self._searcher = Searcher(
                        self._query_flow,
                        self.workspace,
                        model=str(settings.model),
                        model_cache=settings.model_cache,
                        reranker=None if settings.rerank is None else public_name(settings.rerank),
                    )
                searcher = self._searcher
        return searcher

    def _query_flow(self) -> Flow:
        flow = self._query
        if flow is None:
            with self._opening:
                if self._query is None:
                    self._query = self._opened_query_flow(self.settings)
                flow = self._query
        return flow

    def _opened_query_flow(self, settings: Settings) -> Flow:
        flow = self._open_flow("query", settings)
        if settings.rerank is not None:
            # What a reranker takes to be loaded is no part of the seconds that it has.
            try:
                flow.prepare()
            except BaseException:
                flow.close()
                raise
        return flow

    def _open_writer(self) -> Flow:
        return self._open_flow("index", resolved_for_writing(self._given, self.workspace))

    def _captions_of(self, photo_ids: Sequence[str]) -> list[str]:
        photos = self.workspace.known_ids(photo_ids, IMAGE)
        return [caption for photo_id in photos for caption in self.workspace.caption_ids(photo_id)]


def _raise_failed(docs: Sequence[Document]) -> None:
    failed = next((doc.error for doc in docs if doc.error is not None), None)
    if failed is not None:
        raise StoreUnwritable(failed)
