"""Answers from a server, through the Python client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import cast
from urllib.parse import urlsplit

from crossmodal.cli.questions import Answer, Question, searches_words
from crossmodal.client import Client, Retries
from crossmodal.errors import ApiError
from crossmodal.filters import Filter
from crossmodal.match import Match
from crossmodal.query.recognition import Recognised
from crossmodal.query.request import MOST_RERANK_SECONDS, Target
from crossmodal.records import IMAGE, Look
from crossmodal.settings import Settings

__all__ = ["open_server"]

# A person waits, and can try again.
_RETRIES = Retries(attempts=3)

# What is wrong with one query, and not with the server or the address.
_OF_THE_QUERY = frozenset({400, 404, 413, 415, 422})


@contextmanager
def open_server(url: str, settings: Settings, filter: Filter | None) -> Iterator[_ServerAnswers]:
    """The server at ``url``; raises ClientError where that is no address."""
    with Client(url, retries=_RETRIES, key=settings.key, tls_ca=settings.tls_ca) as client:
        yield _ServerAnswers(client, settings, filter)


class _ServerAnswers:
    def __init__(self, client: Client, settings: Settings, filter: Filter | None) -> None:
        self._client = client
        self._settings = settings
        self._filter = None if filter is None else filter.to_json()
        self.model: str | None = None
        self._texts: bool | None = None

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
        if question.error is not None:
            return Answer(question, error=question.error)
        settings = self._settings
        second_stage = {
            "name": settings.rerank,
            "depth": settings.rerank_depth,
            "seconds": MOST_RERANK_SECONDS,
        }
        try:
            result = self._client.search(
                question.text,
                image=question.image,
                expression=question.expression,
                id=question.like,
                modality=settings.modality or (IMAGE if question.similar else None),
                top_k=settings.top_k,
                offset=settings.offset,
                min_score=settings.min_score,
                filter=self._filter,
                hybrid=searches_words(settings, question, self._has_texts),
                group_duplicates=settings.group_duplicates,
                sort=settings.sort,
                recognise=False if settings.literal else None,
                explain=settings.explain,
                rerank=None if settings.rerank is None else second_stage,
            )
        except ApiError as error:
            if error.status not in _OF_THE_QUERY or not error.problem:
                raise
            return Answer(question, error=error.detail or error.title)
        self.model = result.model
        matches = [self._match(match) for match in result.matches]
        return Answer(
            question,
            cast("Target | None", result.modality),
            matches,
            has_more=result.has_more,
            recognised=[Recognised(one.text, one.filter) for one in result.recognised or ()],
            reranked=result.reranked,
            partial=result.partial or (),
            fits=result.fits,
            doubt=result.doubt,
        )

    def _has_texts(self) -> bool:
        """Whether the server's index has text in photos, asked once; an earlier version doesn't say."""
        if self._texts is None:
            texts = self._client.status().texts
            self._texts = texts is not None and texts.with_text > 0
        return self._texts

    def _match(self, match: Match) -> Match:
        """The match with the address of its photo, and without what was not asked for, as an index has it."""
        photo = match.photo
        return replace(
            match,
            uri=None if photo is None else self._absolute(photo.content),
            look=None if photo is None else Look(photo.width, photo.height, photo.colour),
            duplicates=match.duplicates if self._settings.group_duplicates else None,
        )

    def _absolute(self, path: str) -> str:
        """The address of a path in an answer, which says below which path a proxy shows the server."""
        url = self._client.url
        return url + path.removeprefix(urlsplit(url).path)
