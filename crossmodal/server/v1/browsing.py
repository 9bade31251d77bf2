"""Looking around without a search: values of tags and their photos, what may be typed, a map of photos."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, get_args

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal import limits
from crossmodal.engine.engine import Engine
from crossmodal.errors import RequestError
from crossmodal.filters import tag_name
from crossmodal.filters.sorting import Order
from crossmodal.http_shapes.values import shown, whole_number
from crossmodal.index.protocols import FacetOrder, FacetRequest, Per
from crossmodal.records import IMAGE
from crossmodal.server.access.locations import require_no_locations, sees_locations
from crossmodal.server.routes import JsonResponse, add_route
from crossmodal.server.serving import Serving
from crossmodal.server.v1.documents import filter_of, modality_of, parameters_of

__all__ = ["add_browsing_routes"]

_SUGGESTED = 10
_PLACED = 10_000

# Of places between 0 and 1: a pixel of a large screen ten times enlarged.
_DECIMALS = 5

_PARTS: dict[str, Per] = {part: part for part in get_args(Per)}
_ORDERS: dict[str, FacetOrder] = {order: order for order in get_args(FacetOrder)}


def add_browsing_routes(app: Starlette, serving: Serving) -> None:
    """Adds /v1/facets, /v1/suggestions and /v1/layout."""

    async def facet(request: Request) -> Response:
        parameters = parameters_of(request, ("tag", "per", "below", "sort", "limit", "filter", "modality"))
        try:
            wanted = _facet_request(parameters)
            filter = filter_of(parameters.get("filter"))
        except RequestError as error:
            raise RequestError(str(error), status=422) from None
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
        limit = _limit(parameters_of(request, ("limit",)), _PLACED, limits.PLACED.most)
        return JsonResponse(await asyncio.to_thread(_layout, serving.engine, limit))

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


def _layout(engine: Engine, limit: int) -> dict[str, Any]:
    """Some photos of the map, spread over all of them, as lists of one length."""
    found = engine.layout()
    chosen = np.linspace(0, len(found.ids) - 1, min(limit, len(found.ids))).round().astype(int)
    ids = [found.ids[number] for number in chosen]
    looks = engine.workspace.looks(ids)
    places = found.places[chosen].astype(np.float64).round(_DECIMALS)
    return {
        "ids": ids,
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "colours": [look.colour if (look := looks.get(id)) is not None else None for id in ids],
        "placed": len(found.ids),
        "total": found.total,
        "computing": found.computing,
    }
