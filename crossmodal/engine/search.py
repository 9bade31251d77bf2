"""Answers search requests: terms through the encoders, the sum of them through the indexes.

A sentence that is to find photos goes through the query Flow once. For anything else the Flow's encoders
make the vectors of sentences and photos first (documents of the index have theirs already, sentences asked
lately are remembered), and the composed vector goes through the Flow to the index that it seeks. What comes
after the Flow happens here: words and fusion, calibrated scores, grouping, and the captions of what is shown.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crossmodal.documents import Document
from crossmodal.engine.describing import describe
from crossmodal.engine.duplicates import Pictures
from crossmodal.engine.encoding import TermEncoder
from crossmodal.engine.explaining import explain
from crossmodal.engine.ranking import (
    SearchState,
    WordSearch,
    deepest,
    first_depth,
    grouped,
    ranked,
    sort_by_tag,
)
from crossmodal.engine.recognising import IndexKnowledge, recognised
from crossmodal.engine.reranking import refusal, reranked
from crossmodal.errors import DataError, QueryError, RequestError
from crossmodal.filters import Filter, Range, conditions
from crossmodal.flow.runner import Flow
from crossmodal.index.embedded.tags import Kind
from crossmodal.match import FITTING_SCORE, SCORE_DIGITS, Match
from crossmodal.query.calibration import Calibration, calibration_of
from crossmodal.query.composition import compose
from crossmodal.query.known_words import FEW_WORDS, KnownWords, known_words_of
from crossmodal.query.request import (
    HYBRID_DEPTH,
    MAX_RESULTS,
    SearchOutcome,
    SearchRequest,
    Target,
    Timing,
)
from crossmodal.query.snippets import snippet_of
from crossmodal.records import IMAGE, MODALITIES, TEXT, Modality
from crossmodal.workspace import Workspace

__all__ = ["Searcher"]

_TARGETS: dict[Target, tuple[Modality, ...]] = {IMAGE: (IMAGE,), TEXT: (TEXT,), "both": (IMAGE, TEXT)}


class Searcher:
    """Answers search requests over ``workspace`` through the query Flow that ``flow`` gives.

    ``model`` is the name of the model that built the index, ``reranker`` that of what the Flow reranks with,
    None where it has nothing. Safe to use from several threads.
    """

    def __init__(
        self,
        flow: Callable[[], Flow],
        workspace: Workspace,
        *,
        model: str,
        model_cache: Path | None,
        reranker: str | None = None,
    ) -> None:
        self._flow = flow
        self._workspace = workspace
        self._model = model
        self._model_cache = model_cache
        self._reranker = reranker
        self._encoder = TermEncoder(flow, workspace)
        self._words = WordSearch(workspace)
        self._knowledge = IndexKnowledge(workspace)
        self._pictures = Pictures(workspace)
        self._calibration: Calibration | None = None
        self._calibrating = threading.Lock()
        self._known_words: KnownWords | None = None
        self._read_words = False

    def calibration(self) -> Calibration | None:
        """How cosines become scores with this model; None where nothing is known of it."""
        if self._calibration is None:
            with self._calibrating:
                # None where the index is too small to estimate it from: it may have grown since.
                if self._calibration is None:
                    self._calibration = calibration_of(self._model, self._model_cache, self._workspace)
        return self._calibration

    def take_cache_counts(self) -> tuple[int, int]:
        """How many sentences' vectors were remembered and how many had to be made, since the last call."""
        return self._encoder.take_counts()

    def search(self, requests: Sequence[SearchRequest]) -> tuple[list[SearchOutcome], Timing]:
        """One outcome a request, in order; an error of one request leaves the others alone.

        Sentences are encoded together where their vectors don't depend on it, to the last bit.
        """
        timing = Timing()
        with _timed(timing, "total_ms"):
            calibration = self.calibration()
            states = [self._state(request, calibration) for request in requests]
            composed = [state for state in states if not self._encoder.is_plain(state.request)]
            if composed:
                with _timed(timing, "encode_ms"):
                    self._encode(composed)
            with _timed(timing, "search_ms"):
                encoded_ms = self._find(states)
            timing.encode_ms += encoded_ms
            timing.search_ms -= encoded_ms
            hybrid = [state for state in states if state.request.hybrid and not state.failed]
            if hybrid:
                with _timed(timing, "words_ms"):
                    self._words.search(hybrid)
            with _timed(timing, "fetch_ms"):
                for state in states:
                    if not state.failed:
                        self._finish(state)
                describe(states, self._workspace)
                for state in states:
                    if state.request.explain and not state.failed:
                        explain(state, self._workspace)
        for state in states:
            if state.outcome.reranked is not None:
                timing.rerank_ms += state.outcome.reranked.milliseconds
        timing.fetch_ms -= timing.rerank_ms
        return [state.outcome for state in states], timing

    def _state(self, request: SearchRequest, calibration: Calibration | None) -> SearchState:
        meant, found = recognised(request, self._knowledge)
        outcome = SearchOutcome(request, recognised=found)
        if request.rerank is not None:
            outcome.error = refusal(request.rerank, self._reranker)
        return SearchState(meant, outcome, first_depth(meant), calibration)

    def _encode(self, states: Sequence[SearchState]) -> None:
        self._encoder.encode(states)
        for state in states:
            if not state.failed:
                _attempt(state, _compose)

    def _find(self, states: Sequence[SearchState]) -> float:
        """Takes each vector or sentence to its index; returns the milliseconds that went into encoding.

        Requests that ask for the same number under the same filter go together.
        """
        together: dict[tuple[int, str], list[tuple[SearchState, Modality]]] = {}
        for state in states:
            if state.failed:
                continue
            filter = state.request.filter
            key = (state.depth, "" if filter is None else json.dumps(filter.to_json()))
            for target in state.composed or (IMAGE,):
                together.setdefault(key, []).append((state, target))
        return sum(self._find_together(depth, group) for (depth, _), group in together.items())

    def _find_together(self, depth: int, queries: Sequence[tuple[SearchState, Modality]]) -> float:
        parameters: dict[str, Any] = {"top_k": depth}
        if (filter := queries[0][0].request.filter) is not None:
            parameters["filter"] = filter
        docs = [_query_of(str(number), state, target) for number, (state, target) in enumerate(queries)]
        answered = {doc.id: doc for doc in self._flow().run("search", docs, parameters)}
        encoded_ms = 0.0
        for number, (state, target) in enumerate(queries):
            doc = answered[str(number)]
            state.found[target] = doc.matches or []
            encoded_ms = max(encoded_ms, doc.encoded_ms or 0.0)
            state.outcome.partial = tuple(sorted({*state.outcome.partial, *(doc.lost_shards or ())}))
            if doc.error is not None:
                state.outcome.error = state.outcome.error or QueryError(doc.error)
            elif not state.composed:
                self._encoder.take_answer(state, doc)
                _attempt(state, _compose)
        return encoded_ms

    def _finish(self, state: SearchState) -> None:
        """Ranks what was found, groups it, and cuts out what is asked for."""
        request, outcome = state.request, state.outcome
        matches = ranked(state)
        if request.rerank is not None and self._reranker is not None:
            matches = reranked(state, matches, self._flow, self._workspace, self._reranker)
        outcome.doubt = self._doubt(state, matches)
        scored = bool(matches) and matches[0].score is not None
        outcome.fits = False if outcome.doubt is not None else True if scored else None
        if request.min_score is not None:
            if any(match.score is None for match in matches):
                outcome.error = QueryError(
                    "'min_score' needs a calibration, and the model of this index has none: leave it out, or "
                    "index captions together with their photos, from which one can be estimated.",
                    pointer="/min_score",
                )
                return
            least = round(request.min_score, SCORE_DIGITS)
            matches = [match for match in matches if round(match.score or 0.0, SCORE_DIGITS) >= least]
        last = request.offset + request.top_k
        if request.group_duplicates:
            matches = grouped(matches, self._workspace, self._pictures)
            all_found = all(len(found) < state.depth for found in state.found.values())
            if (
                len(matches) <= last
                and state.depth < deepest(request)
                and not all_found
                and not request.hybrid
            ):
                # Most of what came were duplicates; all the depth there is may hold enough others.
                state.depth = deepest(request)
                self._find([state])
                if not state.failed:
                    self._finish(state)
                return
        outcome.matches = matches[request.offset : last]
        outcome.has_more = len(matches) > last and last < (HYBRID_DEPTH if request.hybrid else MAX_RESULTS)
        for rank, match in enumerate(outcome.matches, request.offset + 1):
            match.rank = rank
            if match.modality == IMAGE and (text := state.texts.get(match.id)) is not None:
                match.text_in_photo = snippet_of(text, state.sentence)
        if not outcome.matches and request.filter is not None:
            outcome.doubt = self._other_kind(request.filter, outcome.modality or IMAGE)
            outcome.fits = None if outcome.doubt is None else False
        if request.sort is not None:
            outcome.matches = sort_by_tag(outcome.matches, request.sort, self._workspace)

    def _other_kind(self, filter: Filter, target: Target) -> str | None:
        """The sentence that says that a condition compares a tag with what none of its values is."""
        store = self._workspace.store()
        modalities = MODALITIES if target == "both" else (target,)
        for part in conditions(filter) if store is not None else ():
            if isinstance(part, Range) and store is not None:
                kinds = set[Kind]().union(*(store.tag_kinds(each, part.field) for each in modalities))
                asked, there = (
                    (Kind.STRING, Kind.NUMBER) if isinstance(part.bound, str) else (Kind.NUMBER, Kind.STRING)
                )
                if there in kinds and asked not in kinds:
                    words = {Kind.STRING: "text", Kind.NUMBER: "numbers"}
                    return (
                        f"The tag {part.field!r} has {words[there]}, and the filter compares it with "
                        f"{words[asked]}, so nothing can match: write the value as "
                        f"{'a number' if there == Kind.NUMBER else 'text'}."
                    )
        return None

    def _doubt(self, state: SearchState, matches: Sequence[Match]) -> str | None:
        """The sentence that says why nothing fits well; None where something may, and without scores."""
        best = max((match.score for match in matches if match.score is not None), default=None)
        # What has the words of the query fits it, whatever the model thinks of them.
        parts = matches[0].parts if matches else None
        if best is None or (parts is not None and (parts.word_rank or parts.text_rank)):
            return None
        unknown = self._says_nothing(state.request, best)
        if best >= FITTING_SCORE and not unknown:
            return None
        why = f", and {self._model} knows few of the words" if unknown else ""
        return f"Nothing fits well: the best score is {best:.3f}{why}."

    def _says_nothing(self, request: SearchRequest, best: float) -> bool:
        """Whether the model knows few words of the query, and the best score doesn't make up for that."""
        texts = [term.text for term in request.terms if term.text and term.weight > 0]
        if not texts:
            return False
        with self._calibrating:
            if not self._read_words:
                self._known_words, self._read_words = known_words_of(self._model), True
        known = self._known_words
        return known is not None and best < known.convincing and known.share(texts) < FEW_WORDS


def _compose(state: SearchState) -> None:
    for modality in _TARGETS[state.outcome.modality or "both"]:
        state.composed[modality] = compose(state.terms, modality, state.calibration)


def _attempt(state: SearchState, work: Callable[[SearchState], None]) -> None:
    """Does ``work``; an error is this request's own."""
    try:
        work(state)
    except (DataError, RequestError) as error:
        state.outcome.error = error


def _query_of(id: str, state: SearchState, target: Modality) -> Document:
    terms = state.request.terms
    # Its words go along with a vector that is known already: a step may want to read them.
    text = terms[0].text if len(terms) == 1 else None
    if not state.composed:
        return Document.of_query(id, text=text, seeks=target)
    query = state.composed[target]
    return Document.of_query(id, text=text, vector=query.vector, seeks=target, corrected=query.corrected)


@contextmanager
def _timed(timing: Timing, part: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        setattr(timing, part, getattr(timing, part) + (time.perf_counter() - started) * 1000)
