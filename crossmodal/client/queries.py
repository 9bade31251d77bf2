"""Queries as a program writes them, and the requests that they become."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypedDict

from crossmodal.client.answers import QueryResult, SearchAnswer
from crossmodal.client.exchange import Call, FilePart, encode_json, read_json
from crossmodal.client.parsing import parse_search
from crossmodal.errors import ClientError

__all__ = [
    "Image",
    "Options",
    "Query",
    "QueryOptions",
    "SearchOptions",
    "Term",
    "as_query",
    "only_result",
    "search_call",
]

# A photo's bytes; the path of a file; or what the server understands: "id:ID", a data URI, or the path of an
# indexed photo there.
Image = str | os.PathLike[str] | bytes

_FOR_THE_SERVER = ("id:", "data:", "/v1/documents/", "/images/")


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a composed query: one of ``text``, ``image`` and ``id``.

    ``weight`` is in -10 to 10 and not 0; a negative one says what is not wanted.
    """

    text: str | None = None
    image: Image | None = None
    id: str | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Query:
    """One of several queries.

    It has exactly one of ``text``, ``image``, ``id``, ``expression``, ``terms`` and ``like``. ``unlike`` may
    stand beside ``like``. Of the others, what is None is as for all queries of the request.
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
    fields: Sequence[str] | None = None


class Options(TypedDict, total=False):
    """What every search can be told beside its query, as in ``Client.search``."""

    modality: str | None
    min_score: float | None
    filter: Mapping[str, Any] | None
    hybrid: bool
    group_duplicates: bool
    fields: Sequence[str] | None


class SearchOptions(Options, total=False):
    """The same with the part of the results that is wanted."""

    top_k: int
    offset: int


class QueryOptions(Options, total=False):
    """The same with a query that is no sentence."""

    image: Image | None
    id: str | None
    expression: str | None
    terms: Sequence[Term | Mapping[str, Any]] | None
    like: Sequence[str] | None
    unlike: Sequence[str] | None


def as_query(query: Query | str) -> Query:
    """A sentence as a query; a query as it is."""
    return Query(text=query) if isinstance(query, str) else query


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
        return Call("POST", "/v1/search", read_json(parse_search), body=encoded, mime_type="application/json")
    # Every part has a file's name but the first, which is a plain field.
    parts = [FilePart("request", None, encoded, "application/json")]
    parts += [
        FilePart("image", f"upload-{number}", content, "application/octet-stream")
        for number, content in enumerate(uploads)
    ]
    return Call("POST", "/v1/search", read_json(parse_search), parts=parts)


def only_result(answer: SearchAnswer) -> QueryResult:
    """The result of the one query asked; raises ClientError where the answer has another number of them."""
    if len(answer.results) != 1:
        raise ClientError(f"One query was asked, and the server answered {len(answer.results)}.")
    return answer.results[0]


def _as_json(query: Query, uploads: list[bytes]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name in (field.name for field in fields(Query)):
        value = getattr(query, name)
        if value is None:
            continue
        if name == "image":
            value = _image(value, uploads)
        elif name == "terms":
            value = [_term(term, uploads) for term in value]
        elif name in ("like", "unlike", "fields"):
            value = [value] if isinstance(value, str) else list(value)
        body["return" if name == "fields" else name] = value
    return body


def _term(term: Term | Mapping[str, Any], uploads: list[bytes]) -> dict[str, Any]:
    given: dict[str, Any] = (
        {"text": term.text, "image": term.image, "id": term.id, "weight": term.weight}
        if isinstance(term, Term)
        else dict(term)
    )
    said = {name: value for name, value in given.items() if value is not None}
    if "image" in said:
        said["image"] = _image(said["image"], uploads)
    return said


def _image(image: Image, uploads: list[bytes]) -> str:
    """How the request names the photo; bytes and files are added to ``uploads``."""
    if isinstance(image, str) and image.startswith(_FOR_THE_SERVER):
        return image
    if isinstance(image, bytes):
        content = image
    else:
        try:
            content = Path(image).read_bytes()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ClientError(f"The photo {os.fspath(image)!r} cannot be read: {reason}.") from None
    uploads.append(content)
    return f"upload:{len(uploads) - 1}"
