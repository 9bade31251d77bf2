"""Request bodies of jina 1, 2, 3 and Jina Box to one plain request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast
from uuid import uuid4

from crossmodal.errors import RequestError
from crossmodal.http_shapes.envelopes import data_of, envelope_of, named_envelope
from crossmodal.http_shapes.items import parse_documents, parse_query
from crossmodal.http_shapes.shapes import Endpoint, Envelope, Limits, ParsedDocument, ParsedRequest, QueryItem
from crossmodal.http_shapes.values import checked_id, plain_json, shown, whole_number
from crossmodal.records import TEXT

__all__ = ["parse_request"]

_MAX_REQUEST_ID_CHARACTERS = 128
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))


def parse_request(
    body: object,
    *,
    path: str,
    envelope_override: str | None = None,
    host: str | None = None,
    limits: Limits | None = None,
) -> ParsedRequest:
    """The request in ``body`` (parsed JSON) sent to ``path``; ``host`` is the request's Host header.

    A single item that cannot be used is marked ``refused`` and the others go on; where none can be
    used, RequestError says why of the first. RequestError is the only error raised, for any JSON value.
    """
    limits = limits or Limits()
    named_envelope(envelope_override)
    envelope = envelope_of(body, path, envelope_override)
    if not isinstance(body, dict):
        raise RequestError(f"The body is {shown(body)}; it has to be a JSON object with a list under 'data'.")
    endpoint = _endpoint_of(body, path)
    parameters = body.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise RequestError(f"'parameters' is {shown(parameters)}; it has to be an object.")
    request = ParsedRequest(
        endpoint=endpoint,
        envelope=envelope,
        request_id=_request_id_of(body),
        top_k=_top_k_of(body, parameters or {}, limits),
        parameters=plain_json(parameters or {}, "'parameters'"),
    )
    if endpoint == "search":
        items = _items_of(body, "queries", limits.max_queries)
        return replace(request, queries=_queries(items, envelope, limits, host))
    if endpoint == "delete":
        return replace(request, ids=_ids_of(body, limits))
    items = _items_of(body, "documents", limits.max_documents)
    return replace(request, documents=_documents(items, limits))


def _queries(
    items: list[object], envelope: Envelope, limits: Limits, host: str | None
) -> tuple[QueryItem, ...]:
    queries: list[QueryItem] = []
    errors: list[RequestError] = []
    seen: set[str] = set()
    for position, item in enumerate(items):
        if envelope is Envelope.JINABOX and isinstance(item, str):
            item = _unescaped(item)
        try:
            query = parse_query(item, position, limits=limits, host=host)
            if query.id in seen:
                raise RequestError(f"data[{position}] has the id {shown(query.id)} of an earlier query.")
            seen.add(query.id)
        except RequestError as error:
            errors.append(error)
            query = QueryItem(uuid4().hex, TEXT, refused=str(error))
        queries.append(query)
    if len(errors) == len(queries):
        raise errors[0]
    return tuple(queries)


def _documents(items: list[object], limits: Limits) -> tuple[ParsedDocument, ...]:
    documents: list[ParsedDocument] = []
    errors: list[RequestError] = []
    seen: set[str] = set()
    for position, item in enumerate(items):
        try:
            parsed = parse_documents(item, position, limits=limits)
            for document in parsed:
                if document.id in seen:
                    raise RequestError(
                        f"data[{position}] has the id {shown(document.id)} of an earlier document."
                    )
                seen.add(document.id)
        except RequestError as error:
            errors.append(error)
            parsed = [ParsedDocument(uuid4().hex, TEXT, refused=str(error))]
        documents.extend(parsed)
    if len(errors) == len(items):
        raise errors[0]
    return tuple(documents)


def _ids_of(body: dict[str, object], limits: Limits) -> tuple[str, ...]:
    """The ids to delete: ``ids``, or ``data`` with ids or with Documents that have one."""
    listed = body.get("ids")
    if listed is not None and body.get("data") in (None, []):
        body = {"data": listed}
    ids = []
    for position, item in enumerate(_items_of(body, "ids", limits.max_documents)):
        given = item.get("id") if isinstance(item, dict) else item
        ids.append(checked_id(given, f"The id of data[{position}]"))
    return tuple(dict.fromkeys(ids))


def _unescaped(text: str) -> str:
    """What ``answers`` escaped for Jina Box: it puts a clicked caption, entities and all, into its query."""
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    return text


def _endpoint_of(body: Mapping[str, Any], path: str) -> Endpoint:
    trimmed = path.rstrip("/")
    name = trimmed.rpartition("/")[2]
    if trimmed == "/post":
        header = body.get("header")
        header = header if isinstance(header, dict) else {}
        candidates = (
            header.get("exec_endpoint"),
            header.get("execEndpoint"),
            body.get("execEndpoint"),
            body.get("exec_endpoint"),
            body.get("mode"),
        )
        given = next((candidate for candidate in candidates if candidate is not None), None)
        if given is None:
            raise RequestError(
                "A request to /post has to name /search, /index, /update or /delete in "
                "'header.exec_endpoint'."
            )
        name = given.strip("/") if isinstance(given, str) else shown(given)
    if name not in ("search", "index", "update", "delete"):
        raise RequestError(
            f"{shown('/' + name)} is not an endpoint here; there are /search, /index, /update and /delete.",
            404,
        )
    return cast(Endpoint, name)


def _items_of(body: dict[str, object], kind: str, limit: int) -> list[object]:
    data = data_of(body)
    if data is None:
        raise RequestError("'data' is missing; it has to be a list of strings or Document objects.")
    if not isinstance(data, list):
        raise RequestError(f"'data' is {shown(data)}; it has to be a list of strings or Document objects.")
    if not data:
        raise RequestError(f"'data' is an empty list; it has to hold at least one of the {kind}.")
    if len(data) > limit:
        raise RequestError(f"'data' holds {len(data):,} {kind}; the limit is {limit} in one request.", 413)
    return data


def _request_id_of(body: Mapping[str, Any]) -> str:
    header = body.get("header")
    holders = [body, header] if isinstance(header, dict) else [body]
    for holder in holders:
        for key in ("requestId", "request_id"):
            given = holder.get(key)
            if (
                isinstance(given, str)
                and given.isprintable()
                and 0 < len(given) <= _MAX_REQUEST_ID_CHARACTERS
            ):
                return given
    return uuid4().hex


def _top_k_of(body: Mapping[str, Any], parameters: Mapping[str, Any], limits: Limits) -> int:
    places = {
        "top_k": body.get("top_k"),
        "parameters.top_k": parameters.get("top_k"),
        "parameters.limit": parameters.get("limit"),
    }
    found = {
        name: whole_number(value, name, minimum=1, maximum=limits.max_top_k)
        for name, value in places.items()
        if value is not None
    }
    if len(set(found.values())) > 1:
        given = " and ".join(f"{name} is {value}" for name, value in found.items())
        raise RequestError(f"The request asks for two numbers of results: {given}. Send one.")
    return next(iter(found.values()), limits.default_top_k)
