"""The routes that clients of jina 1, 2 and 3 and Jina Box speak to, each answered in its own envelope."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal.errors import RequestError
from crossmodal.http_shapes import (
    DeleteResult,
    IndexResult,
    ParsedDocument,
    ParsedRequest,
    QueryItem,
    QueryResult,
    ShownMatch,
    envelope_of,
    image_url,
    parse_request,
    read_json,
    render_deleted,
    render_error,
    render_index,
    render_results,
)
from crossmodal.match import Match
from crossmodal.query.request import SearchOutcome, SearchRequest
from crossmodal.query.terms import Term
from crossmodal.records import IMAGE, TEXT
from crossmodal.server.contents import content_response, photo_of
from crossmodal.server.guards import read_body, require_writing
from crossmodal.server.problems import Handler, told
from crossmodal.server.routes import JsonResponse, add_route
from crossmodal.server.serving import Serving
from crossmodal.server.writing import delete_records, index_records, record_of

__all__ = ["add_legacy_routes", "legacy_error"]

OVERRIDE_HEADER = "x-envelope"


def add_legacy_routes(app: Starlette, serving: Serving) -> None:
    """Adds /search, /index, /update, /delete, /post and their kin, /status and /images/ID."""
    routes = LegacyRoutes(serving)
    for path in ("/search", "/api/search", "/index", "/api/index", "/post"):
        add_route(app, path, _told(routes.answer), ["POST"])
    # jina 1 changes with PUT and DELETE, later versions with POST.
    for path in ("/update", "/api/update"):
        add_route(app, path, _told(routes.answer), ["POST", "PUT"])
    for path in ("/delete", "/api/delete"):
        add_route(app, path, _told(routes.answer), ["POST", "DELETE"])
    add_route(app, "/status", _told(routes.status), ["GET", "HEAD"])
    add_route(app, "/dry_run", _told(routes.dry_run), ["GET", "HEAD"])
    add_route(app, "/images/{id:path}", _told(routes.image), ["GET", "HEAD"])


class LegacyRoutes:
    """The handlers, over what the server's routes share."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def answer(self, request: Request) -> Response:
        """Answers a search, or writes, as the body and the path ask."""
        started = datetime.now(UTC)
        request.state.body = read_json(await read_body(request))
        parsed = parse_request(
            request.state.body,
            path=request.url.path,
            envelope_override=_override(request),
            host=request.headers.get("host", ""),
        )
        if parsed.endpoint == "search":
            found = await self._search(parsed, str(request.base_url))
            _raise_if_all_failed([result.error for result in found])
            content = render_results(parsed, found, started=started, ended=datetime.now(UTC))
        elif parsed.endpoint == "delete":
            require_writing(request, self._serving)
            deleted = await self._delete(parsed)
            content = render_deleted(parsed, deleted, started=started, ended=datetime.now(UTC))
        else:
            require_writing(request, self._serving)
            indexed = await self._index(parsed)
            _raise_if_all_failed([result.error for result in indexed])
            content = render_index(parsed, indexed, started=started, ended=datetime.now(UTC))
        return JsonResponse(content)

    async def status(self, request: Request) -> Response:
        """What is indexed."""
        status = await asyncio.to_thread(self._serving.engine.workspace.status)
        # Where it lies on this machine is nobody's business.
        return JsonResponse({name: value for name, value in status.items() if name != "path"})

    async def dry_run(self, request: Request) -> Response:
        """What jina 3's client asks before it calls a Flow ready."""
        await self._serving.require_ready()
        return JsonResponse({"code": 0, "description": ""})

    async def image(self, request: Request) -> Response:
        """An indexed photo."""
        content = await photo_of(self._serving.engine.workspace, request.path_params["id"])
        return content_response(request, content)

    async def _search(self, parsed: ParsedRequest, base_url: str) -> list[QueryResult]:
        if self._serving.kind != "query":
            raise RequestError(
                "This server answers /index only; /search is served by `crossmodal serve`.",
                status=404,
            )
        started = time.perf_counter()
        usable = [query for query in parsed.queries if query.refused is None]
        outcomes, _ = await self._serving.search([_request(query, parsed.top_k) for query in usable])
        found = {query.id: outcome for query, outcome in zip(usable, outcomes, strict=True)}
        self._serving.metrics.count_cached_texts(*self._serving.engine.take_cache_counts())
        self._serving.metrics.count_search(len(parsed.queries), time.perf_counter() - started)
        return [_result(query, found.get(query.id), base_url) for query in parsed.queries]

    async def _index(self, parsed: ParsedRequest) -> list[IndexResult]:
        errors: dict[str, str] = {}
        if parsed.endpoint == "update":
            errors = await asyncio.to_thread(self._not_there, parsed.documents)
        usable = [doc for doc in parsed.documents if doc.refused is None and doc.id not in errors]
        # In a thread: hashing large photos would keep all other requests waiting.
        records = await asyncio.to_thread(lambda: [record_of(document) for document in usable])
        written = await index_records(self._serving, records)
        results = []
        for document in parsed.documents:
            refused = document.refused or errors.get(document.id)
            if refused is not None:
                results.append(IndexResult(document, error=refused))
            else:
                outcome = written[document.id]
                results.append(IndexResult(document, outcome=outcome.outcome, error=outcome.error))
        return results

    def _not_there(self, documents: Sequence[ParsedDocument]) -> dict[str, str]:
        """Why a document cannot be updated, by id: an update changes what is there and adds nothing."""
        usable = [document for document in documents if document.refused is None]
        there = {
            (modality, id)
            for modality in (IMAGE, TEXT)
            for id in self._serving.engine.workspace.records(
                [document.id for document in usable if document.modality == modality], modality
            )
        }
        return {
            document.id: f"There is no {'photo' if document.modality == IMAGE else 'caption'} with the id "
            f"{document.id[:80]!r} to update; add it with /index."
            for document in usable
            if (document.modality, document.id) not in there
        }

    async def _delete(self, parsed: ParsedRequest) -> list[DeleteResult]:
        deleted = await delete_records(self._serving, parsed.ids, captions=True)
        return [DeleteResult(id, id in deleted) for id in parsed.ids]


