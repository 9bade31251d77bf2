"""Answers from a server, through the Python client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from crossmodal.cli.answers import Answer
from crossmodal.cli.questions import Question
from crossmodal.client import Client, Retries
from crossmodal.errors import ApiError
from crossmodal.match import Match
from crossmodal.records import checked_modality

__all__ = ["open_server"]

# A person waits, and can try again.
_RETRIES = Retries(attempts=3)

# What is wrong with one query, and not with the server or the address.
_OF_THE_QUERY = frozenset({400, 404, 413, 415, 422})


@contextmanager
def open_server(url: str, top_k: int, filter: Mapping[str, Any] | None) -> Iterator[_ServerAnswers]:
    """The server at ``url``; raises ClientError where that is no address."""
    with Client(url, retries=_RETRIES) as client:
        yield _ServerAnswers(client, top_k, filter)


class _ServerAnswers:
    def __init__(self, client: Client, top_k: int, filter: Mapping[str, Any] | None) -> None:
        self._client = client
        self._top_k = top_k
        self._filter = filter
        self.model: str | None = None

    def thumbnail(self, photo_id: str) -> bytes | None:
        try:
            return self._client.thumbnail(photo_id)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        return [self._ask(question) for question in questions]

    def _ask(self, question: Question) -> Answer:
        try:
            result = self._client.search(
                question.text,
                image=question.image,
                expression=question.expression,
                top_k=self._top_k,
                filter=self._filter,
            )
        except ApiError as error:
            if error.status not in _OF_THE_QUERY or not error.problem:
                raise
            return Answer(question, error=error.detail or error.title)
        self.model = result.model
        target = None if result.modality is None else checked_modality(result.modality, "The answer")
        return Answer(question, target, [self._match(match) for match in result.matches])

    def _match(self, match: Match) -> Match:
        """The match with the address of its photo."""
        return replace(match, uri=None if match.photo is None else self._client.url + match.photo.content)
