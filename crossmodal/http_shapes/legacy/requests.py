"""Request bodies of jina 1, 2, 3 and Jina Box to one plain request."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast
from uuid import uuid4

from crossmodal import limits
from crossmodal.errors import RequestError
from crossmodal.http_shapes.legacy.encoding import EncodedItem, encoding_of, parse_encoded
from crossmodal.http_shapes.legacy.items import (
    DocumentItem,
    QueryItem,
    parse_documents,
    parse_query,
    photo_url,
)
from crossmodal.http_shapes.values import checked_id, plain_json, shown, whole_number
from crossmodal.records import TEXT, Record
from crossmodal.url_photos import FetchedPhotos

__all__ = ["Envelope", "LegacyRequest", "endpoint_of", "envelope_of", "parse_request", "photo_urls"]

_DEFAULT_TOP_K = 10

_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))

Endpoint = Literal["search", "index", "update", "delete", "encode", "rank"]


class Envelope(enum.Enum):
    """The client whose shape of answer is wanted; the value is its name in an explicit override."""

    JINABOX = "jinabox"
    JINA1 = "jina1"
    JINA2 = "jina2"
    JINA3 = "jina3"


@dataclass(frozen=True, slots=True)
class LegacyRequest:
    """A request that can be answered: ``queries`` to search for, ``documents`` to index, ``ids`` to delete.

    ``encoded`` is what to encode, by the ``model`` of that name, None where the client names none.
    ``parameters`` are the client's own, for an answer that repeats them.
    """

    endpoint: Endpoint
    envelope: Envelope
    request_id: str
    top_k: int
    queries: tuple[QueryItem, ...] = ()
    documents: tuple[DocumentItem, ...] = ()
    ids: tuple[str, ...] = ()
    encoded: tuple[EncodedItem, ...] = ()
    model: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def envelope_of(body: object, path: str, override: str | None = None) -> Envelope:
    """The envelope to answer in; never raises, so that it serves for errors too.

    ``override`` goes before the ``parameters.envelope`` of the body, and that before the body's shape. It
    ignores one that names no envelope (``parse_request`` refuses it). A body that is no JSON
    object, None for one that could not be read included, gets Jina Box's answer: that client alone hangs for
    ever on any other.
    """
    try:
        named = _named_envelope(override) or _named_envelope(_envelope_parameter(body))
    except RequestError:
        named = None
    return named or _envelope_by_shape(body, path)


def photo_urls(body: object, *, path: str, envelope_override: str | None, host: str | None) -> list[str]:
    """The URLs in ``body`` of photos to fetch before it is parsed with the same arguments."""
    data = _data_of(body) if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(data, list):
        return []
    try:
        endpoint = endpoint_of(body, path)
    except RequestError:
        return []
    if endpoint == "search":
        envelope = envelope_of(body, path, envelope_override)
        data = [_as_sent(item, envelope) for item in data]
    items = () if endpoint == "delete" else data
    return [url for item in items if (url := photo_url(item, host)) is not None]


def parse_request(
    body: object,
    *,
    path: str,
    envelope_override: str | None = None,
    host: str | None = None,
    fetched: FetchedPhotos | None = None,
) -> LegacyRequest:
    """The request in ``body`` (parsed JSON) sent to ``path``; ``host`` is the request's Host header.

    ``fetched`` is what came from its ``photo_urls``, None where the server fetches nothing. A single item
    that cannot be used has an ``error`` and the others go on; where none can be used, RequestError says why
    of the first. RequestError is the only error raised, for any JSON value.
    """
    _named_envelope(envelope_override)
    _named_envelope(_envelope_parameter(body))
    envelope = envelope_of(body, path, envelope_override)
    if not isinstance(body, dict):
        raise RequestError(f"The body is {shown(body)}; it has to be a JSON object with a list under 'data'.")
    endpoint = endpoint_of(body, path)
    parameters = body.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise RequestError(f"'parameters' is {shown(parameters)}; it has to be an object.")
    request = LegacyRequest(
        endpoint=endpoint,
        envelope=envelope,
        request_id=_request_id_of(body),
        top_k=_top_k_of(body, parameters or {}),
        parameters=plain_json(parameters or {}, "'parameters'"),
    )
    if endpoint == "search":
        items = _items_of(body, "queries", limits.QUERIES)
        return replace(request, queries=_queries(items, envelope, host, fetched))
    if endpoint == "delete":
        return replace(request, ids=_ids_of(body))
    if endpoint in ("encode", "rank"):
        items = _items_of(body, "documents", limits.EMBEDDED)
        encoded = parse_encoded(items, ranked=endpoint == "rank", host=host, fetched=fetched)
        return replace(request, encoded=encoded, model=_model_of(body))
    items = _items_of(body, "documents", limits.LEGACY_DOCUMENTS)
    return replace(request, documents=_documents(items, fetched))


def _queries(
    items: list[object], envelope: Envelope, host: str | None, fetched: FetchedPhotos | None
) -> tuple[QueryItem, ...]:
    queries: list[QueryItem] = []
    errors: list[RequestError] = []
    seen: set[str] = set()
    for position, item in enumerate(items):
        try:
            query = parse_query(_as_sent(item, envelope), f"data[{position}]", host, fetched)
            if query.id in seen:
                raise RequestError(f"data[{position}] has the id {shown(query.id)} of an earlier query.")
            seen.add(query.id)
        except RequestError as error:
            errors.append(error)
            query = QueryItem(uuid4().hex, TEXT, error=str(error))
        queries.append(query)
    if len(errors) == len(queries):
        raise errors[0]
    return tuple(queries)


def _documents(items: list[object], fetched: FetchedPhotos | None) -> tuple[DocumentItem, ...]:
    documents: list[DocumentItem] = []
    errors: list[RequestError] = []
    seen: set[str] = set()
    for position, item in enumerate(items):
        try:
            records = parse_documents(item, f"data[{position}]", fetched)
            for record in records:
                if record.id in seen:
                    raise RequestError(
                        f"data[{position}] has the id {shown(record.id)} of an earlier document."
                    )
                seen.add(record.id)
            documents += map(DocumentItem, records)
        except RequestError as error:
            errors.append(error)
            documents.append(DocumentItem(Record(uuid4().hex, TEXT), error=str(error)))
    if len(errors) == len(items):
        raise errors[0]
    return tuple(documents)


def _ids_of(body: dict[str, object]) -> tuple[str, ...]:
    """The ids to delete: ``ids``, or ``data`` with ids or with Documents that have one."""
    listed = body.get("ids")
    if listed is not None and body.get("data") in (None, []):
        body = {"data": listed}
    ids = []
    for position, item in enumerate(_items_of(body, "ids", limits.LEGACY_DOCUMENTS)):
        given = item.get("id") if isinstance(item, dict) else item
        ids.append(checked_id(given, f"The id of data[{position}]", limits.STORED_ID))
    return tuple(dict.fromkeys(ids))


def _envelope_parameter(body: object) -> object:
    """What jina's clients, which cannot choose headers, name among their parameters."""
    parameters = body.get("parameters") if isinstance(body, dict) else None
    return parameters.get("envelope") if isinstance(parameters, dict) else None