def legacy_error(request: Request, message: str, status: int) -> Response:
    """The envelope that tells an error to the client whose shape the request had."""
    body = getattr(request.state, "body", None)
    envelope = envelope_of(body, request.url.path, _override(request))
    return JsonResponse(render_error(message, envelope=envelope, status=status), status_code=status)


def _told(answer: Handler) -> Handler:
    """Turns every error into an envelope that the client can read."""
    return told(answer, lambda request, problem: legacy_error(request, problem["detail"], problem["status"]))


def _raise_if_all_failed(errors: Sequence[str | None]) -> None:
    first = errors[0]
    if first is not None and None not in errors:
        raise RequestError(first, status=422)


def _override(request: Request) -> str | None:
    return request.headers.get(OVERRIDE_HEADER) or request.query_params.get("envelope")


def _request(query: QueryItem, top_k: int) -> SearchRequest:
    """The search that a client of jina means: a sentence finds photos, a photo finds captions."""
    if query.indexed_id is not None:
        term, target = Term(id=query.indexed_id), TEXT
    elif query.modality == IMAGE:
        term, target = Term(image=query.content or b""), TEXT
    else:
        term, target = Term(text=query.text or ""), IMAGE
    return SearchRequest((term,), modality=target, top_k=top_k, fields=frozenset())


def _result(query: QueryItem, outcome: SearchOutcome | None, base_url: str) -> QueryResult:
    if outcome is None:
        return QueryResult(query, error=query.refused)
    if outcome.error is not None:
        return QueryResult(query, error=str(outcome.error))
    return QueryResult(query, tuple(_shown(match, base_url) for match in outcome.matches))


def _shown(match: Match, base_url: str) -> ShownMatch:
    # A path of this machine is nobody's business; the photo itself has an address here.
    is_photo = match.modality == IMAGE
    url = image_url(match.photo_id, base_url) if match.photo_id else None
    tags = dict(match.tags)
    if match.uri:
        tags.setdefault("file", Path(match.uri).name)
    if url and not is_photo:
        tags.setdefault("photo", url)
    return ShownMatch(
        id=match.id,
        modality=match.modality,
        cosine=match.cosine,
        text=match.text,
        uri=url if is_photo else None,
        mime_type=match.mime_type,
        tags=tags,
    )
