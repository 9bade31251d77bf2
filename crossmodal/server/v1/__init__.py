"""The native API: everything under /v1, and the routes that machines watch."""

from __future__ import annotations

from starlette.applications import Starlette

from crossmodal.server.serving import Serving
from crossmodal.server.v1.documents import add_document_routes
from crossmodal.server.v1.information import add_information_routes
from crossmodal.server.v1.openapi import add_openapi_route
from crossmodal.server.v1.search import add_search_route

__all__ = ["add_native_routes"]


def add_native_routes(app: Starlette, serving: Serving) -> None:
    """Adds the routes that this server's Flow can answer."""
    if serving.kind == "query":
        add_search_route(app, serving)
    add_document_routes(app, serving)
    add_information_routes(app, serving)
    add_openapi_route(app)
