"""Answers from an index on this machine, by the engine in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from crossmodal.cli.answers import Answer
from crossmodal.cli.engine_of import engine_for
from crossmodal.cli.questions import Question
from crossmodal.engine.engine import Engine
from crossmodal.errors import DataError
from crossmodal.filters import Filter, parse_filter
from crossmodal.query.expression import parse_expression
from crossmodal.query.request import SearchOutcome, SearchRequest
from crossmodal.query.terms import Term
from crossmodal.records import IMAGE, TEXT
from crossmodal.settings import Settings

__all__ = ["open_index"]


@contextmanager
def open_index(settings: Settings, filter: Mapping[str, Any] | None) -> Iterator[_IndexAnswers]:
    """The index of ``settings``, as long as the context lasts.

    Raises DataError for an unusable filter, StoreMissing where there is no index, ModelMismatch where another
    model built it.
    """
    condition = None if filter is None else parse_filter(filter)
    with engine_for(settings) as engine:
        yield _IndexAnswers(engine, settings.top_k, condition)


class _IndexAnswers:
    def __init__(self, engine: Engine, top_k: int, filter: Filter | None) -> None:
        self._engine = engine
        self._top_k = top_k
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
            Answer(question, error=str(request))
            if isinstance(request, DataError)
            else _answer(question, next(outcomes))
            for question, request in zip(questions, asked, strict=True)
        ]

    def _request(self, question: Question) -> SearchRequest | DataError:
        """The search for one question, or why there is none."""
        if question.expression is None:
            terms: tuple[Term, ...] = (Term(1.0, text=question.text, image=question.image),)
        else:
            try:
                terms = parse_expression(question.expression)
            except DataError as error:
                return error
        return SearchRequest(terms, top_k=self._top_k, filter=self._filter)


def _answer(question: Question, outcome: SearchOutcome) -> Answer:
    return Answer(
        question,
        TEXT if outcome.modality == TEXT else IMAGE,
        outcome.matches,
        None if outcome.error is None else str(outcome.error),
    )
