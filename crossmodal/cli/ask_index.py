"""Answers from an index on this machine, through the query Flow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from crossmodal.cli.opening import open_for_reading
from crossmodal.cli.questions import Question
from crossmodal.errors import DataError
from crossmodal.filters import Filter, parse_filter
from crossmodal.query.expression import parse_expression
from crossmodal.query.request import SearchOutcome, SearchRequest
from crossmodal.query.terms import Term
from crossmodal.records import IMAGE, TEXT, Modality, Record
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

if TYPE_CHECKING:
    from flows.service import FlowService

__all__ = ["open_index"]


@contextmanager
def open_index(settings: Settings, filter: Mapping[str, Any] | None) -> Iterator[_IndexAnswers]:
    """The query Flow over the index of ``settings``, as long as the context lasts.

    Raises DataError for an unusable filter, StoreMissing where there is no index, and ServiceError where the
    Flow does not start.
    """
    condition = None if filter is None else parse_filter(filter)
    with Workspace(settings.workspace) as workspace:
        settings = open_for_reading(settings, workspace)
        from flows.service import FlowService

        with FlowService("query", settings) as service:
            yield _IndexAnswers(service, workspace, settings, condition)


class _IndexAnswers:
    def __init__(
        self, service: FlowService, workspace: Workspace, settings: Settings, filter: Filter | None
    ) -> None:
        self._service = service
        self._workspace = workspace
        self._settings = settings
        self._filter = filter

    @property
    def model(self) -> str | None:
        return self._settings.model

    def thumbnail(self, photo_id: str) -> bytes | None:
        found = self._workspace.thumbnail(photo_id)
        return found[0] if found else None

    def ask(self, questions: Sequence[Question]) -> list[dict[str, Any]]:
        from flows.client import search

        asked = [self._request(question) for question in questions]
        requests = [request for request in asked if isinstance(request, SearchRequest)]
        outcomes = iter(search(self._service, self._workspace, requests, settings=self._settings))
        return [
            _entry(question, None, str(request), [])
            if isinstance(request, DataError)
            else self._described(question, next(outcomes))
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
        return SearchRequest(terms, top_k=self._settings.top_k, filter=self._filter)

    def _described(self, question: Question, outcome: SearchOutcome) -> dict[str, Any]:
        error = None if outcome.error is None else str(outcome.error)
        target: Modality = TEXT if outcome.modality == TEXT else IMAGE
        records = self._workspace.records([match.id for match in outcome.matches], target)
        return _entry(
            question,
            target,
            error,
            [
                _match(records[match.id], match.cosine, [text for _, text in match.captions])
                for match in outcome.matches
                # It may have been deleted a moment ago.
                if match.id in records
            ],
        )


def _entry(
    question: Question, target: Modality | None, error: str | None, matches: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "modality": question.modality(target),
        "query": question.asked,
        "error": error,
        "matches": matches,
    }


def _match(record: Record, cosine: float, captions: list[str]) -> dict[str, Any]:
    match: dict[str, Any] = {
        "id": record.id,
        "modality": record.modality,
        "score": cosine,
        "uri": record.uri,
        "text": record.text,
        "photo_id": record.photo_id,
        "tags": dict(record.tags),
    }
    return {**match, "captions": captions} if record.modality == IMAGE else match
