"""Searches of composed queries: terms through the encoders, the sum of them through the indexes.

A query is answered in two walks through the query Flow. ``/encode`` turns sentences and uploaded photos into
vectors (documents of the index have theirs already); ``/search`` takes the composed vectors to the indexes.
The Flow's branches are named by what the QUERY is, and each ends in the index of the other modality; so a
vector that is to find photos travels as a text, and one that is to find captions as an image.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.api_shapes import file_name
from crossmodal.documents import MatchDocument, MediaDocument, tags_from_wire
from crossmodal.errors import DataError, QueryError, RequestError
from crossmodal.query.calibration import Calibration, calibration_of
from crossmodal.query.composition import ComposedQuery, EncodedTerm, compose
from crossmodal.query.duplicates import group
from crossmodal.query.fusion import fuse
from crossmodal.query.request import (
    HYBRID_DEPTH,
    MAX_RESULTS,
    FoundMatch,
    Parts,
    SearchOutcome,
    SearchRequest,
    Target,
    Timing,
)
from crossmodal.query.terms import Term
from crossmodal.query.words import WordHit, WordIndex
from crossmodal.records import IMAGE, TEXT, Modality
from crossmodal.search.scores import inner_products
from crossmodal.workspace import Workspace

__all__ = ["SearchService"]

Send = Callable[[list[MediaDocument], str, dict[str, Any]], Awaitable[dict[str, MediaDocument]]]

# Sentences whose vectors are remembered: at 512 dimensions 2 MB.
_REMEMBERED = 1024

# Which branch of the query Flow ends in whose index.
_BRANCH_TO: dict[Modality, Modality] = {IMAGE: TEXT, TEXT: IMAGE}

_TARGETS: dict[Target, tuple[Modality, ...]] = {IMAGE: (IMAGE,), TEXT: (TEXT,), "both": (IMAGE, TEXT)}

# Grouping needs more results than it will show; so many times what is asked for is fetched, then all.
_GROUPING_FACTOR = 4

# The same depth for every small top_k: a result's duplicates then don't depend on how many are shown.
_GROUPING_LEAST = 200


class SearchService:
    """Answers search requests through ``send`` (documents, endpoint, parameters), which asks the query Flow.

    ``model`` is the name of the model that built the index. Safe for concurrent requests of one event loop.
    """

    def __init__(self, send: Send, workspace: Workspace, *, model: str, model_cache: Path | None) -> None:
        self._send = send
        self._workspace = workspace
        self._model = model
        self._model_cache = model_cache
        self._remembered: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._calibration: Calibration | None = None
        self._preparing = asyncio.Lock()
        self._words = WordIndex(workspace.text_stores)
        self._cache_counts = (0, 0)

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
        counts, self._cache_counts = self._cache_counts, (0, 0)
        return counts

    async def search(self, requests: Sequence[SearchRequest]) -> tuple[list[SearchOutcome], Timing]:
        """One outcome a request, in order; an error of one request leaves the others alone."""
        timing = Timing()
        with _timed(timing, "total_ms"):
            calibration = await self.calibration()
            running = [_Running(request, SearchOutcome(request), _depth(request)) for request in requests]
            with _timed(timing, "encode_ms"):
                await self._encode(running)
            with _timed(timing, "search_ms"):
                for one in running:
                    if one.outcome.error is None:
                        _attempt(one, lambda one: _compose(one, calibration))
                await self._find(running)
            with _timed(timing, "words_ms"):
                await self._find_words(running)
            with _timed(timing, "fetch_ms"):
                for one in running:
                    if one.outcome.error is None:
                        await self._finish(one)
                await self._describe([match for one in running for match in one.outcome.matches], running)
        return [one.outcome for one in running], timing

    async def _encode(self, running: Sequence[_Running]) -> None:
        """Gives every term its vector: from the index, from memory, or from the encoders."""
        named = list(
            dict.fromkeys(term.id for one in running for term in one.request.terms if term.id is not None)
        )
        stored = await asyncio.to_thread(self._stored, named) if named else {}
        terms = {
            key: term for one in running for term in one.request.terms if (key := _key(term)) is not None
        }
        encoded: dict[str, NDArray[np.float32] | str] = {
            key: vector for key in terms if (vector := self._recall(key)) is not None
        }
        wanted = [
            MediaDocument(
                id=key, modality=TEXT if term.text is not None else IMAGE, text=term.text, blob=term.image
            )
            for key, term in terms.items()
            if key not in encoded
        ]
        for key, doc in (await self._send(wanted, "/encode", {}) if wanted else {}).items():
            encoded[key] = doc.error or np.asarray(doc.embedding, np.float32)
            if doc.error is None and terms[key].text is not None:
                self._remember(key, np.asarray(doc.embedding, np.float32))
        for one in running:
            _attempt(one, lambda one: _take_vectors(one, stored, encoded))

    def _recall(self, key: str) -> NDArray[np.float32] | None:
        vector = self._remembered.get(key)
        if vector is not None:
            hits, misses = self._cache_counts
            self._cache_counts = (hits + 1, misses)
            self._remembered.move_to_end(key)
        return vector

    def _remember(self, key: str, vector: NDArray[np.float32]) -> None:
        hits, misses = self._cache_counts
        self._cache_counts = (hits, misses + 1)
        self._remembered[key] = vector
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)

    def _stored(self, ids: Sequence[str]) -> dict[str, tuple[Modality, NDArray[np.float32]]]:
        found: dict[str, tuple[Modality, NDArray[np.float32]]] = {}
        for modality in (TEXT, IMAGE):
            # A photo goes before a caption of the same id.
            for id, vector in self._workspace.vectors(ids, modality).items():
                found[id] = (modality, vector)
        return found

    async def _find(self, running: Sequence[_Running]) -> None:
        """Takes each composed vector to its index; requests that ask for the same number share a walk."""
        walks: dict[tuple[int, str], list[tuple[_Running, Modality]]] = {}
        for one in running:
            if one.outcome.error is not None:
                continue
            rule = json.dumps(one.request.filter.to_json()) if one.request.filter is not None else ""
            for target in one.composed:
                walks.setdefault((one.depth, rule), []).append((one, target))
        await asyncio.gather(*(self._walk(depth, rule, group) for (depth, rule), group in walks.items()))

    async def _walk(self, depth: int, rule: str, queries: Sequence[tuple[_Running, Modality]]) -> None:
        parameters: dict[str, Any] = {"top_k": depth}
        if rule:
            parameters["filter"] = json.loads(rule)
        docs = [
            MediaDocument(id=str(number), modality=_BRANCH_TO[target], embedding=one.composed[target].vector)
            for number, (one, target) in enumerate(queries)
        ]
        answered = await self._send(docs, "/search", parameters)
        for number, (one, target) in enumerate(queries):
            doc = answered[str(number)]
            if doc.error is not None:
                one.outcome.error = one.outcome.error or QueryError(doc.error)
            one.found[target] = list(doc.matches or ())

    async def _find_words(self, running: Sequence[_Running]) -> None:
        hybrid = [one for one in running if one.request.hybrid and one.outcome.error is None]
        if hybrid:
            await asyncio.to_thread(self._search_words, hybrid)

    def _search_words(self, hybrid: Sequence[_Running]) -> None:
        for one in hybrid:
            sentence = " ".join(term.text for term in one.request.terms if term.text and term.weight > 0)
            # A photo has several captions, and a filter may refuse most of what the words find.
            hits = self._words.search(sentence, MAX_RESULTS)
            for target in one.composed:
                self._take_word_hits(one, target, _by_document(hits, target))

    def _take_word_hits(self, one: _Running, target: Modality, bm25: dict[str, float]) -> None:
        """Keeps the best that words found (``bm25`` by id, best first), with cosines like other matches."""
        records = self._workspace.records(bm25, target)
        rule = one.request.filter
        kept = [
            id
            for id, record in records.items()
            if id not in one.request.exclude and (rule is None or rule.matches(target, record.tags))
        ][:HYBRID_DEPTH]
        one.words[target] = [(id, bm25[id]) for id in kept]
        known = {str(match.id) for match in one.found[target]}
        vectors = self._workspace.vectors([id for id in kept if id not in known], target)
        for id, vector in vectors.items():
            record = records[id]
            (cosine,) = inner_products(one.composed[target].vector, vector[None])
            one.found[target].append(
                MatchDocument(
                    id=id,
                    modality=target,
                    text=record.text,
                    uri=record.uri,
                    mime_type=record.mime_type,
                    photo_id=record.photo_id,
                    tags=dict(record.tags),
                    score=float(cosine),
                )
            )

    async def _finish(self, one: _Running) -> None:
        """Ranks what was found, groups it, and cuts out what is asked for."""
        request = one.request
        ranked = _ranked(one)
        if request.min_score is not None:
            if any(match.score is None for match in ranked):
                one.outcome.error = QueryError(
                    "'min_score' needs a calibration, and the model of this index has none: leave it out, or "
                    "index captions together with their photos, from which one can be estimated.",
                    pointer="/min_score",
                )
                return
            ranked = [match for match in ranked if (match.score or 0.0) >= request.min_score]
        last = request.offset + request.top_k
        if request.group_duplicates:
            ranked = await asyncio.to_thread(self._grouped, ranked)
            deepest = MAX_RESULTS + len(request.exclude)
            all_found = all(len(found) < one.depth for found in one.found.values())
            if len(ranked) <= last and one.depth < deepest and not all_found and not request.hybrid:
                # Most of what came were duplicates; all the depth there is may hold enough others.
                one.depth = deepest
                await self._find([one])
                await self._finish(one)
                return
        one.outcome.matches = ranked[request.offset : last]
        one.outcome.has_more = len(ranked) > last and last < (HYBRID_DEPTH if request.hybrid else MAX_RESULTS)
        for rank, match in enumerate(one.outcome.matches, request.offset + 1):
            match.rank = rank

    def _grouped(self, ranked: list[FoundMatch]) -> list[FoundMatch]:
        vectors = {
            (modality, id): vector
            for modality in (IMAGE, TEXT)
            for id, vector in self._workspace.vectors(
                [match.id for match in ranked if match.modality == modality], modality
            ).items()
        }
        ranked = [match for match in ranked if (match.modality, match.id) in vectors]
        if not ranked:
            return []
        # By position: a photo and a caption may have one id.
        groups = group(
            [str(position) for position in range(len(ranked))],
            np.stack([vectors[match.modality, match.id] for match in ranked]),
            [match.modality for match in ranked],
            [match.text for match in ranked],
        )
        kept = []
        for found in groups:
            match = ranked[int(found.id)]
            match.duplicates = tuple(ranked[int(position)].id for position in found.duplicates)
            kept.append(match)
        return kept

    async def _describe(self, matches: Sequence[FoundMatch], running: Sequence[_Running]) -> None:
        """Adds to the matches that are sent what only the other store knows: captions, and whose photo."""
        wanted = set().union(*(one.request.fields for one in running)) if running else set()
        photos = [match for match in matches if match.modality == IMAGE]
        captions = [match for match in matches if match.modality == TEXT and match.photo_id]
        if photos and "captions" in wanted:
            of_photo = await asyncio.to_thread(
                self._workspace.captions_of, list(dict.fromkeys(match.id for match in photos))
            )
            for match in photos:
                match.captions = tuple(
                    (caption.id, caption.text or "") for caption in of_photo.get(match.id, ())
                )
        if captions and "photo" in wanted:
            ids = list(dict.fromkeys(match.photo_id for match in captions if match.photo_id))
            known = await asyncio.to_thread(self._workspace.records, ids, IMAGE)
            for match in captions:
                photo = known.get(match.photo_id or "")
                match.photo_id = None if photo is None else photo.id
                match.file = None if photo is None else file_name(photo.uri, photo.tags)


@dataclass
class _Running:
    """A request on its way: what the steps before have found out."""

    request: SearchRequest
    outcome: SearchOutcome
    depth: int
    terms: list[EncodedTerm] = field(default_factory=list)
    composed: dict[Modality, ComposedQuery] = field(default_factory=dict)
    found: dict[Modality, list[MatchDocument]] = field(default_factory=dict)
    words: dict[Modality, list[tuple[str, float]]] = field(default_factory=dict)


def _attempt(one: _Running, work: Callable[[_Running], None]) -> None:
    """Does ``work``; an error is this request's own."""
    try:
        work(one)
    except (DataError, RequestError) as error:
        one.outcome.error = error


