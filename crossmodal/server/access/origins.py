"""Which web pages may read: those of this server, and those of the origins that --allow-origin lists."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossmodal.errors import SettingsError
from crossmodal.server.routes import refusal

__all__ = ["Origins", "foreign_origin", "parse_origins"]

_logger = logging.getLogger(__name__)

# The origin of a page from a file, of a sandboxed frame, and of whatever else has none of its own.
NO_ORIGIN = "null"

# So many are logged; a page may come under any number of names.
_MOST_LOGGED = 100

_FOREIGN_SITES = frozenset({"cross-site", "same-site"})

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    "Access-Control-Max-Age": "600",
}


def parse_origins(given: Iterable[str]) -> frozenset[str]:
    """The origins of --allow-origin as browsers write them; raises SettingsError for what is none."""
    origins = set()
    for text in given:
        try:
            parts = urlsplit(text)
            usable = (
                parts.scheme in ("http", "https")
                and bool(parts.hostname)
                and "@" not in parts.netloc
                and "*" not in parts.netloc
                and (parts.port or 0) >= 0
                and not (parts.path.strip("/") or parts.query or parts.fragment)
            )
        except ValueError:
            usable = False
        if text != NO_ORIGIN and not usable:
            raise SettingsError(
                f"--allow-origin {text!r} is no origin; write it like https://example.com or "
                "http://localhost:8000, and null for pages that are opened from a file."
            )
        origins.add(NO_ORIGIN if text == NO_ORIGIN else _normal(text))
    return frozenset(origins)


def foreign_origin(scope: Scope) -> str | None:
    """The origin of a page of another origin that asks; "" for an unnamed one, None for no such page.

    Browsers say it in Origin, and where they leave that out, in Sec-Fetch-Site and perhaps in Referer.
    """
    headers = Headers(scope=scope)
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and not _is_own(origin, scope, headers):
        return origin
    return _referring(headers) if site in _FOREIGN_SITES else None


class Origins:
    """Refuses what pages of other origins ask, unless they are ``allowed``, and closes every answer to them.

    A link to this server can be followed from anywhere: what it opens stays with the person who opens it.
    """

    def __init__(self, app: ASGIApp, allowed: frozenset[str]) -> None:
        self._app = app
        self._allowed = allowed
        self._logged: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it with a 403 that names the option."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        foreign = foreign_origin(scope)
        allowed = foreign is not None and _normal(foreign or NO_ORIGIN) in self._allowed
        named = headers.get("origin") if allowed else None
        # Who follows a link gets a page, and the page that had the link does not.
        shared = allowed or self._is_embedded_by_allowed(headers)

        async def close(message: Message) -> None:
            if message["type"] == "http.response.start":
                _set_headers(MutableHeaders(scope=message), named, shared=shared, listed=bool(self._allowed))
            await send(message)

        app: ASGIApp = self._app
        if foreign is not None and not allowed and not _is_navigation(scope, headers):
            self._log(foreign)
            app = refusal(scope, 403, _refused(foreign))
        elif allowed and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            asked = headers.get("access-control-request-headers", "")
            app = Response(
                status_code=204, headers={**_PREFLIGHT, "Access-Control-Allow-Headers": asked or "*"}
            )
        await app(scope, receive, close)

    def _is_embedded_by_allowed(self, headers: Headers) -> bool:
        """Whether an allowed page may show the answer, where its browser doesn't say how it asks.

        Over plain HTTP browsers send neither Sec-Fetch-Site nor, for pictures, Origin.
        """
        return "sec-fetch-site" not in headers and _normal(_referring(headers)) in self._allowed

    def _log(self, origin: str) -> None:
        if origin in self._logged or len(self._logged) >= _MOST_LOGGED:
            return
        self._logged.add(origin)
        _logger.warning("%s", _refused(origin))


def _refused(origin: str) -> str:
    named = ascii(origin[:100])[1:-1]
    page = f"A page of {named}" if named else "A page of another origin"
    return (
        f"{page} was refused: only pages of this server may read from it, and those of origins that it was "
        f"started with: --allow-origin {named or 'ORIGIN'}. Behind a proxy, that has to hand on the Host "
        "header, or be listed with --trusted-proxy."
    )


def _is_own(origin: str, scope: Scope, headers: Headers) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.netloc.lower() != headers.get("host", "").lower():
        return False
    # A proxy may have taken the TLS off without a word; nobody puts it on.
    return parts.scheme == "https" or scope.get("scheme", "http") == "http"


def _is_navigation(scope: Scope, headers: Headers) -> bool:
    """Whether a person follows a link, into a tab of its own and not into a frame of the other page."""
    return (
        scope["method"] in ("GET", "HEAD")
        and "origin" not in headers
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest", "document") == "document"
    )


def _referring(headers: Headers) -> str:
    """The origin in Referer; "" where there is none."""
    try:
        parts = urlsplit(headers.get("referer", ""))
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme and parts.netloc else ""


def _normal(origin: str) -> str:
    """An origin as browsers write it: lower case, without the port that its scheme implies."""
    text = origin.lower().rstrip("/")
    scheme, _, rest = text.partition("://")
    default = {"http": ":80", "https": ":443"}.get(scheme)
    return f"{scheme}://{rest.removesuffix(default)}" if default else text


def _set_headers(headers: MutableHeaders, named: str | None, *, shared: bool, listed: bool) -> None:
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers["Cross-Origin-Resource-Policy"] = "cross-origin" if shared else "same-origin"
    headers.setdefault("Cache-Control", "private, no-cache")
    # What a browser keeps for one page is not for the other.
    headers.add_vary_header("Origin, Sec-Fetch-Site" + (", Referer" if listed else ""))
    if named is not None:
        headers["Access-Control-Allow-Origin"] = named
        headers["Access-Control-Expose-Headers"] = "Retry-After, WWW-Authenticate"
        if named != NO_ORIGIN:
            # Any page can make itself one without an origin; it gets nothing by somebody's session.
            headers["Access-Control-Allow-Credentials"] = "true"
