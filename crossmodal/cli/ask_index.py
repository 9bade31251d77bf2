"""Answers from an index on this machine, by the engine in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from crossmodal.cli.answers import Answer
from crossmodal.cli.engine_of import engine_for
from crossmodal.cli.questions import Question
from crossmodal.engine.engine import Engine
from crossmodal.errors import DataError
from crossmodal.filters import Filter
from crossmodal.query.expression import Term, parse_expression
from crossmodal.query.request import SearchOutcome, SearchRequest
from crossmodal.settings import Settings

__all__ = ["open_index"]


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
            similar=question.like is not None,
            top_k=settings.top_k,
            offset=settings.offset,
            min_score=settings.min_score,
            filter=self._filter,
            hybrid=settings.hybrid,
            group_duplicates=settings.group_duplicates,
            exclude=frozenset() if question.like is None else frozenset({question.like}),
        )


def _answer(question: Question, outcome: SearchOutcome) -> Answer:
    return Answer(
        question,
        outcome.modality,
        outcome.matches,
        None if outcome.error is None else str(outcome.error),
        outcome.has_more,
    )
