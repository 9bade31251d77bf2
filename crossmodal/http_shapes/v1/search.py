"""The body of POST /v1/search to search requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from crossmodal import limits
from crossmodal.errors import CrossmodalError, DataError, FetchError, FilterError, QueryError, RequestError
from crossmodal.filters import Filter, parse_filter
from crossmodal.filters.sorting import Order, parse_order
from crossmodal.http_shapes.photos import (
    decode_data_uri,
    fetched_photo,
    indexed_image_id,
    is_data_uri,
    opened_for_clients,
)
from crossmodal.http_shapes.values import checked_id, checked_text, shown
from crossmodal.query.expression import Term, parse_expression
from crossmodal.query.request import FIELDS, HYBRID_DEPTH, MAX_RESULTS, Rerank, SearchRequest, Target
from crossmodal.records import IMAGE, TEXT, Modality
from crossmodal.url_photos import FetchedPhotos, is_web_url

__all__ = ["parse_search", "photo_urls"]

# What a document that was not liked takes away beside one that was: less, as in Rocchio's feedback.
_UNLIKED_WEIGHT = -0.5

_KINDS = ("text", "image", "id", "vector", "expression", "terms", "like")
# What a term may be, and what stands beside another key only.
_TERM_KINDS = ("text", "image", "id", "vector")
_BESIDE = {"unlike": "like", "kind": "vector"}
_OPTIONS = (
    "modality",
    "top_k",
    "offset",
    "min_score",
    "filter",
    "hybrid",
    "group_duplicates",
    "sort",
    "recognise",
    "explain",
    "rerank",
    "return",
)

# What stands in 'rerank', and of which types.
_RERANK: Mapping[str, type | tuple[type, ...]] = {"name": str, "depth": int, "seconds": (int, float)}

_EXAMPLE = '{"text": "a dog on a beach", "top_k": 5}'
_IMAGE_FORMS = (
    "it has to be a data URI (data:image/jpeg;base64,...), id:ID of an indexed photo, or upload:0 with a "
    "file in the form"
)


def photo_urls(body: object, host: str | None) -> list[str]:
    """The URLs in ``body`` of photos to fetch before it is parsed; ``host`` as there."""
    queries = body.get("queries", [body]) if isinstance(body, dict) else None
    urls = []
    for query in queries[: limits.QUERIES.most] if isinstance(queries, list) else ():
        terms = query.get("terms") if isinstance(query, dict) else None
        for holder in (query, *(terms[: limits.TERMS.most] if isinstance(terms, list) else ())):
            image = holder.get("image") if isinstance(holder, dict) else None
            if isinstance(image, str) and is_web_url(address := image.strip()):
                urls.append(address)
    return [url for url in urls if indexed_image_id(url, host) is None]


def parse_search(
    body: object,
    *,
    uploads: Sequence[bytes] = (),
    host: str | None = None,
    fetched: FetchedPhotos | None = None,
) -> list[SearchRequest | CrossmodalError]:
    """The queries in ``body`` (parsed JSON), in order: each a request, or the error that says why it is none.

    ``uploads`` are the photos that came as files. ``host`` is the request's Host header, by which addresses
    of this server's own photos are known. ``fetched`` is what came from its ``photo_urls``, None where the
    server fetches nothing. Raises RequestError or QueryError where the body as a whole is no search.
    """
    if not isinstance(body, dict):
        raise RequestError(f"The body is {shown(body)}; it has to be a JSON object such as {_EXAMPLE}.")
    if "queries" not in body:
        if uploads and not any(kind in body for kind in (*_KINDS, *_BESIDE)):
            body = {**body, "image": "upload:0"}
        return [_attempt(body, {}, "", uploads, host, fetched)]
    listed = body["queries"]
    shared = {key: value for key, value in body.items() if key != "queries"}
    for key in shared:
        if key not in _OPTIONS:
            raise _refused(
                f"{shown(key)} cannot stand beside 'queries'; the options there are {', '.join(_OPTIONS)}.",
                f"/{_escaped(key)}",
            )
    if not isinstance(listed, list) or not listed:
        raise _refused(
            f"'queries' is {shown(listed)}; it has to be a list of at least one query.", "/queries"
        )
    if len(listed) > limits.QUERIES.most:
        raise _refused(limits.QUERIES.exceeded("'queries'", len(listed)), "/queries")
    return [
        _attempt(query, shared, f"/queries/{number}", uploads, host, fetched)
        for number, query in enumerate(listed)
    ]


def _attempt(
    query: object,
    shared: Mapping[str, Any],
    place: str,
    uploads: Sequence[bytes],
    host: str | None,
    fetched: FetchedPhotos | None,
) -> SearchRequest | CrossmodalError:
    try:
        if not isinstance(query, dict):
            raise _refused(f"A query is {shown(query)}; it has to be an object such as {_EXAMPLE}.", place)
        return _Query(query, shared, place, uploads, host, fetched).request()
    except RequestError as error:
        # The checks of ids and texts that all clients share don't know of pointers.
        return error if error.status != 400 else QueryError(str(error), pointer=place or None)
    except DataError as error:
        return error


class _Query:
    def __init__(
        self,
        query: Mapping[str, Any],
        shared: Mapping[str, Any],
        place: str,
        uploads: Sequence[bytes],
        host: str | None,
        fetched: FetchedPhotos | None,
    ) -> None:
        self._query = query
        self._values = {**shared, **query}
        self._place = place
        self._uploads = uploads
        self._host = host
        self._fetched = fetched

    def request(self) -> SearchRequest:
        for key in self._query:
            if key not in (*_KINDS, *_BESIDE, *_OPTIONS):
                known = ", ".join((*_KINDS, *_BESIDE, *_OPTIONS))
                raise self._refuse(f"{shown(key)} is not known in a query; there are {known}.", key)
        kinds = [kind for kind in _KINDS if kind in self._query]
        if len(kinds) != 1:
            given = " and ".join(kinds) or "none of them"
            raise _refused(
                f"A query needs exactly one of {', '.join(_KINDS)}, but has {given}. Several are terms: "
                '{"terms": [{"text": "dog"}, {"image": "id:42", "weight": 0.5}]}.',
                self._place,
            )
        (kind,) = kinds
        if "unlike" in self._query and kind != "like":
            raise self._refuse(
                "'unlike' needs 'like' beside it: there is nothing to recommend from.", "unlike"
            )
        if "kind" in self._query and kind != "vector":
            raise self._refuse("'kind' says what a vector is of; it needs 'vector' beside it.", "kind")
        terms = self._terms(kind)
        hybrid = self._switch("hybrid")
        top_k = self._number("top_k", 10, 1, MAX_RESULTS)
        limit = HYBRID_DEPTH if hybrid else MAX_RESULTS
        offset = self._number("offset", 0, 0, MAX_RESULTS - 1)
        if offset + top_k > limit:
            with_words = " with 'hybrid'" if hybrid else ""
            raise self._refuse(
                f"offset + top_k is {offset + top_k:,}; it can be at most {limit:,}{with_words}.",
                "top_k",
            )
        if hybrid and not any(term.text and term.weight > 0 for term in terms):
            raise self._refuse("'hybrid' searches captions by words too, and this query has none.", "hybrid")
        similar = kind in ("id", "like")
        return SearchRequest(
            terms=terms,
            modality=self._modality(),
            similar=similar,
            top_k=top_k,
            offset=offset,
            min_score=self._min_score(),
            filter=self._filter(),
            hybrid=hybrid,
            group_duplicates=self._switch("group_duplicates"),
            sort=self._sort(),
            recognise=self._switch("recognise", default=True),
            explain=self._switch("explain"),
            rerank=self._rerank(),
            fields=self._fields(),
            exclude=frozenset(term.id for term in terms if term.id) if similar else frozenset(),
        )

    def _terms(self, kind: str) -> tuple[Term, ...]:
        value = self._query[kind]
        if kind in _TERM_KINDS:
            given = {name: self._query[name] for name in (kind, "kind") if name in self._query}
            return (self._term(given, ""),)
        if kind == "expression":
            return self._expression(value)
        if kind == "like":
            liked = self._ids("like", 1)
            unliked = self._ids("unlike", 0) if "unlike" in self._query else []
            # Each side counts as one, however many documents stand on it.
            return (
                *(Term(weight=1.0 / len(liked), id=id) for id in liked),
                *(Term(weight=_UNLIKED_WEIGHT / len(unliked), id=id) for id in unliked),
            )
        if not isinstance(value, list) or not value or len(value) > limits.TERMS.most:
            found = f"{len(value):,} of them" if isinstance(value, list) else shown(value)
            raise self._refuse(
                f"'terms' is {found}; it has to be a list of 1 to {limits.TERMS.most} terms.", "terms"
            )
        terms = tuple(self._term(term, f"/terms/{number}") for number, term in enumerate(value))
        if all(term.weight < 0 for term in terms):
            raise self._refuse("All terms are negative; at least one has to say what to look for.", "terms")
        return terms

    def _term(self, value: object, place: str) -> Term:
        at = self._place + place
        if not isinstance(value, dict):
            raise _refused(f'A term is {shown(value)}; it has to be an object such as {{"text": "dog"}}.', at)
        for key in value:
            if key not in (*_TERM_KINDS, "kind", "weight"):
                raise _refused(
                    f"{shown(key)} is not known in a term; there are {', '.join(_TERM_KINDS)}, kind and "
                    "weight.",
                    f"{at}/{_escaped(key)}",
                )
        kinds = [kind for kind in _TERM_KINDS if kind in value]
        if len(kinds) != 1:
            raise _refused(
                f"A term needs exactly one of {', '.join(_TERM_KINDS)}, but has "
                f"{' and '.join(kinds) or 'none'}.",
                at,
            )
        if "kind" in value and "vector" not in value:
            raise _refused("'kind' says what a vector is of; it needs 'vector' beside it.", f"{at}/kind")
        weight = self._weight(value.get("weight", 1.0), at)
        if "vector" in value:
            return self._vector(value, weight, at)
        if "text" in value:
            return Term(weight=weight, text=self._text(value["text"], f"{at}/text"))
        if "id" in value:
            return Term(weight=weight, id=self._id(value["id"], f"{at}/id"))
        return self._photo(value["image"], weight, f"{at}/image")

    def _vector(self, term: Mapping[str, Any], weight: float, at: str) -> Term:
        value, kind = term["vector"], term.get("kind")
        if not isinstance(value, list) or not value or not set(map(type, value)) <= {int, float}:
            raise _refused(f"The vector is {shown(value)}; it has to be a list of numbers.", f"{at}/vector")
        if kind not in (None, IMAGE, TEXT):
            raise _refused(f"'kind' is {shown(kind)}; it has to be 'image' or 'text'.", f"{at}/kind")
        if len(value) > limits.DIMENSION.most:
            raise _refused(limits.DIMENSION.exceeded("The vector", len(value)), f"{at}/vector")
        try:
            numbers = np.array(value, np.float64)
        except OverflowError:
            raise _refused("The vector has a number of more than 300 digits.", f"{at}/vector") from None
        return Term(weight=weight, vector=numbers, kind=cast("Modality | None", kind))

    def _photo(self, value: object, weight: float, at: str) -> Term:
        if not isinstance(value, str):
            raise _refused(f"An image is {shown(value)}; {_IMAGE_FORMS}.", at)
        address = value.strip()
        if address.startswith("upload:"):
            number = address.removeprefix("upload:")
            if number not in map(str, range(len(self._uploads))):
                count = len(self._uploads)
                raise _refused(f"The image is {shown(address)}, but {count} files came with the request.", at)
            return Term(weight=weight, image=self._uploads[int(number)])
        if address.startswith("id:"):
            return Term(weight=weight, id=self._id(address.removeprefix("id:"), at))
        indexed = indexed_image_id(address, self._host)
        if indexed is not None:
            return Term(weight=weight, id=self._id(indexed, at))
        if is_data_uri(address):
            decoded = decode_data_uri(address)
            if not decoded.mime_type.startswith("image/"):
                raise _refused(f"The image is of the type {shown(decoded.mime_type)}; {_IMAGE_FORMS}.", at)
            return Term(weight=weight, image=decoded.content)
        try:
            photo = fetched_photo(address, self._fetched)
        except FetchError as error:
            raise _refused(str(error), at) from None
        if photo is not None:
            return Term(weight=weight, image=photo)
        opened = opened_for_clients(self._fetched)
        raise _refused(f"The image is {shown(address)}; {_IMAGE_FORMS}: {opened}.", at)

    def _expression(self, value: object) -> tuple[Term, ...]:
        pointer = f"{self._place}/expression"
        text = self._text(value, pointer)
        try:
            terms = parse_expression(text)
        except QueryError as error:
            raise QueryError(str(error), pointer=pointer) from None
        for term in terms:
            if term.id is not None:
                self._id(term.id, pointer)
        return terms

    def _ids(self, name: str, least: int) -> list[str]:
        value = self._query[name]
        if not isinstance(value, list) or not least <= len(value) <= limits.NAMED.most:
            found = f"a list of {len(value)}" if isinstance(value, list) else shown(value)
            raise self._refuse(
                f"{name!r} is {found}; it has to be a list of {least} to {limits.NAMED.most} ids.", name
            )
        return [self._id(id, f"{self._place}/{name}/{number}") for number, id in enumerate(value)]

    def _weight(self, value: object, at: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _refused(f"The weight is {shown(value)}; it has to be a number.", f"{at}/weight")
        if not 0 < abs(value) <= limits.WEIGHT.most:
            raise _refused(
                f"The weight is {shown(value)}; it has to lie in -{limits.WEIGHT.most:g} to "
                f"{limits.WEIGHT.most:g} and not be 0.",
                f"{at}/weight",
            )
        return float(value)

    def _text(self, value: object, at: str) -> str:
        return _checked(lambda: checked_text(value, "The text"), at)

    def _id(self, value: object, at: str) -> str:
        if not isinstance(value, str):
            raise _refused(f"The id is {shown(value)}; it has to be a string.", at)
        return _checked(lambda: checked_id(value, "The id", limits.STORED_ID), at)

    def _modality(self) -> Target | None:
        value = self._values.get("modality")
        if value is not None and value not in ("image", "text", "both"):
            raise self._refuse(
                f"'modality' is {shown(value)}; it has to be 'image', 'text' or 'both'.", "modality"
            )
        return cast("Target | None", value)

    def _number(self, name: str, default: int, least: int, most: int) -> int:
        value = self._values.get(name, default)
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            raise self._refuse(
                f"{name!r} is {shown(value)}; it has to be a whole number from {least} to {most:,}.", name
            )
        return number

    def _switch(self, name: str, *, default: bool = False) -> bool:
        value = self._values.get(name, default)
        if not isinstance(value, bool):
            raise self._refuse(f"{name!r} is {shown(value)}; it has to be true or false.", name)
        return value

    def _min_score(self) -> float | None:
        value = self._values.get("min_score")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self._refuse(f"'min_score' is {shown(value)}; it has to lie in 0 to 1.", "min_score")
        return float(value)

    def _rerank(self) -> Rerank | None:
        value = self._values.get("rerank")
        if value is None:
            return None
        if not isinstance(value, dict) or not value.keys() <= _RERANK.keys():
            raise self._refuse(
                f"'rerank' is {shown(value)}; it has to be an object with some of {', '.join(_RERANK)}.",
                "rerank",
            )
        for name, given in value.items():
            if isinstance(given, bool) or not isinstance(given, _RERANK[name]):
                raise self._refuse(f"{name!r} of 'rerank' is {shown(given)}; see docs/api.md.", "rerank")
        try:
            return Rerank(**value)
        except DataError as error:
            raise self._refuse(str(error), "rerank") from None

    def _filter(self) -> Filter | None:
        value = self._values.get("filter")
        if value is None:
            return None
        try:
            return parse_filter(value)
        except FilterError as error:
            raise QueryError(str(error), pointer=f"{self._at('filter')}{error.pointer}") from None

    def _sort(self) -> Order | None:
        value = self._values.get("sort")
        if value is None:
            return None
        if not isinstance(value, str):
            raise self._refuse(f"'sort' is {shown(value)}; it has to be a tag's name.", "sort")
        try:
            return parse_order(value)
        except DataError as error:
            raise self._refuse(str(error), "sort") from None

    def _fields(self) -> frozenset[str]:
        value = self._values.get("return")
        if value is None:
            return frozenset(FIELDS)
        if not isinstance(value, list) or not all(isinstance(field, str) for field in value):
            raise self._refuse(f"'return' is {shown(value)}; it has to be a list of field names.", "return")
        unknown = [field for field in value if field not in FIELDS]
        if unknown:
            raise self._refuse(
                f"'return' names {shown(unknown[0])}; there are {', '.join(FIELDS)} (id, modality, rank, "
                "score and cosine always come).",
                "return",
            )
        return frozenset(value)

    def _at(self, name: str) -> str:
        return f"{self._place if name in self._query else ''}/{_escaped(name)}"

    def _refuse(self, message: str, name: str) -> QueryError:
        return QueryError(message, pointer=self._at(name))


def _checked(check: Callable[[], str], at: str) -> str:
    try:
        return check()
    except RequestError as error:
        raise QueryError(str(error), pointer=at) from None


def _refused(message: str, pointer: str) -> QueryError:
    return QueryError(message, pointer=pointer or None)


def _escaped(key: str) -> str:
    """A key as it stands in a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
