"""Queries as a program writes them, the requests that they become, and their results page by page."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict

from crossmodal.client.answers import QueryResult, SearchAnswer
from crossmodal.client.decoding import read_search
from crossmodal.client.exchange import Call, encode_json
from crossmodal.client.vectors import photo_content
from crossmodal.errors import ClientError
from crossmodal.match import Match
from crossmodal.query.request import HYBRID_DEPTH, MAX_RESULTS

__all__ = ["Image", "Pages", "Query", "QueryOptions", "SearchOptions", "Term", "only_result", "search_call"]

# A photo's bytes; the path of a file; or what the server understands: "id:ID", a data URI, the path of an
# indexed photo there, or, where it runs with --fetch-urls, a URL.
Image = str | os.PathLike[str] | bytes

_FOR_THE_SERVER = ("id:", "data:", "/v1/documents/", "/images/", "http://", "https://")

# In an answer of a server that a proxy shows below another path.
_IN_AN_ANSWER = re.compile(r"(?:/[\w.~-]+)+/v1/documents/[^/]+/(?:content|thumbnail)")


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a composed query: one of ``text``, ``image``, ``id`` and ``vector``, as ``encode`` makes it.

    ``weight`` is in -10 to 10 and not 0; a negative one says what is not wanted. ``kind`` says what the
    vector is of, "text" (by default) or "image".
    """

    text: str | None = None
    image: Image | None = None
    id: str | None = None
    weight: float = 1.0
    vector: Sequence[float] | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """One of several queries.

    It has exactly one of ``text``, ``image``, ``id``, ``expression``, ``terms``, ``like`` and ``vector``.
    ``unlike`` may stand beside ``like``, and ``kind`` beside ``vector``. An option that is None is that of
    all queries of the request.
    """

    text: str | None = None
    image: Image | None = None
    id: str | None = None
    expression: str | None = None
    terms: Sequence[Term | Mapping[str, Any]] | None = None
    like: Sequence[str] | None = None
    unlike: Sequence[str] | None = None
    modality: str | None = None
    top_k: int | None = None
    offset: int | None = None
    min_score: float | None = None
    filter: Mapping[str, Any] | None = None
    hybrid: bool | None = None
    group_duplicates: bool | None = None
    sort: str | None = None
    recognise: bool | None = None
    explain: bool | None = None
    rerank: Mapping[str, Any] | None = None
    fields: Sequence[str] | None = None
    vector: Sequence[float] | None = None
    kind: str | None = None


class _Options(TypedDict, total=False):
    modality: str | None
    min_score: float | None
    filter: Mapping[str, Any] | None
    hybrid: bool
    group_duplicates: bool
    sort: str | None
    recognise: bool | None
    explain: bool
    rerank: Mapping[str, Any] | None
    fields: Sequence[str] | None


class SearchOptions(_Options, total=False):
    """The options of a search beside its query, as in ``Client.search``."""

    top_k: int
    offset: int


class QueryOptions(_Options, total=False):
    """A query that is no sentence, with the options that don't choose a part of the results."""

    image: Image | None
    id: str | None
    expression: str | None
    terms: Sequence[Term | Mapping[str, Any]] | None
    like: Sequence[str] | None
    unlike: Sequence[str] | None
    vector: Sequence[float] | None
    kind: str | None


class Pages:
    """Asks for ``page_size`` (1 or more) results of ``query`` at a time, until there are no more."""

    def __init__(self, query: Query, page_size: int) -> None:
        if page_size < 1:
            raise ClientError(f"page_size is {page_size}; a page has at least 1 result.")
        self._query = query
        self._size = page_size
        self._left = HYBRID_DEPTH if query.hybrid else MAX_RESULTS
        self._offset = 0

    def next_call(self) -> Call[SearchAnswer] | None:
        """The search for the next page; None where there is none."""
        if self._left <= 0:
            return None
        size = min(self._size, self._left)
        return search_call(replace(self._query, offset=self._offset, top_k=size))

    def matches(self, page: QueryResult) -> tuple[Match, ...]:
        """The matches of the page that was asked for last."""
        self._offset += len(page.matches)
        self._left = self._left - len(page.matches) if page.has_more and page.matches else 0
        return page.matches


def search_call(queries: Query | Sequence[Query], options: Query | None = None) -> Call[SearchAnswer]:
    """POST /v1/search for one query or for several, with ``options`` for all of them.

    Photos that are bytes or files go along as files. Raises ClientError for a file that cannot be read.
    """
    uploads: list[bytes] = []
    if isinstance(queries, Query):
        body = _as_json(queries, uploads)
    else:
        body = _as_json(options or Query(), uploads)
        body["queries"] = [_as_json(query, uploads) for query in queries]
    encoded = encode_json(body)
    if not uploads:
        sent: dict[str, Any] = {"content": encoded, "headers": {"Content-Type": "application/json"}}
    else:
        # Every part has a file's name but the first, which is a plain field.
        files = [
            ("image", (f"upload-{number}", content, "application/octet-stream"))
            for number, content in enumerate(uploads)
        ]
        sent = {"files": [("request", (None, encoded, "application/json")), *files]}
    return Call("POST", "/v1/search", read_search, sent)


def only_result(answer: SearchAnswer) -> QueryResult:
    """The result of the one query asked; raises ClientError where the answer has another number of them."""
    if len(answer.results) != 1:
        raise ClientError(f"One query was asked, and the server answered {len(answer.results)}.")
    return answer.results[0]


def _as_json(query: Query, uploads: list[bytes]) -> dict[str, Any]:
    body = _given(query)
    if "image" in body:
        body["image"] = _image(body["image"], uploads)
    if "terms" in body:
        body["terms"] = [_term(term, uploads) for term in body["terms"]]
    if "vector" in body:
        body["vector"] = _numbers(body["vector"])
    for name in ("like", "unlike", "fields"):
        if name in body:
            body[name] = [body[name]] if isinstance(body[name], str) else list(body[name])
    if "fields" in body:
        body["return"] = body.pop("fields")
    return body


def _term(term: Term | Mapping[str, Any], uploads: list[bytes]) -> dict[str, Any]:
    given = _given(term) if isinstance(term, Term) else {k: v for k, v in term.items() if v is not None}
    if "image" in given:
        given["image"] = _image(given["image"], uploads)
    if "vector" in given:
        given["vector"] = _numbers(given["vector"])
    return given


def _numbers(vector: Sequence[float]) -> list[float]:
    """A list, an array or a row of NumPy as JSON can hold it."""
    return [float(number) for number in vector]


def _given(item: Query | Term) -> dict[str, Any]:
    """The fields of ``item`` that are set."""
    values = ((field.name, getattr(item, field.name)) for field in fields(item))
    return {name: value for name, value in values if value is not None}


def _image(image: Image, uploads: list[bytes]) -> str:
    """How the request names the photo; bytes and files are added to ``uploads``."""
    if isinstance(image, str) and (image.startswith(_FOR_THE_SERVER) or _IN_AN_ANSWER.fullmatch(image)):
        return image
    uploads.append(photo_content(image))
    return f"upload:{len(uploads) - 1}"