def _take_vectors(
    one: _Running,
    stored: dict[str, tuple[Modality, NDArray[np.float32]]],
    encoded: dict[str, NDArray[np.float32] | str],
) -> None:
    for term in one.request.terms:
        if term.id is not None:
            if term.id not in stored:
                raise RequestError(
                    f"There is no photo or caption with the id {term.id[:80]!r} in the index.", status=404
                )
            modality, vector = stored[term.id]
        else:
            made = encoded[_key(term) or ""]
            if isinstance(made, str):
                raise QueryError(made)
            modality, vector = TEXT if term.text is not None else IMAGE, made
        one.terms.append(EncodedTerm(vector=vector, weight=term.weight, modality=modality, name=_name(term)))
    one.outcome.kinds = tuple(term.modality for term in one.terms)
    one.outcome.modality = one.request.modality or _default_target(one)


def _default_target(one: _Running) -> Modality:
    kinds = {term.modality for term in one.terms if term.weight > 0}
    if one.request.similar:
        return IMAGE if IMAGE in kinds else TEXT
    return TEXT if kinds == {IMAGE} else IMAGE


def _compose(one: _Running, calibration: Calibration | None) -> None:
    for modality in _TARGETS[one.outcome.modality or "both"]:
        one.composed[modality] = compose(one.terms, modality, calibration)


