"""The ASGI application: which routes there are, and what stands before them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from crossmodal.access.policy import Access
from crossmodal.access.shared_table import SharedState
from crossmodal.server.access.arrivals import Arrivals, parse_networks
from crossmodal.server.access.gate import Authenticator, Gate
from crossmodal.server.access.login import add_login_routes
from crossmodal.server.access.origins import Origins, parse_origins
from crossmodal.server.access.paths import HiddenPaths
from crossmodal.server.access.root_path import RootPath, parse_root_path
from crossmodal.server.admission_control import AdmissionControl
from crossmodal.server.forwarding import ForwardedWrites
from crossmodal.server.guards import HostCheck
from crossmodal.server.legacy import add_legacy_routes, legacy_error
from crossmodal.server.mcp.route import add_mcp_route
from crossmodal.server.page_files import add_page
from crossmodal.server.request_log import RequestLog
from crossmodal.server.routes import problem, problem_response
from crossmodal.server.serving import Serving
from crossmodal.server.shedding import Shedding
from crossmodal.server.traces import Traces
from crossmodal.server.v1.archive import add_archive_route
from crossmodal.server.v1.browsing import add_browsing_routes
from crossmodal.server.v1.changing import add_change_routes
from crossmodal.server.v1.documents import add_document_routes
from crossmodal.server.v1.embeddings import add_embedding_routes
from crossmodal.server.v1.information import add_information_routes
from crossmodal.server.v1.openapi import add_openapi_route
from crossmodal.server.v1.search import add_search_route

__all__ = ["create_app"]


def create_app(
    serving: Serving,
    *,
    writer: str | None = None,
    shared: SharedState | None = None,
    traces: Traces | None = None,
) -> Starlette:
    """Every route that ``serving`` can answer, behind the middleware that all of them need.

    ``writer`` is the Unix socket of the process that writes, None where that is this one. ``shared`` is what
    other processes of the same server share; without it there are none. ``traces`` get each request. Raises
    SettingsError for an origin, a proxy, a root path or a key of the settings that cannot be used.
    """
    settings = serving.settings
    access = Access(settings, serving.engine.workspace.state)
    authenticator = Authenticator(settings, access, shared or SharedState())
    app = Starlette()
    if serving.kind == "query":
        add_search_route(app, serving)
        add_embedding_routes(app, serving)
        add_mcp_route(app, serving)
    add_archive_route(app, serving)
    add_document_routes(app, serving)
    add_change_routes(app, serving)
    add_browsing_routes(app, serving)
    add_information_routes(app, serving)
    add_openapi_route(app)
    add_legacy_routes(app, serving)
    add_login_routes(app, authenticator)
    add_page(app, serving.engine.workspace)
    app.add_exception_handler(404, _no_such_route)
    app.add_exception_handler(405, _no_such_route)
    # The last one stands before all others.
    app.add_middleware(AdmissionControl, admission=serving.admission)
    app.add_middleware(Gate, authenticator=authenticator)
    app.add_middleware(Origins, allowed=parse_origins(settings.allow_origin))
    app.add_middleware(HiddenPaths, names=serving.path_names)
    app.add_middleware(Shedding, admission=serving.admission, authenticator=authenticator)
    app.add_middleware(HostCheck)
    app.add_middleware(Arrivals, trusted=parse_networks(settings.trusted_proxy))
    if writer is not None:
        app.add_middleware(ForwardedWrites, writer=writer, tls=settings.tls_cert is not None)
    app.add_middleware(RootPath, root=parse_root_path(settings.root_path, app.routes))
    # Whatever answers a request, the answer has its id and the log a line.
    app.add_middleware(RequestLog, metrics=serving.metrics, traces=traces)
    return app


async def _no_such_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    if request.url.path.startswith(("/v1/", "/page/", "/docs", "/mcp")):
        message = f"{request.method} {request.url.path} is not served here; /v1/openapi.json lists what is."
        response = problem_response(problem(status, message))
    else:
        message = f"{request.method} {request.url.path} is not served here; POST to /search or /index."
        response = legacy_error(request, message, status)
    if status == 405:
        # Starlette names the methods of the first route with this path only.
        response.headers["Allow"] = ", ".join(_methods_of(request))
    return response


def _methods_of(request: Request) -> list[str]:
    """The methods that are served at the request's path."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)
