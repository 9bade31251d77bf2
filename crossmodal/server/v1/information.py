"""What the server is and holds: status, models, tags, the Flows, health and metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal import __version__
from crossmodal.errors import CrossmodalError, RequestError
from crossmodal.flow.topology import FLOW_KINDS, FlowKind, describe_steps, draw_flow, flow_file, read_topology
from crossmodal.http_shapes.v1.embeddings import model_json
from crossmodal.metadata.locations import is_private
from crossmodal.models.zoo import zoo
from crossmodal.records import IMAGE, TEXT
from crossmodal.server.access.caller import caller_of
from crossmodal.server.access.locations import sees_locations
from crossmodal.server.guards import writing_for
from crossmodal.server.routes import JsonResponse, add_route
from crossmodal.server.serving import Serving
from crossmodal.workspace import Workspace

__all__ = ["add_information_routes", "tag_fields"]

_logger = logging.getLogger(__name__)

# Prometheus waits ten seconds for all numbers, unless it is told otherwise.
_STATE_SECONDS = 5.0


def add_information_routes(app: Starlette, serving: Serving) -> None:
    """Adds /v1/status, /v1/models, /v1/tags, /v1/flows/NAME, /healthz, /readyz and /metrics."""
    information = _Information(serving)
    for path, handler in (
        ("/v1/status", information.status),
        ("/v1/models", information.models),
        ("/v1/tags", information.tags),
        ("/v1/flows/{name}", information.flow),
        ("/healthz", information.health),
        ("/readyz", information.ready),
        ("/metrics", information.metrics),
    ):
        add_route(app, path, handler, ["GET", "HEAD"])


def tag_fields(workspace: Workspace, *, hidden: bool) -> list[dict[str, Any]]:
    """The tags that there are, as JSON values; with ``hidden`` none that say where photos were taken."""
    fields = workspace.tag_fields()
    return [
        field.to_json() for field in fields if not hidden or not is_private(field.name.removeprefix("tags."))
    ]


class _Information:
    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        # None of them changes while the server runs.
        self._models: Response | None = None
        self._flows: dict[FlowKind, Response] = {}

    async def status(self, request: Request) -> Response:
        serving = self._serving
        held = await asyncio.to_thread(serving.engine.workspace.status)
        unwritable = serving.engine.workspace.unwritable_reason
        writing = writing_for(request, serving)
        calibration = None if serving.kind == "index" else await asyncio.to_thread(serving.engine.calibration)
        return JsonResponse(
            {
                "version": __version__,
                "model": held["model"],
                "calibrated": calibration is not None,
                "modalities": {
                    name: {key: part[key] for key in ("documents", "vectors", "bytes_on_disk", "last_change")}
                    for name, part in held["modalities"].items()
                },
                "texts": held["texts"],
                "index": await serving.index_state(),
                "shards": serving.settings.shards or 1,
                "layout": serving.settings.layout,
                "last_change": held["last_change"],
                "damaged": held["damaged"],
                "objects": _objects(held["objects"]),
                "writing": {
                    "allowed": writing.allowed and unwritable is None,
                    "reason": serving.path_names.hide(writing.reason or unwritable or "") or None,
                    "state": serving.engine.writer_state,
                },
                "access": _access(request),
                "traffic": serving.metrics.traffic(),
                "started": datetime.fromtimestamp(serving.started, UTC).isoformat(timespec="seconds"),
                "uptime_s": round(time.monotonic() - serving.since, 3),
            }
        )

    async def models(self, request: Request) -> Response:
        if self._models is None:
            self._models = JsonResponse(await asyncio.to_thread(_models, self._serving))
        return self._models

    async def tags(self, request: Request) -> Response:
        hidden = not sees_locations(request.scope, self._serving.settings)
        fields = await asyncio.to_thread(tag_fields, self._serving.engine.workspace, hidden=hidden)
        return JsonResponse({"fields": fields})

    async def flow(self, request: Request) -> Response:
        name = request.path_params["name"]
        kind = next((kind for kind in FLOW_KINDS if kind == name), None)
        if kind is None:
            raise RequestError(
                f"There is no Flow {name[:40]!r}; there are {', '.join(FLOW_KINDS)}.", status=404
            )
        if kind not in self._flows:
            topology = read_topology(flow_file(kind), self._serving.settings.flow_environment())
            self._flows[kind] = JsonResponse(
                {"name": kind, "steps": describe_steps(topology), "mermaid": draw_flow(topology)}
            )
        return self._flows[kind]

    async def health(self, request: Request) -> Response:
        self._serving.require_healthy()
        return JsonResponse({"status": "ok", "flow": self._serving.kind})

    async def ready(self, request: Request) -> Response:
        """Whether a search would succeed now: of photos and captions, with a sentence that is encoded."""
        await self._serving.require_ready()
        # Searches go on without the object store.
        objects = await asyncio.to_thread(self._serving.engine.workspace.objects_state)
        told = {} if objects is None else {"objects": objects["state"]}
        return JsonResponse({"status": "ready", "flow": self._serving.kind, **told})

    async def metrics(self, request: Request) -> Response:
        held = await asyncio.to_thread(self._serving.engine.workspace.status)
        documents = {str(name): held["modalities"][name]["documents"] for name in (IMAGE, TEXT)}
        try:
            async with asyncio.timeout(_STATE_SECONDS):
                states = (await self._serving.index_state())["modalities"]
        except (CrossmodalError, TimeoutError) as error:
            # Who watches a server needs its numbers most when the index fails, or searches are stuck.
            why = str(error) or f"it took more than {_STATE_SECONDS:.0f} seconds"
            _logger.warning("The state of the index is not among the metrics: %s", why)
            states = {}
        text, content_type = self._serving.metrics.exposition(
            documents, states, request.headers.get("accept", ""), objects=held["objects"]
        )
        return Response(text, headers={"Content-Type": content_type, "Vary": "Accept"})


def _access(request: Request) -> dict[str, Any]:
    """What the caller may do: by which key, if any, and whether it logged in on the page."""
    caller = caller_of(request.scope)
    return {
        "key": caller.name,
        "scope": caller.scope,
        "session": bool(getattr(request.state, "session", False)),
    }


def _objects(state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """How the object store is, without its address, which is nobody's business here."""
    return None if state is None else {"state": state["state"], "error": state["error"]}


def _models(serving: Serving) -> dict[str, Any]:
    """The answer to GET /v1/models: all known ones, and as OpenAI's clients read it the one that serves."""
    own = serving.model.partition("?")[0]
    return {
        "object": "list",
        "data": [model_json(serving.model, serving.started)],
        "serving": serving.model,
        "models": [{**record.to_json(), "serving": record.name == own} for record in zoo()],
    }
