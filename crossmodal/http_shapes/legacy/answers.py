"""Results and errors to the envelope of each client.

Every answer is plain JSON. Jina 1 and 2 leave empty fields out, jina 3 sends them as null; ``matches``
is there always, because clients (Jina Box among them) read it without looking.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from crossmodal import limits
from crossmodal.http_shapes.legacy.encoding import rendered_items
from crossmodal.http_shapes.legacy.items import DocumentItem, QueryItem
from crossmodal.http_shapes.legacy.requests import Envelope, LegacyRequest
from crossmodal.http_shapes.photos import image_url
from crossmodal.match import Match
from crossmodal.records import IMAGE, Modality

__all__ = [
    "render_deleted",
    "render_encoded",
    "render_error",
    "render_index",
    "render_results",
    "shown_match",
]

_MIME_TYPES: Mapping[Modality, str] = {"image": "image/jpeg", "text": "text/plain"}

Json = dict[str, Any]

_TRUNCATED = (
    f"The answer ends after {limits.ANSWER.most >> 20} MiB of texts and tags; ask for fewer matches with "
    "top_k, or index documents with fewer tags."
)


def shown_match(match: Match, base_url: str, key: str | None = None) -> Match:
    """``match`` as these clients see it: ``uri`` is the address of a photo on this server, at ``base_url``.

    ``key`` is the one that the client's own address held, and goes into those of the photos.
    The tag ``file`` is the name of the photo's file, the tag ``photo`` of a caption the address of its photo.
    """
    # A path of this machine stays on this machine; the photo itself has an address here.
    is_photo = match.modality == IMAGE
    url = image_url(match.photo_id, base_url, key) if match.photo_id else None
    if url and match.video is not None:
        # Players begin there; a browser keeps it to itself.
        url += f"#t={match.video.time_seconds:g}"
    tags = dict(match.tags)
    if match.uri:
        tags.setdefault("file", Path(match.uri).name)
    if url and not is_photo:
        tags.setdefault("photo", url)
    return replace(match, uri=url if is_photo else None, tags=tags)


def render_results(
    request: LegacyRequest, queries: Sequence[QueryItem], *, started: datetime, ended: datetime
) -> Json:
    """The answer to a search: one document a query, in the order asked, each with its matches.

    A query with an error keeps its place, without matches and with the sentence in ``tags.error``; only
    where all failed does the envelope as a whole say so. Jina Box gets only the queries that have
    matches, as any other one hangs it, with a description of those that are missing, and an error where
    none has.
    """
    queries = [replace(query, matches=()) if query.error else query for query in queries]
    description = _overall_error([query.error for query in queries])
    if request.envelope is Envelope.JINABOX:
        return _jinabox(request, queries, description)
    render = {
        Envelope.JINA1: _jina1_query,
        Envelope.JINA2: _jina2_query,
        Envelope.JINA3: _jina3_query,
    }[request.envelope]
    return _enveloped(request, [render(query) for query in queries], description, started, ended)


def render_index(
    request: LegacyRequest, documents: Sequence[DocumentItem], *, started: datetime, ended: datetime
) -> Json:
    """The answer to an index request: one document each, with ``outcome`` or ``error`` in its tags.

    Photos are not sent back.
    """
    docs: list[Json] = []
    for document in documents:
        record = document.record
        mime_type = record.mime_type or _MIME_TYPES[record.modality]
        tags = {"outcome": document.outcome, "error": document.error}
        tags = {name: value for name, value in tags.items() if value}
        if request.envelope is Envelope.JINA3:
            docs.append(_jina3_written(record.id, tags, record.text, mime_type))
        else:
            docs.append(_compact({"id": record.id, "mimeType": mime_type, "text": record.text, "tags": tags}))
    description = _overall_error([document.error for document in documents])
    return _enveloped(request, docs, description, started, ended)


def render_deleted(
    request: LegacyRequest, deleted: Collection[str], *, started: datetime, ended: datetime
) -> Json:
    """The answer to a delete request: one document an id, with the outcome deleted or missing in its tags."""
    docs: list[Json] = []
    for id in request.ids:
        tags = {"outcome": "deleted" if id in deleted else "missing"}
        docs.append(
            _jina3_written(id, tags) if request.envelope is Envelope.JINA3 else {"id": id, "tags": tags}
        )
    return _enveloped(request, docs, None, started, ended)


def render_encoded(
    request: LegacyRequest, vectors: Sequence[NDArray[np.float32]], *, started: datetime, ended: datetime
) -> Json:
    """The answer to an encode or rank request, from the vectors of what it brings (``inputs_of``)."""
    return _enveloped(request, rendered_items(request.encoded, vectors), None, started, ended)


def render_error(
    message: str, *, envelope: Envelope | None, status: int, request_id: str | None = None
) -> Json:
    """The answer to a request that failed as a whole, ``status`` being its HTTP status.

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


