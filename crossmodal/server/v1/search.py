"""POST /v1/search."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal.errors import CrossmodalError, RequestError
from crossmodal.http_shapes.v1.answers import render_search
from crossmodal.http_shapes.v1.search import parse_search, photo_urls
from crossmodal.http_shapes.values import read_json
from crossmodal.query.request import SearchOutcome, SearchRequest
from crossmodal.server.access.locations import hide_locations, require_no_locations, sees_locations
from crossmodal.server.forms import media_type_of, read_form
from crossmodal.server.guards import read_body
from crossmodal.server.routes import JsonResponse, add_route, problem_of
from crossmodal.server.serving import Serving

__all__ = ["add_search_route"]


def add_search_route(app: Starlette, serving: Serving) -> None:
    """Adds the route."""

    async def search(request: Request) -> Response:
        started = time.perf_counter()
        body, uploads = await _body(request, serving.settings.max_photo_bytes)
        host = request.headers.get("host")
        photos = serving.url_photos
        async with AsyncExitStack() as held:
            # They are in memory until they have been searched for.
            fetched = None
            if photos is not None:
                fetched = await held.enter_async_context(photos.fetched(photo_urls(body, host)))
            queries = parse_search(body, uploads=uploads, host=host, fetched=fetched)
            requests = [query for query in queries if isinstance(query, SearchRequest)]
            hidden = not sees_locations(request.scope, serving.settings)
            if hidden:
                for asked in requests:
                    require_no_locations(asked.filter, asked.sort)
                requests = [replace(asked, places=False) for asked in requests]
            found, timing = await serving.search(requests)
        if hidden:
            for outcome in found:
                hide_locations(outcome.matches)
        serving.metrics.count_cached_texts(*serving.engine.take_cache_counts())
        found_next = iter(found)
        outcomes = [
            next(found_next) if isinstance(query, SearchRequest) else SearchOutcome(None, error=query)
            for query in queries
        ]
        _raise_if_all_failed(outcomes)
        timing.total_ms = (time.perf_counter() - started) * 1000
        serving.metrics.count_search(len(outcomes), timing.total_ms / 1000)

        def shown_problem(error: Exception) -> dict[str, Any]:
            members = problem_of(error)
            return members | {"detail": serving.path_names.hide(members["detail"])}

        return JsonResponse(
            render_search(outcomes, model=serving.model, timing=timing, problem_of=shown_problem)
        )

    add_route(app, "/v1/search", search, ["POST"])


async def _body(request: Request, max_file_bytes: int) -> tuple[object, list[bytes]]:
    media_type = media_type_of(request)
    if media_type == "multipart/form-data":
        form = await read_form(request, texts={"request"}, files={"image"}, max_file_bytes=max_file_bytes)
        text = form.texts.get("request")
        body = read_json(text.encode()) if text is not None else {}
        return body, [file.content for file in form.files]
    if media_type not in ("application/json", ""):
        raise RequestError(
            f"The content type is {media_type[:80]!r}; send application/json, or multipart/form-data with "
            "files.",
            status=415,
        )
    return read_json(await read_body(request)), []


def _raise_if_all_failed(outcomes: list[SearchOutcome]) -> None:
    first: CrossmodalError | None = outcomes[0].error
    if first is not None and all(outcome.error is not None for outcome in outcomes):
        raise first