def _depth(request: SearchRequest) -> int:
    """How many matches the indexes are asked for: enough that some are left, and one more to tell so."""
    if request.hybrid:
        return HYBRID_DEPTH
    wanted = request.offset + request.top_k + 1
    if request.group_duplicates:
        wanted = max(wanted * _GROUPING_FACTOR, _GROUPING_LEAST)
    return min(wanted + len(request.exclude), MAX_RESULTS + len(request.exclude))


def _ranked(one: _Running) -> list[FoundMatch]:
    """All that was found, best first: fused, by score where both modalities are searched, or by cosine."""
    matches: list[FoundMatch] = []
    for target, docs in one.found.items():
        docs = [doc for doc in docs if str(doc.id) not in one.request.exclude]
        scores = one.composed[target].score(np.array([doc.score or 0.0 for doc in docs], np.float64))
        found = [
            FoundMatch(
                id=str(doc.id),
                modality=target,
                cosine=float(doc.score or 0.0),
                score=None if scores is None else float(scores[position]),
                text=doc.text,
                photo_id=str(doc.id) if target == IMAGE else doc.photo_id,
                file=file_name(doc.uri, doc.tags),
                tags=tags_from_wire(doc.tags),
            )
            for position, doc in enumerate(docs)
        ]
        if one.request.hybrid:
            _fuse(found, one.words.get(target, []))
        matches += found
    if one.request.hybrid:
        matches.sort(key=lambda match: (-(match.parts.fused if match.parts else 0.0), match.id))
    elif len(one.found) > 1 and all(match.score is not None for match in matches):
        matches.sort(key=lambda match: (-(match.score or 0.0), -match.cosine, match.id))
    else:
        matches.sort(key=lambda match: (-match.cosine, match.id))
    return matches


