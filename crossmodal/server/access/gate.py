"""Whose request it is, what that one may do, and how often."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from crossmodal.access.policy import Access, Caller, require
from crossmodal.access.shared_table import SharedState
from crossmodal.access.throttle import Throttle, TooMany, counted_address
from crossmodal.errors import CrossmodalError, RequestError
from crossmodal.hosts import is_loopback
from crossmodal.http_shapes.root_path import ROOT_PATH
from crossmodal.server.access.arrivals import UNTOLD_PROXY, URL_KEY
from crossmodal.server.access.sessions import Sessions
from crossmodal.server.forwarding import may_write
from crossmodal.server.observation import observed
from crossmodal.server.routes import problem_of, refusal
from crossmodal.settings import Scope as KeyScope
from crossmodal.settings import Settings

__all__ = ["FREE_PATHS", "Authenticator", "Gate", "needed_scope"]

# What anybody may ask: whether the server lives, and for the page on which people log in.
FREE_PATHS = frozenset(
    {
        *("/healthz", "/readyz", "/login"),
        *("/page/base.css", "/page/login.css", "/page/icon.svg", "/page/theme.js"),
    }
)


# Where in the state of a request it stands what answers it in place of its route.
_REFUSAL = "refusal"


class Gate:
    """Lets a request through where its key, its session or the server's settings allow what it asks.

    Whoever passes is found with ``caller.caller_of``. Everybody else is answered 401, 403, or 429 with
    Retry-After; a person with a browser who has no session is led to the page on which to log in.
    """

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it."""
        app = self._app
        if scope["type"] == "http":
            app = self._authenticator.refusal(scope) or app
        await app(scope, receive, send)


class Authenticator:
    """Who asks, by a key, a session or neither, and how often; for one event loop."""

    def __init__(self, settings: Settings, access: Access, shared: SharedState) -> None:
        self.access = access
        self.sessions = Sessions(shared.sessions)
        self._settings = settings
        self._throttle = Throttle(settings, access, shared.rates)

    def log_in(self, request: Request, secret: str) -> Caller:
        """Who logs in with the key ``secret``; raises RequestError, 401 for a wrong one, 429 after many."""
        return self._throttle.identify(_address(request.scope), secret)

    def refusal(self, scope: Scope) -> ASGIApp | None:
        """What answers the request in place of its route; None where it may pass.

        However often that is asked of one request, it counts once.
        """
        state = scope.setdefault("state", {})
        if _REFUSAL not in state:
            state[_REFUSAL] = self._refusal(scope)
        found: ASGIApp | None = state[_REFUSAL]
        return found

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        request = Request(scope)
        if scope["path"] in FREE_PATHS:
            return None
        try:
            # Before it is known who asks: those who are refused count as well.
            if self._throttle.limited:
                self._throttle.count("address", _address(scope))
            caller, session = self._caller(request)
            scope["state"] |= {"caller": caller, "session": session}
            if caller.sha256 is not None:
                self._throttle.count("key", caller.sha256)
            require(caller, needed_scope(scope))
        except RequestError as error:
            if error.status == 401 and _is_navigation(request):
                root = ROOT_PATH.get()
                back = quote(root + scope["path"] + _query(scope), safe="")
                return RedirectResponse(f"{root}/login?next={back}", 303)
            if isinstance(error, TooMany):
                observed().refusal = "rate"
            return refusal(scope, error.status, str(error), _headers_of(error))
        except CrossmodalError as error:
            members = problem_of(error)
            return refusal(scope, members["status"], members["detail"])
        return None

    def _caller(self, request: Request) -> tuple[Caller, bool]:
        """Who asks, and whether by a session."""
        allowed = self.access.without_key()
        if allowed is not None:
            self._check_host(request)
            self._check_proxy(request)
            return Caller(None, allowed), False
        secret = _secret_of(request)
        if secret is not None:
            caller = self._throttle.identify(_address(request.scope), secret)
            if URL_KEY in request.scope["state"] and "authorization" not in request.headers:
                # It stands in histories and bookmarks; what it is for, Jina Box, only reads.
                caller = Caller(caller.name, "read", caller.sha256)
            return caller, False
        sha256 = self.sessions.key_of(request)
        caller_by_session = None if sha256 is None else self.access.by_digest(sha256)
        if caller_by_session is not None:
            _check_same_page(request)
            return caller_by_session, True
        return self.access.identify(None), False

    def _check_host(self, request: Request) -> None:
        """Raises RequestError, 403, for a foreign name of a server that listens on this machine only.

        A foreign name whose DNS entry points at this machine makes any page look like this server's own, to
        the browser too. With keys it gains nothing: it has neither the key nor the cookie.
        """
        host = request.headers.get("host")
        if host is None or self.access.is_reachable:
            return
        name = urlsplit(f"//{host}").hostname or ""
        if not is_loopback(name):
            raise RequestError(
                f"This server listens on this machine only, and {name[:100]!r} is none of its names; open "
                "its page at http://localhost. Under a name of its own it needs keys (crossmodal keys "
                "add NAME), and the proxy that gives it that name is told to it with --trusted-proxy.",
                status=403,
            )

    def _check_proxy(self, request: Request) -> None:
        """Raises RequestError, 403, where a proxy opens a server without keys to more than this machine.

        Usual proxies ask at localhost, so the name doesn't tell.
        """
        if self.access.is_reachable or self._settings.insecure_no_auth:
            return
        if request.scope["state"].get(UNTOLD_PROXY):
            raise RequestError(
                "This server listens on this machine only and has no keys, and the request came through a "
                "proxy (X-Forwarded-For, X-Real-IP, Forwarded or Via), through which others reach it. "
                "Make keys (crossmodal keys add NAME), and tell it the proxy's address with --trusted-proxy.",
                status=403,
            )


def needed_scope(scope: Scope) -> KeyScope:
    """What a key has to allow for the request; of /post only its body says whether it writes."""
    return "write" if may_write(scope) and scope["path"] != "/post" else "read"


def _secret_of(request: Request) -> str | None:
    """The key that the request brings; raises RequestError, 401, for an Authorization of another kind."""
    given = request.headers.get("authorization")
    if given is None:
        found = request.scope["state"].get(URL_KEY)
        return None if found is None else str(found)
    kind, _, secret = given.partition(" ")
    if kind.lower() != "bearer":
        raise RequestError("The Authorization header has to be: Bearer KEY.", status=401)
    return secret.strip()


def _check_same_page(request: Request) -> None:
    """Raises RequestError, 403, where a session changes something and no browser says by whose page."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    if "origin" not in request.headers and request.headers.get("sec-fetch-site") != "same-origin":
        raise RequestError(
            "A session's cookie is for the page of this server alone; programs send the key as "
            "Authorization: Bearer KEY.",
            status=403,
        )


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return counted_address(str(client[0]) if client else "")


def _is_navigation(request: Request) -> bool:
    """Whether a person's browser asks for something to show in a tab."""
    if request.method != "GET":
        return False
    mode = request.headers.get("sec-fetch-mode")
    # Browsers leave that out where the server is reached over plain HTTP.
    return mode == "navigate" or (mode is None and "text/html" in request.headers.get("accept", ""))


def _query(scope: Scope) -> str:
    text = scope.get("query_string", b"").decode("latin-1")
    return f"?{text}" if text else ""


def _headers_of(error: RequestError) -> dict[str, str]:
    if isinstance(error, TooMany):
        return {"Retry-After": str(error.seconds)}
    return {"WWW-Authenticate": 'Bearer realm="crossmodal"'} if error.status == 401 else {}
