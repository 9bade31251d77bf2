"""The page on which people log in with a key, and logging out."""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from crossmodal.access.policy import Access
from crossmodal.errors import RequestError
from crossmodal.http_shapes.root_path import ROOT_PATH
from crossmodal.server.access.gate import Authenticator
from crossmodal.server.access.origins import foreign_origin
from crossmodal.server.access.sessions import Sessions
from crossmodal.server.guards import read_body
from crossmodal.server.page_files import PAGE
from crossmodal.server.routes import JsonResponse, add_route

__all__ = ["add_login_routes"]

_FILE = PAGE / "login.html"
_MESSAGE = "<!-- message -->"

_MOST_BYTES = 4096

_AGAIN = (
    '<!doctype html><title>Crossmodal search</title><link rel="icon" href="page/icon.svg">'
    '<meta http-equiv="refresh" content="0">'
)

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    # With "no-referrer" a browser hides the origin of a form too, by which its own page is known.
    "Referrer-Policy": "same-origin",
}


def add_login_routes(app: Starlette, authenticator: Authenticator) -> None:
    """Adds /login, the form and what it sends, and POST /logout."""
    access, sessions = authenticator.access, authenticator.sessions
    page = _FILE.read_text(encoding="utf-8")

    async def show(request: Request) -> Response:
        if access.without_key() is not None or _is_logged_in(request, access, sessions):
            return RedirectResponse(_next(request), 303)
        if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            # Who followed a link from another page may be logged in: a browser leaves the cookie out of that,
            # and not out of what this page causes.
            return Response(_AGAIN, headers=_HEADERS, media_type="text/html")
        return _form(page)

    async def log_in(request: Request) -> Response:
        _require_own_page(request)
        given = parse_qs((await read_body(request, _MOST_BYTES)).decode("utf-8", "replace"))
        secret = given.get("key", [""])[0].strip()
        try:
            caller = authenticator.log_in(request, secret)
        except RequestError as error:
            seconds = getattr(error, "seconds", None)
            message = (
                "That key is not known here."
                if seconds is None
                else f"Too many wrong keys. Wait {seconds} s."
            )
            answer = _form(page, message, error.status)
            if seconds is not None:
                answer.headers["Retry-After"] = str(seconds)
            return answer
        response = RedirectResponse(_next(request), 303)
        if caller.sha256 is not None:
            sessions.begin(request, response, caller.sha256)
        return response

    async def log_out(request: Request) -> Response:
        _require_own_page(request)
        response = JsonResponse({"session": False})
        sessions.end(request, response)
        # Photos that the browser keeps would still be shown to whoever sits there next.
        response.headers["Clear-Site-Data"] = '"cache"'
        return response

    add_route(app, "/login", show, ["GET", "HEAD"])
    add_route(app, "/login", log_in, ["POST"])
    add_route(app, "/logout", log_out, ["POST"])


def _form(page: str, message: str = "", status: int = 200) -> Response:
    shown = f'<p class="login-error" role="alert">{escape(message)}</p>' if message else ""
    return Response(page.replace(_MESSAGE, shown), status, _HEADERS, media_type="text/html")


def _is_logged_in(request: Request, access: Access, sessions: Sessions) -> bool:
    sha256 = sessions.key_of(request)
    return sha256 is not None and access.by_digest(sha256) is not None


def _require_own_page(request: Request) -> None:
    """Raises RequestError, 403: another page must not log somebody in as someone else, or out."""
    if foreign_origin(request.scope) is not None:
        raise RequestError("Only this server's own page logs people in and out.", status=403)


def _next(request: Request) -> str:
    """Where to go on: a path of this server, whatever the address says."""
    home = ROOT_PATH.get() + "/"
    path = request.query_params.get("next", home)
    # A browser reads // and /\\ as the beginning of another host's address.
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if safe else home