def _named_envelope(name: object) -> Envelope | None:
    """The envelope that an override names, None for no override; raises RequestError for an unknown name."""
    if name is None or (isinstance(name, str) and not name.strip()):
        return None
    try:
        return Envelope(name.strip().lower() if isinstance(name, str) else name)
    except ValueError:
        known = ", ".join(envelope.value for envelope in Envelope)
        raise RequestError(f"The envelope {shown(name)} is not known; choose one of {known}.") from None


def _envelope_by_shape(body: object, path: str) -> Envelope:
    if not isinstance(body, dict) or ("mode" in body and "parameters" in body):
        return Envelope.JINABOX
    if "mode" in body or "top_k" in body or path.startswith("/api/"):
        return Envelope.JINA1
    data = _data_of(body)
    # The client of jina 2 repeats in snake case what jina 3 has in its header alone.
    if "request_id" in body and "exec_endpoint" in body:
        return Envelope.JINA2
    if "targetPeapod" in body or (isinstance(data, list) and any(isinstance(item, str) for item in data)):
        return Envelope.JINA2
    return Envelope.JINA3


def _data_of(body: dict[str, object]) -> object:
    """The items of a request: a list under ``data``, or under ``data.docs`` as some jina 2 clients send."""
    data = body.get("data")
    if isinstance(data, dict) and "docs" in data:
        return data["docs"]
    return data


