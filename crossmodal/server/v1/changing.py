"""What is indexed, changed or deleted without sending it again: PATCH of a document, many deleted at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal.errors import RequestError
from crossmodal.filters import And, Filter
from crossmodal.http_shapes.v1.changes import parse_amendment, parse_deletion, undo_json
from crossmodal.http_shapes.values import read_json
from crossmodal.metadata.locations import without_private
from crossmodal.records import IMAGE, Amendment, Modality
from crossmodal.server.access.locations import require_no_locations, sees_locations
from crossmodal.server.forms import media_type_of
from crossmodal.server.guards import read_body, require_writing
from crossmodal.server.routes import JsonResponse, add_route, problem, problem_response
from crossmodal.server.serving import Serving
from crossmodal.server.v1.documents import (
    DOCUMENTS_PATH,
    addressed,
    described_by_id,
    filter_of,
    missing,
    modality_of,
    parameters_of,
    switch_of,
)

__all__ = ["add_change_routes"]

_TYPES = ("application/json", "application/merge-patch+json", "")

# A request that deletes by a filter names so many of what it found.
_FIRST_IDS = 20

# Deleted at the same time.
_DELETED_TOGETHER = 500


def add_change_routes(app: Starlette, serving: Serving) -> None:
    """Adds the routes."""
    changes = _Changes(serving)
    add_route(app, DOCUMENTS_PATH, changes.delete, ["DELETE"])
    add_route(app, DOCUMENTS_PATH + "/deletion", changes.delete_ids, ["POST"])
    add_route(app, DOCUMENTS_PATH + "/{id:path}", changes.patch, ["PATCH"])


def _takes_everything(filter: Filter) -> bool:
    """Whether a filter is empty, or made of empty ones."""
    return isinstance(filter, And) and all(map(_takes_everything, filter.parts))


class _Changes:
    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def patch(self, request: Request) -> Response:
        require_writing(request, self._serving)
        id, part = addressed(request)
        if part is not None:
            response = problem_response(problem(405, f"The {part} of a document is not changed by itself."))
            response.headers["Allow"] = "GET, HEAD"
            return response
        if (media_type := media_type_of(request)) not in _TYPES:
            raise RequestError(
                f"The content type is {media_type[:80]!r}; send application/merge-patch+json or "
                "application/json.",
                status=415,
            )
        amendment = parse_amendment(read_json(await read_body(request)))
        with self._serving.admission.writes.take():
            undo = await self._serving.amend(id, amendment)
        described = await asyncio.to_thread(described_by_id, self._serving.engine.workspace, id)
        if undo is None or described is None:
            raise missing(id)
        if not sees_locations(request.scope, self._serving.settings):
            described["tags"] = without_private(described["tags"])
            undo = _without_private(undo)
        return JsonResponse({**described, "undo": undo_json(undo)})

    async def delete_ids(self, request: Request) -> Response:
        require_writing(request, self._serving)
        if (media_type := media_type_of(request)) not in ("application/json", ""):
            raise RequestError(f"The content type is {media_type[:80]!r}; send application/json.", status=415)
        ids = parse_deletion(read_json(await read_body(request)))
        with self._serving.admission.writes.take():
            deleted = await self._deleted(ids, captions=True)
        return JsonResponse({"deleted": deleted})

    async def delete(self, request: Request) -> Response:
        require_writing(request, self._serving)
        given = parameters_of(request, ("filter", "modality", "captions", "dry_run"))
        try:
            filter = filter_of(given.get("filter"))
        except RequestError as error:
            raise RequestError(str(error), status=422) from None
        if filter is None or _takes_everything(filter):
            raise RequestError(
                "'filter' is missing or empty, which would delete everything; it has to be JSON such as "
                '{"year": 2019}.',
                status=422,
            )
        modality = modality_of(given.get("modality", IMAGE))
        captions, dry = switch_of(given, "captions", default=True), switch_of(given, "dry_run", default=False)
        if not sees_locations(request.scope, self._serving.settings):
            require_no_locations(filter)
        with self._serving.admission.writes.take():
            found = await asyncio.to_thread(self._serving.engine.workspace.matching_ids, modality, filter)
            deleted = await self._deleted([] if dry else found, captions=captions, modality=modality)
        answer: dict[str, Any] = {"matched": len(found), "first_ids": found[:_FIRST_IDS]}
        return JsonResponse({**answer, "deleted": deleted, "dry_run": dry})

    async def _deleted(self, ids: Sequence[str], *, captions: bool, modality: Modality | None = None) -> int:
        """Deletes documents some at a time; how many those were, with what went along."""
        deleted = 0
        for start in range(0, len(ids), _DELETED_TOGETHER):
            several = ids[start : start + _DELETED_TOGETHER]
            deleted += len(await self._serving.delete(several, captions=captions, modality=modality))
        return deleted


def _without_private(amendment: Amendment) -> Amendment:
    return replace(
        amendment,
        tags=without_private(amendment.tags or {}),
        add=replace(amendment.add, tags=without_private(amendment.add.tags)),
        remove=replace(amendment.remove, tags=without_private(amendment.remove.tags)),
    )
