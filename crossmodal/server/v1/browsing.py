"""Looking around without a search: values of tags and their photos, what may be typed, a map of photos."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal import limits
from crossmodal.deadlines import check_deadline
from crossmodal.engine.engine import Engine
from crossmodal.errors import RequestError
from crossmodal.filters import Filter, tag_name
from crossmodal.filters.sorting import Order
from crossmodal.http_shapes.values import shown, whole_number
from crossmodal.index.protocols import FacetOrder, FacetRequest, Per
from crossmodal.metadata.fields import LATITUDE
from crossmodal.records import IMAGE
from crossmodal.server.access.locations import require_no_locations, sees_locations
from crossmodal.server.routes import JsonResponse, add_route
from crossmodal.server.serving import Serving
from crossmodal.server.v1.documents import filter_of, modality_of, parameters_of

__all__ = ["add_browsing_routes"]

_SUGGESTED = 10
_PLACED = 10_000

# Of places between 0 and 1: a pixel of a large screen ten times enlarged; of degrees: a metre.
_DECIMALS = 5

# What lies near what: photos that are alike, or that were taken near each other.
_LAYOUTS = ("likeness", "place")

_PARTS: dict[str, Per] = {part: part for part in get_args(Per)}
_ORDERS: dict[str, FacetOrder] = {order: order for order in get_args(FacetOrder)}


def add_browsing_routes(app: Starlette, serving: Serving) -> None:
    """Adds /v1/facets, /v1/suggestions, /v1/layout and /v1/layout/names."""

    async def facet(request: Request) -> Response:
        parameters = parameters_of(request, ("tag", "per", "below", "sort", "limit", "filter", "modality"))
        try:
            wanted = _facet_request(parameters)
        except RequestError as error:
            raise RequestError(str(error), status=422) from None
        filter = _filter(parameters)
        if not sees_locations(request.scope, serving.settings):
            require_no_locations(filter, Order(wanted.tag))
        modality = modality_of(parameters.get("modality", IMAGE))
        found = await asyncio.to_thread(serving.engine.workspace.facet, modality, wanted, filter)
        return JsonResponse(found.to_json())

    async def suggest(request: Request) -> Response:
        parameters = parameters_of(request, ("q", "limit"))
        text = parameters.get("q", "")
        if len(text) > limits.SENTENCE.most:
            raise RequestError(limits.SENTENCE.exceeded("'q'", len(text)), status=422)
        limit = _limit(parameters, _SUGGESTED, limits.SUGGESTIONS.most)
        places = sees_locations(request.scope, serving.settings)
        found = await serving.suggest(text, limit, places=places)
        return JsonResponse({"suggestions": [asdict(suggestion) for suggestion in found]})

    async def layout(request: Request) -> Response:
        parameters = parameters_of(request, ("by", "limit", "filter"))
        if (by := parameters.get("by", _LAYOUTS[0])) not in _LAYOUTS:
            raise RequestError(f"'by' is {shown(by)}; there are {', '.join(_LAYOUTS)}.", status=422)
        limit = _limit(parameters, _PLACED, limits.PLACED.most)
        filter = _filter(parameters)
        if not sees_locations(request.scope, serving.settings):
            require_no_locations(filter, Order(LATITUDE) if by == "place" else None)
        draw = _by_place if by == "place" else _by_likeness
        return JsonResponse(await asyncio.to_thread(draw, serving.engine, limit, filter))

    async def names(request: Request) -> Response:
        parameters_of(request, ())
        found = [] if serving.kind == "index" else await serving.group_names()
        return JsonResponse({"names": [asdict(name) for name in found]})

    add_route(app, "/v1/layout/names", names, ["GET", "HEAD"])
    add_route(app, "/v1/layout", layout, ["GET", "HEAD"])
    add_route(app, "/v1/suggestions", suggest, ["GET", "HEAD"])
    add_route(app, "/v1/facets", facet, ["GET", "HEAD"])


def _facet_request(parameters: Mapping[str, str]) -> FacetRequest:
    """What the parameters ask for; raises RequestError."""
    if not (tag := tag_name(parameters.get("tag", ""))):
        raise RequestError("'tag' is missing; it has to be the name of a tag, such as camera.")
    for name, known in (("per", _PARTS), ("sort", _ORDERS)):
        if name in parameters and parameters[name] not in known:
            raise RequestError(f"{name!r} is {shown(parameters[name])}; there are {', '.join(known)}.")
    usual = FacetRequest(tag)
    return FacetRequest(
        tag,
        per=_PARTS.get(parameters.get("per", "")),
        below=parameters.get("below"),
        order=_ORDERS.get(parameters.get("sort", ""), usual.order),
        limit=_limit(parameters, usual.limit, limits.FACET.most),
    )


def _limit(parameters: Mapping[str, str], usual: int, most: int) -> int:
    try:
        return whole_number(parameters.get("limit", usual), "'limit'", minimum=1, maximum=most)
    except RequestError as error:
        raise RequestError(str(error), status=422) from None


def _filter(parameters: Mapping[str, str]) -> Filter | None:
    try:
        return filter_of(parameters.get("filter"))
    except RequestError as error:
        raise RequestError(str(error), status=422) from None


def _by_likeness(engine: Engine, limit: int, filter: Filter | None) -> dict[str, Any]:
    found = engine.layout()
    ids, places = found.ids, found.places
    if filter is not None:
        wanted = set(engine.workspace.matching_ids(IMAGE, filter))
        check_deadline()
        kept = [number for number, id in enumerate(ids) if id in wanted]
        ids, places = tuple(ids[number] for number in kept), places[kept]
    answer = _spread(engine, limit, ids, places)
    total = found.total if filter is None else len(wanted)
    return {**answer, "total": total, "computing": found.computing}


def _by_place(engine: Engine, limit: int, filter: Filter | None) -> dict[str, Any]:
    workspace = engine.workspace
    found = workspace.coordinates(filter)
    ids = [id for id, _, _ in found]
    places = np.array([(longitude, latitude) for _, latitude, longitude in found]).reshape(-1, 2)
    total = workspace.vector_count(IMAGE) if filter is None else len(workspace.matching_ids(IMAGE, filter))
    return {**_spread(engine, limit, ids, places), "total": total, "computing": False}


def _spread(
    engine: Engine, limit: int, ids: Sequence[str], places: NDArray[np.floating[Any]]
) -> dict[str, Any]:
    """Some of the photos with these ``ids`` and ``places`` (n, 2), spread over all of them, as lists."""
    chosen = np.linspace(0, len(ids) - 1, min(limit, len(ids))).round().astype(int)
    shown_ids = [ids[number] for number in chosen]
    looks = engine.workspace.looks(shown_ids)
    rounded = places[chosen].astype(np.float64).round(_DECIMALS)
    return {
        "ids": shown_ids,
        "x": rounded[:, 0].tolist(),
        "y": rounded[:, 1].tolist(),
        "colours": [look.colour if (look := looks.get(id)) is not None else None for id in shown_ids],
        "placed": len(ids),
    }
