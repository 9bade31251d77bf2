"""Results and errors to the envelope of each client.

Every answer is plain JSON. Jina 1 and 2 leave empty fields out, jina 3 sends them as null; ``matches``
is there always, because clients (Jina Box among them) read it without looking.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from crossmodal.http_shapes.image_urls import image_url
from crossmodal.http_shapes.shapes import (
    DeleteResult,
    Envelope,
    IndexResult,
    ParsedRequest,
    QueryItem,
    QueryResult,
    ShownMatch,
)
from crossmodal.records import IMAGE, Modality

__all__ = ["render_deleted", "render_error", "render_index", "render_results"]

_MIME_TYPES: Mapping[Modality, str] = {"image": "image/jpeg", "text": "text/plain"}
_ERROR_CODE = 1


def render_results(
    parsed: ParsedRequest, results: Sequence[QueryResult], *, started: datetime, ended: datetime
) -> dict[str, Any]:
    """The answer to a search: one document a query, in the order asked, each with its matches.

    A query with an error keeps its place, without matches and with the sentence in ``tags.error``; only
    where all failed does the envelope as a whole say so. Jina Box gets only the queries that have
    matches, as any other one hangs it, with a description of those that are missing, and an error where
    none has.
    """
    results = [replace(result, matches=()) if result.error else result for result in results]
    description = _overall_error([result.error for result in results])
    if parsed.envelope is Envelope.JINABOX:
        return _jinabox(parsed, results, description)
    if parsed.envelope is Envelope.JINA1:
        docs = [_compact(_jina1_query(result), keep=("matches",)) for result in results]
        return _jina1(parsed, docs, description, started, ended)
    if parsed.envelope is Envelope.JINA2:
        docs = [_compact(_jina2_query(result), keep=("matches", "scores")) for result in results]
        return _jina2(parsed, docs, description)
    return _jina3(parsed, [_jina3_query(result) for result in results], description, started, ended)


def render_index(
    parsed: ParsedRequest, results: Sequence[IndexResult], *, started: datetime, ended: datetime
) -> dict[str, Any]:
    """The answer to an index request: one document each, with ``outcome`` or ``error`` in its tags.

    Photos are not sent back.
    """
    description = _overall_error([result.error for result in results])
    docs: list[dict[str, Any]] = []
    for result in results:
        document = result.document
        mime_type = document.mime_type or _MIME_TYPES[document.modality]
        tags: dict[str, Any] = {"outcome": result.outcome} if result.outcome else {}
        if result.error:
            tags["error"] = result.error
        if parsed.envelope is Envelope.JINA3:
            doc = {"id": document.id, "text": document.text, "mime_type": mime_type, "uri": None}
            docs.append({**doc, "matches": [], "tags": tags})
        else:
            docs.append(
                _compact({"id": document.id, "mimeType": mime_type, "text": document.text, "tags": tags})
            )
    return _written(parsed, docs, description, started, ended)


def render_deleted(
    parsed: ParsedRequest, results: Sequence[DeleteResult], *, started: datetime, ended: datetime
) -> dict[str, Any]:
    """The answer to a delete request: one document an id, with the outcome deleted or missing in its tags."""
    docs: list[dict[str, Any]] = []
    for result in results:
        tags = {"outcome": "deleted" if result.deleted else "missing"}
        if parsed.envelope is Envelope.JINA3:
            doc = {"id": result.id, "text": None, "mime_type": None, "uri": None}
            docs.append({**doc, "matches": [], "tags": tags})
        else:
            docs.append({"id": result.id, "tags": tags})
    return _written(parsed, docs, None, started, ended)


def _written(
    parsed: ParsedRequest,
    docs: list[dict[str, Any]],
    description: str | None,
    started: datetime,
    ended: datetime,
) -> dict[str, Any]:
    if parsed.envelope is Envelope.JINA1:
        return _jina1(parsed, docs, description, started, ended)
    if parsed.envelope is Envelope.JINA2:
        return _jina2(parsed, docs, description)
    if parsed.envelope is Envelope.JINA3:
        return _jina3(parsed, docs, description, started, ended)
    return {
        "requestId": parsed.request_id,
        "status": _status(_escaped(description) if description else None),
        "routes": [],
        parsed.endpoint: {"docs": _escaped(docs)},
        "data": {"docs": _escaped(docs), "groundtruths": []},
    }


def render_error(
    message: str, *, envelope: Envelope | None, status: int, request_id: str | None = None
) -> dict[str, Any]:
    """The answer that tells an error, ``status`` being its HTTP status.

    Without an envelope (the body could not be read) it is the one of Jina Box, which alone hangs on others.
    """
    identity = request_id or uuid4().hex
    if envelope is Envelope.JINA1:
        return {"requestId": identity, "search": {"docs": []}, "status": _status(message), "routes": []}
    if envelope is Envelope.JINA2:
        return {"requestId": identity, "data": {"docs": [], "groundtruths": []}, "status": _status(message)}
    if envelope is Envelope.JINA3:
        header_status = {
            **_jina3_status(message),
            "exception": {"name": "RequestError", "args": [f"HTTP {status}"]},
        }
        header = {"requestId": identity, "status": header_status, "execEndpoint": "", "targetExecutor": ""}
        return {"header": header, "parameters": {}, "routes": [], "data": []}
    return {
        "requestId": identity,
        "status": _status(_escaped(message)),
        "search": {"docs": []},
        "data": {"docs": [], "groundtruths": []},
    }


def _jinabox(
    parsed: ParsedRequest, results: Sequence[QueryResult], description: str | None
) -> dict[str, Any]:
    docs = [_jinabox_query(result) for result in results if result.matches]
    if not docs:
        failed = next((result.error for result in results if result.error), None)
        message = description or failed or "Nothing was found: the index holds nothing to compare this with."
        return render_error(message, envelope=Envelope.JINABOX, status=200, request_id=parsed.request_id)
    errors = [result.error for result in results if result.error]
    told = f"{len(errors)} of {len(results)} queries failed; the first: {errors[0]}" if errors else None
    return {
        "requestId": parsed.request_id,
        # Without a code: Jina Box would take it for an error of the whole.
        "status": {"description": _escaped(told)} if told else {},
        "routes": [],
        "search": {"docs": docs},
        "data": {"docs": docs, "groundtruths": []},
    }


def _jinabox_query(result: QueryResult) -> dict[str, Any]:
    query = result.query
    mime_type = _query_mime_type(query)
    doc = {"id": query.id, "mimeType": mime_type, "mime_type": mime_type}
    if query.modality == IMAGE:
        # It becomes a CSS url(...); the upload itself would be sent back twice.
        doc["uri"] = _query_uri(query) or ""
    else:
        doc["text"] = _escaped(query.text or "")
    return {**doc, "matches": [_jinabox_match(match, query.id) for match in result.matches]}


def _jinabox_match(match: ShownMatch, query_id: str) -> dict[str, Any]:
    mime_type = match.mime_type or _MIME_TYPES[match.modality]
    return {
        "id": match.id,
        "uri": _attribute_safe(match.uri or ""),
        "text": _escaped(match.text or ""),
        "mimeType": mime_type,
        "mime_type": mime_type,
        "score": {"value": match.cosine, "opName": "cosine", "refId": query_id},
        "scores": {"cosine": {"value": match.cosine, "refId": query_id}},
        "tags": _escaped(dict(match.tags)),
    }


def _jina1_query(result: QueryResult) -> dict[str, Any]:
    query = result.query
    matches = [
        _compact(
            {
                "id": match.id,
                "uri": match.uri,
                "mimeType": match.mime_type or _MIME_TYPES[match.modality],
                "text": match.text,
                "tags": dict(match.tags),
                "score": {"value": match.cosine, "opName": "cosine", "refId": query.id},
            }
        )
        for match in result.matches
    ]
    return {
        "id": query.id,
        "weight": 1.0,
        "mimeType": _query_mime_type(query),
        "text": query.text,
        "uri": _query_uri(query),
        "tags": _error_tags(result),
        "matches": matches,
    }


def _jina2_query(result: QueryResult) -> dict[str, Any]:
    query = result.query
    matches = [
        _compact(
            {
                "id": match.id,
                "uri": match.uri,
                "mimeType": match.mime_type or _MIME_TYPES[match.modality],
                "text": match.text,
                "tags": dict(match.tags),
                "adjacency": 1,
                "scores": {"cosine": {"value": match.cosine, "refId": query.id}},
            }
        )
        for match in result.matches
    ]
    return {
        "id": query.id,
        "mimeType": _query_mime_type(query),
        "text": query.text,
        "uri": _query_uri(query),
        "tags": _error_tags(result),
        "scores": {},
        "matches": matches,
    }


def _jina3_query(result: QueryResult) -> dict[str, Any]:
    query = result.query
    # The recorded answers have null here for a text query.
    mime_type = None if query.modality != IMAGE else _query_mime_type(query)
    doc: dict[str, Any] = {
        "id": query.id,
        "text": query.text,
        "mime_type": mime_type,
        "uri": _query_uri(query),
        # docarray from 0.30 on reads this name.
        "url": _query_uri(query),
    }
    if result.error:
        doc["tags"] = _error_tags(result)
    doc["matches"] = [
        {
            "id": match.id,
            "uri": match.uri,
            "url": match.uri,
            "mime_type": match.mime_type or _MIME_TYPES[match.modality],
            "text": match.text,
            "tags": dict(match.tags),
            "scores": {"cosine": {"value": match.cosine}},
        }
        for match in result.matches
    ]
    return doc


def _jina1(
    parsed: ParsedRequest,
    docs: list[dict[str, Any]],
    description: str | None,
    started: datetime,
    ended: datetime,
) -> dict[str, Any]:
    route = {"pod": "gateway", "startTime": _timestamp(started), "endTime": _timestamp(ended)}
    answer: dict[str, Any] = {"requestId": parsed.request_id, parsed.endpoint: {"docs": docs}}
    return {**answer, "status": _status(description), "routes": [route]}


def _jina2(parsed: ParsedRequest, docs: list[dict[str, Any]], description: str | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"requestId": parsed.request_id, "data": {"docs": docs, "groundtruths": []}}
    return {**answer, "status": _status(description)} if description else answer


def _jina3(
    parsed: ParsedRequest,
    docs: list[dict[str, Any]],
    description: str | None,
    started: datetime,
    ended: datetime,
) -> dict[str, Any]:
    header = {
        "requestId": parsed.request_id,
        "status": _jina3_status(description) if description else None,
        "execEndpoint": f"/{parsed.endpoint}",
        "targetExecutor": "",
    }
    route = {
        "executor": "gateway",
        "startTime": _timestamp(started),
        "endTime": _timestamp(ended),
        "status": None,
    }
    parameters = _with_floats(dict(parsed.parameters))
    return {"header": header, "parameters": parameters, "routes": [route], "data": docs}


def _overall_error(errors: Sequence[str | None]) -> str | None:
    """What the envelope as a whole reports: nothing as long as one part could be answered."""
    failed = [error for error in errors if error]
    if not failed or len(failed) < len(errors):
        return None
    others = f" ({len(failed) - 1} more failed as well.)" if len(failed) > 1 else ""
    return failed[0] + others


def _error_tags(result: QueryResult) -> dict[str, str]:
    return {"error": result.error} if result.error else {}


def _status(description: str | None) -> dict[str, str]:
    return {"code": "ERROR", "description": description} if description else {}


def _jina3_status(description: str) -> dict[str, Any]:
    return {"code": _ERROR_CODE, "description": description}


def _query_mime_type(query: QueryItem) -> str:
    return query.mime_type or _MIME_TYPES[query.modality]


def _query_uri(query: QueryItem) -> str | None:
    return image_url(query.indexed_id) if query.indexed_id else None


def _compact(fields: Mapping[str, Any], keep: tuple[str, ...] = ()) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in keep or value not in (None, "", {}, [])}


def _escaped(value: Any) -> Any:
    """Text for innerHTML. Quotes stay as they are: Jina Box copies a clicked caption into its query."""
    if isinstance(value, str):
        return html.escape(value, quote=False)
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value


def _attribute_safe(uri: str) -> str:
    """An address that cannot leave the quoted ``src`` attribute that Jina Box puts it in."""
    for character, encoded in (('"', "%22"), ("<", "%3C"), (">", "%3E"), ("'", "%27")):
        uri = uri.replace(character, encoded)
    return uri


def _with_floats(value: Any) -> Any:
    """Numbers as jina 3 repeats them: all floats, as its protobuf Struct knows no integers."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, Mapping):
        return {key: _with_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_floats(item) for item in value]
    return value


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
