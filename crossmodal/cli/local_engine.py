"""The engine in this process, with its Flows in the layout of ``--layout``, and answers from its index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from crossmodal.cli.questions import Answer, Question, read_order, searches_words
from crossmodal.engine.engine import Engine
from crossmodal.engine.opening import OpenFlow, local_flows
from crossmodal.errors import DataError
from crossmodal.filters import Filter
from crossmodal.query.expression import Term, parse_expression
from crossmodal.query.request import MOST_RERANK_SECONDS, Rerank, SearchOutcome, SearchRequest
from crossmodal.settings import Settings

__all__ = ["engine_for", "flows_for", "open_index"]


def engine_for(settings: Settings, **options: Any) -> Engine:
    """The engine over the index of ``settings``; ``options`` are further arguments of ``Engine``.

    Raises ServiceError where ``--layout pods`` is asked for without jina.
    """
    return Engine(settings, open_flow=flows_for(settings), **options)


def flows_for(settings: Settings) -> OpenFlow:
    """What opens the two Flows, in this process or in jina's; those of one process share the model."""
    if settings.layout == "pods":
        # Only now: it imports jina, which takes a second or two.
        from crossmodal.jina.pods import open_pods

        return open_pods
    return local_flows()


@contextmanager
def open_index(settings: Settings, filter: Filter | None) -> Iterator[_IndexAnswers]:
    """The index of ``settings``, as long as the context lasts.

    Raises StoreMissing where there is no index, ModelMismatch where another model built it.
    """
    with engine_for(settings) as engine:
        yield _IndexAnswers(engine, settings, filter)


class _IndexAnswers:
    def __init__(self, engine: Engine, settings: Settings, filter: Filter | None) -> None:
        self._engine = engine
        self._settings = settings
        self._filter = filter
        self.model: str | None = engine.model

    def thumbnail(self, photo_id: str) -> bytes | None:
        found = self._engine.workspace.thumbnail(photo_id)
        return found[0] if found else None

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        asked = [self._request(question) for question in questions]
        requests = [request for request in asked if isinstance(request, SearchRequest)]
        outcomes = iter(self._engine.search(requests)[0] if requests else ())
        return [
            _answer(question, next(outcomes))
            if isinstance(request, SearchRequest)
            else Answer(question, error=request)
            for question, request in zip(questions, asked, strict=True)
        ]

    def _rerank(self) -> Rerank | None:
        """The second stage of each question, for which a person waits who asked for it."""
        if self._settings.rerank is None:
            return None
        return Rerank(depth=self._settings.rerank_depth, seconds=MOST_RERANK_SECONDS)

    def _request(self, question: Question) -> SearchRequest | str:
        """The search for one question, or why there is none."""
        if question.error is not None:
            return question.error
        if question.expression is not None:
            try:
                terms = parse_expression(question.expression)
            except DataError as error:
                return str(error)
        else:
            terms = (Term(text=question.text, image=question.image, id=question.like),)
        settings = self._settings
        return SearchRequest(
            terms,
            modality=settings.modality,
            similar=question.similar or question.like is not None,
            top_k=settings.top_k,
            offset=settings.offset,
            min_score=settings.min_score,
            filter=self._filter,
            hybrid=searches_words(settings, question, self._engine.workspace.has_texts),
            group_duplicates=settings.group_duplicates,
            sort=read_order(settings),
            recognise=not settings.literal,
            explain=settings.explain,
            rerank=self._rerank(),
            exclude=frozenset() if question.like is None else frozenset({question.like}),
        )


def _answer(question: Question, outcome: SearchOutcome) -> Answer:
    return Answer(
        question,
        outcome.modality,
        outcome.matches,
        None if outcome.error is None else str(outcome.error),
        outcome.has_more,
        recognised=outcome.recognised,
        reranked=outcome.reranked,
        fits=outcome.fits,
        doubt=outcome.doubt,
    )
