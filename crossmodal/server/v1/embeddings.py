"""POST /v1/embeddings, and the one model of GET /v1/models/NAME, as OpenAI's clients ask for them."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal.errors import RequestError
from crossmodal.http_shapes.v1.embeddings import (
    is_served,
    model_json,
    no_such_model,
    parse_embeddings,
    render_embeddings,
    with_error,
)
from crossmodal.http_shapes.values import read_json
from crossmodal.server.forms import media_type_of
from crossmodal.server.guards import read_body
from crossmodal.server.routes import JsonResponse, add_route, problem_response
from crossmodal.server.serving import Serving
from crossmodal.steps.encoding import unit_vector

__all__ = ["add_embedding_routes"]


def add_embedding_routes(app: Starlette, serving: Serving) -> None:
    """Adds the routes."""

    async def embeddings(request: Request) -> Response:
        if (media_type := media_type_of(request)) not in ("application/json", ""):
            raise RequestError(f"The content type is {media_type[:80]!r}; send application/json.", status=415)
        body = read_json(await read_body(request))
        identity = await asyncio.to_thread(serving.engine.workspace.identity)
        # In a thread: photos are decoded from base64, and many numbers are written.
        asked = await asyncio.to_thread(
            parse_embeddings,
            body,
            model=serving.model,
            dimension=None if identity is None else identity.dimension,
        )
        vectors = await serving.encode(asked.inputs)

        def rendered() -> Response:
            wanted = asked.dimensions
            cut = (
                vectors
                if wanted is None
                else [unit_vector(vector[:wanted], dimension=wanted) for vector in vectors]
            )
            return JsonResponse(render_embeddings(cut, model=serving.model, packed=asked.packed))

        return await asyncio.to_thread(rendered)

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if not is_served(name, serving.model):
            raise no_such_model(name, serving.model)
        return JsonResponse(model_json(serving.model, serving.started))

    add_route(app, "/v1/embeddings", embeddings, ["POST"], _problem)
    add_route(app, "/v1/models/{name:path}", model, ["GET", "HEAD"], _problem)


def _problem(request: Request, members: dict[str, Any]) -> Response:
    return problem_response(with_error(members))