def _by_document(hits: Sequence[WordHit], target: Modality) -> dict[str, float]:
    """The BM25 score of each caption, or of each photo by its best caption, best first."""
    found: dict[str, float] = {}
    for hit in hits:
        id = hit.id if target == TEXT else hit.photo_id
        if id:
            found.setdefault(id, hit.bm25)
    return found


def _fuse(found: Sequence[FoundMatch], words: Sequence[tuple[str, float]]) -> None:
    bm25 = dict(words)
    by_vector = sorted(found, key=lambda match: (-match.cosine, match.id))[:HYBRID_DEPTH]
    by_id = {match.id: match for match in found}
    for fused in fuse([match.id for match in by_vector], [id for id, _ in words if id in by_id]):
        by_id[fused.id].parts = Parts(fused.vector_rank, fused.word_rank, bm25.get(fused.id), fused.score)


def _name(term: Term) -> str:
    """How a message calls a term."""
    if term.text is not None:
        return repr(term.text[:60])
    return "the photo" if term.id is None else f"id:{term.id[:60]}"


def _key(term: Term) -> str | None:
    """What tells the vector of one term from that of another; None for a document of the index."""
    if term.text is not None:
        return f"text:{term.text}"
    if term.image is not None:
        return f"image:{hashlib.sha256(term.image).hexdigest()}"
    return None


@contextmanager
def _timed(timing: Timing, part: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        setattr(timing, part, getattr(timing, part) + (time.perf_counter() - started) * 1000)