def _as_sent(item: object, envelope: Envelope) -> object:
    return _unescaped(item) if envelope is Envelope.JINABOX and isinstance(item, str) else item


def _unescaped(text: str) -> str:
    """What ``answers`` escaped for Jina Box: it puts a clicked caption, entities and all, into its query."""
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    return text


def endpoint_of(body: Mapping[str, Any], path: str) -> Endpoint:
    """What the path, or of /post the body, asks for; raises RequestError where that is nothing known."""
    trimmed = path.rstrip("/")
    name = trimmed.rpartition("/")[2]
    if trimmed == "/post":
        given = _named_endpoint(body)
        if given is None:
            raise RequestError(
                "A request to /post has to name /search, /index, /update or /delete in "
                "'header.exec_endpoint'."
            )
        name = given.strip("/") if isinstance(given, str) else shown(given)
        # What clip-as-service's client asks for comes here alone.
        if (encoding := encoding_of(name)) is not None:
            return encoding.name
    if name not in ("search", "index", "update", "delete"):
        raise RequestError(
            f"{shown('/' + name)} is not an endpoint here; there are /search, /index, /update and /delete.",
            404,
        )
    return cast(Endpoint, name)


def _named_endpoint(body: Mapping[str, Any]) -> object:
    """What a body to /post names, None for nothing."""
    header = body.get("header")
    header = header if isinstance(header, dict) else {}
    candidates = (
        header.get("exec_endpoint"),
        header.get("execEndpoint"),
        body.get("execEndpoint"),
        body.get("exec_endpoint"),
        body.get("mode"),
    )
    return next((candidate for candidate in candidates if candidate is not None), None)


def _model_of(body: Mapping[str, Any]) -> str | None:
    """The model that the endpoint names, None for none."""
    encoding = encoding_of(str(_named_endpoint(body)))
    return None if encoding is None else encoding.model


def _items_of(body: dict[str, object], kind: str, limit: limits.Limit) -> list[object]:
    data = _data_of(body)
    if data is None:
        raise RequestError("'data' is missing; it has to be a list of strings or Document objects.")
    if not isinstance(data, list):
        raise RequestError(f"'data' is {shown(data)}; it has to be a list of strings or Document objects.")
    if not data:
        raise RequestError(f"'data' is an empty list; it has to hold at least one of the {kind}.")
    if len(data) > limit.most:
        raise RequestError(limit.exceeded("'data'", len(data)), 413)
    return data


def _request_id_of(body: Mapping[str, Any]) -> str:
    header = body.get("header")
    holders = [body, header] if isinstance(header, dict) else [body]
    for holder in holders:
        for key in ("requestId", "request_id"):
            given = holder.get(key)
            if isinstance(given, str) and given.isprintable() and 0 < len(given) <= limits.REQUEST_ID.most:
                return given
    return uuid4().hex


def _top_k_of(body: Mapping[str, Any], parameters: Mapping[str, Any]) -> int:
    places = {
        "top_k": body.get("top_k"),
        "parameters.top_k": parameters.get("top_k"),
        "parameters.limit": parameters.get("limit"),
    }
    found = {
        name: whole_number(value, name, minimum=1, maximum=limits.TOP_K.most)
        for name, value in places.items()
        if value is not None
    }
    if len(set(found.values())) > 1:
        given = " and ".join(f"{name} is {value}" for name, value in found.items())
        raise RequestError(f"The request asks for two numbers of results: {given}. Send one.")
    return next(iter(found.values()), _DEFAULT_TOP_K)
