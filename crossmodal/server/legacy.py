"""The routes that clients of jina 1, 2 and 3 and Jina Box speak to, each answered in its own envelope."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal.engine.indexing import Indexed
from crossmodal.errors import RequestError
from crossmodal.http_shapes.legacy.answers import (
    render_deleted,
    render_encoded,
    render_error,
    render_index,
    render_results,
    shown_match,
)
from crossmodal.http_shapes.legacy.encoding import inputs_of
from crossmodal.http_shapes.legacy.items import DocumentItem, QueryItem
from crossmodal.http_shapes.legacy.requests import (
    LegacyRequest,
    endpoint_of,
    envelope_of,
    parse_request,
    photo_urls,
)
from crossmodal.http_shapes.v1.embeddings import is_served, no_such_model
from crossmodal.http_shapes.values import read_json
from crossmodal.query.expression import Term
from crossmodal.query.request import SearchOutcome, SearchRequest
from crossmodal.records import IMAGE, MODALITIES, TEXT
from crossmodal.server.access.arrivals import URL_KEY
from crossmodal.server.access.locations import hide_locations, sees_locations
from crossmodal.server.contents import photo_response
from crossmodal.server.guards import read_body, require_writing
from crossmodal.server.routes import JsonResponse, add_route, asked_envelope, retry_headers
from crossmodal.server.serving import Serving
from crossmodal.url_photos import FetchedPhotos

__all__ = ["add_legacy_routes", "legacy_error"]


def add_legacy_routes(app: Starlette, serving: Serving) -> None:
    """Adds /search, /index, /update, /delete, /post and their kin, /status and /images/ID."""
    routes = _LegacyRoutes(serving)
    for paths, handler, methods in (
        (("/search", "/api/search", "/index", "/api/index", "/post"), routes.answer, ["POST"]),
        # jina 1 changes with PUT and DELETE, later versions with POST.
        (("/update", "/api/update"), routes.answer, ["POST", "PUT"]),
        (("/delete", "/api/delete"), routes.answer, ["POST", "DELETE"]),
        (("/status",), routes.status, ["GET", "HEAD"]),
        (("/dry_run",), routes.dry_run, ["GET", "HEAD"]),
        (("/images/{id:path}",), routes.image, ["GET", "HEAD"]),
    ):
        for path in paths:
            add_route(app, path, handler, methods, _envelope_of_problem)


class _LegacyRoutes:
    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def answer(self, request: Request) -> Response:
        """Answers a search, or writes, as the body and the path ask."""
        started = datetime.now(UTC)
        request.state.body = read_json(await read_body(request))
        async with self._fetched(request) as fetched:
            parsed = parse_request(
                request.state.body,
                path=request.url.path,
                envelope_override=asked_envelope(request),
                host=request.headers.get("host", ""),
                fetched=fetched,
            )
            return JsonResponse(await self._answer(request, parsed, started))

    async def _answer(self, request: Request, parsed: LegacyRequest, started: datetime) -> Any:
        if parsed.endpoint == "search":
            key = getattr(request.state, URL_KEY, None)
            hidden = not sees_locations(request.scope, self._serving.settings)
            queries = await self._search(parsed, str(request.base_url), key, hidden)
            _raise_if_all_failed([query.error for query in queries])
            return render_results(parsed, queries, started=started, ended=datetime.now(UTC))
        if parsed.endpoint in ("encode", "rank"):
            vectors = await self._encode(parsed)
            return render_encoded(parsed, vectors, started=started, ended=datetime.now(UTC))
        if parsed.endpoint == "delete":
            require_writing(request, self._serving)
            with self._serving.admission.writes.take():
                deleted = set(await self._serving.delete(parsed.ids, captions=True))
            return render_deleted(parsed, deleted, started=started, ended=datetime.now(UTC))
        require_writing(request, self._serving)
        with self._serving.admission.writes.take():
            documents = await self._index(parsed)
        _raise_if_all_failed([document.error for document in documents])
        return render_index(parsed, documents, started=started, ended=datetime.now(UTC))

    async def status(self, request: Request) -> Response:
        """What is indexed."""
        status = await asyncio.to_thread(self._serving.engine.workspace.status)
        # Its path stays on this machine.
        return JsonResponse({name: value for name, value in status.items() if name != "path"})

    async def dry_run(self, request: Request) -> Response:
        """What jina 3's client asks before it calls a Flow ready."""
        await self._serving.require_ready()
        return JsonResponse({"code": 0, "description": ""})

    async def image(self, request: Request) -> Response:
        """An indexed photo."""
        hidden = not sees_locations(request.scope, self._serving.settings)
        return await photo_response(request, self._serving, request.path_params["id"], hide_location=hidden)

    @asynccontextmanager
    async def _fetched(self, request: Request) -> AsyncIterator[FetchedPhotos | None]:
        """What came from the URLs of the request's photos; None where this server fetches nothing."""
        if self._serving.url_photos is None:
            yield None
            return
        body, path = request.state.body, request.url.path
        urls = photo_urls(
            body, path=path, envelope_override=asked_envelope(request), host=request.headers.get("host", "")
        )
        if urls and endpoint_of(body, path) not in ("search", "encode", "rank"):
            require_writing(request, self._serving)
        async with self._serving.url_photos.fetched(urls) as photos:
            yield photos

    def _require_searching(self) -> None:
        if self._serving.kind != "query":
            raise RequestError(
                "This server answers /index only; /search is served by `crossmodal serve`.",
                status=404,
            )

    async def _encode(self, parsed: LegacyRequest) -> list[NDArray[np.float32]]:
        self._require_searching()
        if parsed.model is not None and not is_served(parsed.model, self._serving.model):
            # Of a 404 jina's clients say only that there is no such endpoint.
            raise RequestError(str(no_such_model(parsed.model, self._serving.model)), status=422)
        return await self._serving.encode(inputs_of(parsed.encoded))

    async def _search(
        self, parsed: LegacyRequest, base_url: str, key: str | None, hidden: bool
    ) -> list[QueryItem]:
        self._require_searching()
        started = time.perf_counter()
        usable = [query for query in parsed.queries if query.error is None]
        outcomes, _ = await self._serving.search([_request(query, parsed.top_k) for query in usable])
        if hidden:
            for outcome in outcomes:
                hide_locations(outcome.matches)
        answered = {
            query.id: self._answered(query, outcome, base_url, key)
            for query, outcome in zip(usable, outcomes, strict=True)
        }
        self._serving.metrics.count_cached_texts(*self._serving.engine.take_cache_counts())
        self._serving.metrics.count_search(len(parsed.queries), time.perf_counter() - started)
        return [answered.get(query.id, query) for query in parsed.queries]

    async def _index(self, parsed: LegacyRequest) -> list[DocumentItem]:
        documents: Sequence[DocumentItem] = parsed.documents
        if parsed.endpoint == "update":
            documents = await asyncio.to_thread(self._refuse_missing, documents)
        usable = [document.record for document in documents if document.error is None]
        # In a thread: hashing large photos would block all other requests.
        records = await asyncio.to_thread(lambda: [record.hashed() for record in usable])
        indexed = await self._serving.index(records)
        return [
            document if document.error is not None else self._became(indexed[document.record.id], document)
            for document in documents
        ]

    def _became(self, indexed: Indexed, document: DocumentItem) -> DocumentItem:
        error = indexed.error and self._serving.path_names.hide(indexed.error)
        return DocumentItem(document.record, indexed.outcome, error)

    def _answered(
        self, query: QueryItem, outcome: SearchOutcome, base_url: str, key: str | None
    ) -> QueryItem:
        if outcome.error is not None:
            return replace(query, error=self._serving.path_names.hide(str(outcome.error)))
        matches = tuple(shown_match(match, base_url, key) for match in outcome.matches)
        return replace(query, matches=matches, truncated=outcome.truncated)

    def _refuse_missing(self, documents: Sequence[DocumentItem]) -> list[DocumentItem]:
        """``documents`` with an error for those that are not indexed, as an update adds nothing."""
        indexed = {
            (modality, id)
            for modality in MODALITIES
            for id in self._serving.engine.workspace.records(
                [
                    document.record.id
                    for document in documents
                    if document.error is None and document.record.modality == modality
                ],
                modality,
            )
        }
        return [
            document
            if document.error is not None or (document.record.modality, document.record.id) in indexed
            else replace(
                document,
                error=f"There is no {'photo' if document.record.modality == IMAGE else 'caption'} with the "
                f"id {document.record.id[:80]!r} to update; add it with /index.",
            )
            for document in documents
        ]


def legacy_error(request: Request, message: str, status: int) -> Response:
    """The error in the envelope of the client whose shape the request had."""
    body = getattr(request.state, "body", None)
    envelope = envelope_of(body, request.url.path, asked_envelope(request))
    content = render_error(message, envelope=envelope, status=status)
    return JsonResponse(content, status_code=status, headers=retry_headers(status))


def _envelope_of_problem(request: Request, problem: dict[str, Any]) -> Response:
    return legacy_error(request, problem["detail"], problem["status"])


def _raise_if_all_failed(errors: Sequence[str | None]) -> None:
    first = errors[0]
    if first is not None and None not in errors:
        raise RequestError(first, status=422)


def _request(query: QueryItem, top_k: int) -> SearchRequest:
    """The search that a client of jina means: a sentence finds photos, a photo finds captions."""
    if query.indexed_id is not None:
        term, target = Term(id=query.indexed_id), TEXT
    elif query.modality == IMAGE:
        term, target = Term(image=query.content or b""), TEXT
    else:
        term, target = Term(text=query.text or ""), IMAGE
    return SearchRequest((term,), modality=target, top_k=top_k, fields=frozenset({"text", "tags"}))
