"""Searches of composed queries: terms through the encoders, the sum of them through the indexes.

A query is answered in two walks through the query Flow. ``/encode`` turns sentences and uploaded photos into
vectors (documents of the index have theirs already); ``/search`` takes the composed vectors to the indexes.
One sentence that is to find photos needs no composing, and is encoded and searched for in one walk.
The Flow's branches are named by what the QUERY is, and each ends in the index of the other modality; so a
vector that is to find photos travels as a text, and one that is to find captions as an image.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crossmodal.api_shapes import file_name
from crossmodal.documents import ALONE, MediaDocument
from crossmodal.errors import QueryError
from crossmodal.query.calibration import Calibration, calibration_of
from crossmodal.query.composition import compose
from crossmodal.query.request import (
    HYBRID_DEPTH,
    MAX_RESULTS,
    FoundMatch,
    SearchOutcome,
    SearchRequest,
    Target,
    Timing,
)
from crossmodal.records import IMAGE, TEXT, Modality, Record
from crossmodal.workspace import Workspace
from flows.searching.encoding import Send, TermEncoder
from flows.searching.ranking import grouped, ranked
from flows.searching.running import Running, attempt, deepest, first_depth
from flows.searching.words import WordSearch
from flows.sharing import Sharing

__all__ = ["SearchService"]

# Photos whose captions are looked up together for several requests.
_PHOTOS_AT_ONCE = 1024

# Which branch of the query Flow ends in whose index.
_BRANCH_TO: dict[Modality, Modality] = {IMAGE: TEXT, TEXT: IMAGE}

_TARGETS: dict[Target, tuple[Modality, ...]] = {IMAGE: (IMAGE,), TEXT: (TEXT,), "both": (IMAGE, TEXT)}


class SearchService:
    """Answers search requests through ``send`` (documents, endpoint, parameters), which asks the query Flow.

    ``model`` is the name of the model that built the index. Safe for concurrent requests of one event loop.
    """

    def __init__(self, send: Send, workspace: Workspace, *, model: str, model_cache: Path | None) -> None:
        self._send = send
        self._workspace = workspace
        self._model = model
        self._model_cache = model_cache
        self._encoder = TermEncoder(send, workspace)
        self._words = WordSearch(workspace)
        self._captions: Sharing[None, str, list[Record]] = Sharing(self._captions_of, most=_PHOTOS_AT_ONCE)
        self._calibration: Calibration | None = None
        self._preparing = asyncio.Lock()

    async def calibration(self) -> Calibration | None:
        """How cosines become scores with this model; None where nothing is known of it."""
        async with self._preparing:
            # None where the index is too small to estimate it from: it may have grown since.
            if self._calibration is None:
                self._calibration = await asyncio.to_thread(
                    calibration_of, self._model, self._model_cache, self._workspace
                )
        return self._calibration

    def take_cache_counts(self) -> tuple[int, int]:
        """How many sentences' vectors were remembered and how many had to be made, since the last call."""
        return self._encoder.take_counts()

    async def find_photos(self, sentences: Mapping[str, str], top_k: int) -> dict[str, MediaDocument]:
        """The query Flow's answers to ``sentences`` by id: ``matches``, photos with cosines, or ``error``."""
        docs = [self._encoder.document_of(id, sentence) for id, sentence in sentences.items()]
        answered = await self._send(docs, "/search", {"top_k": top_k, ALONE: True}) if docs else {}
        for doc in docs:
            answer = answered[str(doc.id)]
            if doc.embedding is None and answer.error is None:
                self._encoder.remember_answer(sentences[str(doc.id)], answer)
        return answered

    async def search(self, requests: Sequence[SearchRequest]) -> tuple[list[SearchOutcome], Timing]:
        """One outcome a request, in order; an error of one request leaves the others alone."""
        timing = Timing()
        with _timed(timing, "total_ms"):
            calibration = await self.calibration()
            running = [
                Running(request, SearchOutcome(request), first_depth(request), calibration)
                for request in requests
            ]
            encoding = [one for one in running if not self._encoder.asks_only_a_new_sentence(one.request)]
            with _timed(timing, "encode_ms"):
                await self._encoder.encode(encoding)
            with _timed(timing, "search_ms"):
                for one in encoding:
                    if one.outcome.error is None:
                        attempt(one, _compose)
                await self._find(running)
            encoded_ms = max((one.encoded_ms for one in running), default=0.0)
            timing.encode_ms += encoded_ms
            timing.search_ms -= encoded_ms
            with _timed(timing, "words_ms"):
                await self._find_words(running)
            with _timed(timing, "fetch_ms"):
                for one in running:
                    if one.outcome.error is None:
                        await self._finish(one)
                await self._describe([match for one in running for match in one.outcome.matches], running)
        return [one.outcome for one in running], timing

    async def _find(self, running: Sequence[Running]) -> None:
        """Takes each vector or sentence to its index; requests that ask for the same number share a walk."""
        walks: dict[tuple[int, str, bool], list[tuple[Running, Modality]]] = {}
        for one in running:
            if one.outcome.error is not None:
                continue
            rule = json.dumps(one.request.filter.to_json()) if one.request.filter is not None else ""
            for target in one.composed or (IMAGE,):
                walks.setdefault((one.depth, rule, bool(one.composed)), []).append((one, target))
        await asyncio.gather(*(self._walk(depth, rule, group) for (depth, rule, _), group in walks.items()))

    async def _walk(self, depth: int, rule: str, queries: Sequence[tuple[Running, Modality]]) -> None:
        parameters: dict[str, Any] = {"top_k": depth}
        if rule:
            parameters["filter"] = json.loads(rule)
        if not queries[0][0].composed:
            parameters[ALONE] = True
        docs = [_query_of(str(number), one, target) for number, (one, target) in enumerate(queries)]
        answered = await self._send(docs, "/search", parameters)
        for number, (one, target) in enumerate(queries):
            doc = answered[str(number)]
            one.found[target] = list(doc.matches or ())
            if doc.error is not None:
                one.outcome.error = one.outcome.error or QueryError(doc.error)
            elif not one.composed:
                one.encoded_ms = doc.encoded_ms or 0.0
                self._encoder.take_answer(one, doc)
                attempt(one, _compose)

    async def _captions_of(self, _: None, photo_ids: list[str]) -> list[list[Record]]:
        found = await asyncio.to_thread(self._workspace.captions_of, list(dict.fromkeys(photo_ids)))
        return [found[photo_id] for photo_id in photo_ids]

    async def _find_words(self, running: Sequence[Running]) -> None:
        hybrid = [one for one in running if one.request.hybrid and one.outcome.error is None]
        if hybrid:
            await asyncio.to_thread(self._words.search, hybrid)

    async def _finish(self, one: Running) -> None:
        """Ranks what was found, groups it, and cuts out what is asked for."""
        request = one.request
        matches = ranked(one)
        if request.min_score is not None:
            if any(match.score is None for match in matches):
                one.outcome.error = QueryError(
                    "'min_score' needs a calibration, and the model of this index has none: leave it out, or "
                    "index captions together with their photos, from which one can be estimated.",
                    pointer="/min_score",
                )
                return
            matches = [match for match in matches if (match.score or 0.0) >= request.min_score]
        last = request.offset + request.top_k
        if request.group_duplicates:
            matches = await asyncio.to_thread(grouped, matches, self._workspace)
            all_found = all(len(found) < one.depth for found in one.found.values())
            if len(matches) <= last and one.depth < deepest(request) and not all_found and not request.hybrid:
                # Most of what came were duplicates; all the depth there is may hold enough others.
                one.depth = deepest(request)
                await self._find([one])
                await self._finish(one)
                return
        one.outcome.matches = matches[request.offset : last]
        one.outcome.has_more = len(matches) > last and last < (
            HYBRID_DEPTH if request.hybrid else MAX_RESULTS
        )
        for rank, match in enumerate(one.outcome.matches, request.offset + 1):
            match.rank = rank

    async def _describe(self, matches: Sequence[FoundMatch], running: Sequence[Running]) -> None:
        """Adds to the matches that are sent what only the other store knows: captions, and whose photo."""
        wanted = set().union(*(one.request.fields for one in running)) if running else set()
        photos = [match for match in matches if match.modality == IMAGE]
        captions = [match for match in matches if match.modality == TEXT and match.photo_id]
        if photos and "captions" in wanted:
            captions_of_each = await self._captions(None, [match.id for match in photos])
            for match, described in zip(photos, captions_of_each, strict=True):
                match.captions = tuple((caption.id, caption.text or "") for caption in described)
        if captions and "photo" in wanted:
            ids = list(dict.fromkeys(match.photo_id for match in captions if match.photo_id))
            known = await asyncio.to_thread(self._workspace.records, ids, IMAGE)
            for match in captions:
                photo = known.get(match.photo_id or "")
                match.photo_id = None if photo is None else photo.id
                match.file = None if photo is None else file_name(photo.uri, photo.tags)


def _compose(one: Running) -> None:
    for modality in _TARGETS[one.outcome.modality or "both"]:
        one.composed[modality] = compose(one.terms, modality, one.calibration)


def _query_of(id: str, one: Running, target: Modality) -> MediaDocument:
    if not one.composed:
        return MediaDocument(id=id, modality=TEXT, text=one.request.terms[0].text)
    return MediaDocument(id=id, modality=_BRANCH_TO[target], embedding=one.composed[target].vector)


@contextmanager
def _timed(timing: Timing, part: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        setattr(timing, part, getattr(timing, part) + (time.perf_counter() - started) * 1000)