def _enveloped(
    request: LegacyRequest, docs: list[Json], description: str | None, started: datetime, ended: datetime
) -> Json:
    answer: Json = {"requestId": request.request_id}
    times = {"startTime": _timestamp(started), "endTime": _timestamp(ended)}
    if request.envelope is Envelope.JINA1:
        answer |= {request.endpoint: {"docs": docs}, "status": _status(description)}
        return answer | {"routes": [{"pod": "gateway", **times}]}
    if request.envelope is Envelope.JINA2:
        answer |= {"data": {"docs": docs, "groundtruths": []}}
        return answer | {"status": _status(description)} if description else answer
    if request.envelope is Envelope.JINA3:
        header = {
            "requestId": request.request_id,
            "status": _jina3_status(description) if description else None,
            "execEndpoint": f"/{request.endpoint}",
            "targetExecutor": "",
        }
        return {
            "header": header,
            "parameters": _with_floats(dict(request.parameters)),
            "routes": [{"executor": "gateway", **times, "status": None}],
            "data": docs,
        }
    return {
        "requestId": request.request_id,
        "status": _status(_escaped(description)),
        "routes": [],
        request.endpoint: {"docs": _escaped(docs)},
        "data": {"docs": _escaped(docs), "groundtruths": []},
    }


def _jinabox(request: LegacyRequest, queries: Sequence[QueryItem], description: str | None) -> Json:
    docs = [_jinabox_query(query) for query in queries if query.matches]
    errors = [query.error for query in queries if query.error]
    if not docs:
        message = description or next(
            iter(errors), "Nothing was found: the index holds nothing to compare this with."
        )
        return render_error(message, envelope=Envelope.JINABOX, status=200, request_id=request.request_id)
    some = f"{len(errors)} of {len(queries)} queries failed; the first: {errors[0]}" if errors else None
    if any(query.truncated for query in queries):
        some = some or _TRUNCATED
    return {
        "requestId": request.request_id,
        # Without a code: Jina Box would take it for an error of the whole.
        "status": {"description": _escaped(some)} if some else {},
        "routes": [],
        "search": {"docs": docs},
        "data": {"docs": docs, "groundtruths": []},
    }


def _jinabox_query(query: QueryItem) -> Json:
    mime_type = _mime_type(query)
    doc = {"id": query.id, "mimeType": mime_type, "mime_type": mime_type}
    if query.modality == IMAGE:
        # It becomes a CSS url(...); the upload itself would be sent back twice.
        doc["uri"] = _query_uri(query) or ""
    else:
        doc["text"] = _escaped(query.text or "")
    return {**doc, "matches": [_jinabox_match(match, query.id) for match in query.matches]}


def _jinabox_match(match: Match, query_id: str) -> Json:
    mime_type = _mime_type(match)
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


def _jina1_query(query: QueryItem) -> Json:
    matches = [
        _compact(
            {
                **_match_fields(match),
                "score": {"value": match.cosine, "opName": "cosine", "refId": query.id},
            }
        )
        for match in query.matches
    ]
    fields = {"id": query.id, "weight": 1.0, **_query_fields(query)}
    return {**_compact(fields), "matches": matches}


def _jina2_query(query: QueryItem) -> Json:
    matches = [
        _compact(
            {
                **_match_fields(match),
                "adjacency": 1,
                "scores": {"cosine": {"value": match.cosine, "refId": query.id}},
            }
        )
        for match in query.matches
    ]
    return {**_compact({"id": query.id, **_query_fields(query)}), "scores": {}, "matches": matches}


def _query_fields(query: QueryItem) -> Json:
    return {
        "mimeType": _mime_type(query),
        "text": query.text,
        "uri": _query_uri(query),
        "tags": _query_tags(query),
    }


def _match_fields(match: Match) -> Json:
    return {
        "id": match.id,
        "uri": match.uri,
        "mimeType": _mime_type(match),
        "text": match.text,
        "tags": dict(match.tags),
    }


def _jina3_query(query: QueryItem) -> Json:
    # The recorded answers have null as the type of a text query.
    mime_type = _mime_type(query) if query.modality == IMAGE else None
    doc: Json = {
        "id": query.id,
        "text": query.text,
        "mime_type": mime_type,
        "uri": _query_uri(query),
        # docarray from 0.30 on reads this name.
        "url": _query_uri(query),
    }
    if tags := _query_tags(query):
        doc["tags"] = tags
    doc["matches"] = [
        {
            "id": match.id,
            "uri": match.uri,
            "url": match.uri,
            "mime_type": _mime_type(match),
            "text": match.text,
            "tags": dict(match.tags),
            "scores": {"cosine": {"value": match.cosine}},
        }
        for match in query.matches
    ]
    return doc


def _jina3_written(id: str, tags: Json, text: str | None = None, mime_type: str | None = None) -> Json:
    return {"id": id, "text": text, "mime_type": mime_type, "uri": None, "matches": [], "tags": tags}


def _overall_error(errors: Sequence[str | None]) -> str | None:
    """What the envelope as a whole reports: nothing as long as one part could be answered."""
    failed = [error for error in errors if error]
    if not failed or len(failed) < len(errors):
        return None
    others = f" ({len(failed) - 1} more failed as well.)" if len(failed) > 1 else ""
    return failed[0] + others


def _query_tags(query: QueryItem) -> dict[str, str]:
    """Why it has no matches, or not all of them."""
    if query.error:
        return {"error": query.error}
    return {"truncated": _TRUNCATED} if query.truncated else {}


def _status(description: str | None) -> dict[str, str]:
    return {"code": "ERROR", "description": description} if description else {}


def _jina3_status(description: str) -> Json:
    return {"code": 1, "description": description}


def _mime_type(item: QueryItem | Match) -> str:
    return item.mime_type or _MIME_TYPES[item.modality]


def _query_uri(query: QueryItem) -> str | None:
    return image_url(query.indexed_id) if query.indexed_id else None


def _compact(fields: Mapping[str, Any]) -> Json:
    return {name: value for name, value in fields.items() if value not in (None, "", {}, [])}


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
