"""Sessions of people who logged in on the page: a random cookie, and the key that it stands for."""

from __future__ import annotations

import secrets
import time

from starlette.requests import Request
from starlette.responses import Response

from crossmodal.access.shared_table import SharedTable
from crossmodal.http_shapes.root_path import ROOT_PATH

__all__ = ["SESSION_SECONDS", "Sessions"]

# A day; whoever needs another one logs in again.
SESSION_SECONDS = 24 * 60 * 60

_NAME = "crossmodal_session"

# A browser takes a cookie of that beginning over TLS alone, for this host alone (RFC 6265bis, 4.1.3).
_SECURE_NAME = "__Host-" + _NAME

# The same, without the promise that it is sent to every path of the host (RFC 6265bis, 4.1.3.1).
_SECURE_NAME_BELOW = "__Secure-" + _NAME

_RANDOM_BYTES = 32


class Sessions:
    """Who is logged in. A session ends after SESSION_SECONDS, by logging out, or with its key.

    ``table`` holds of each session the SHA-256 of the key, and its cookie as a hash alone.
    """

    def __init__(self, table: SharedTable) -> None:
        self._table = table

    def begin(self, request: Request, response: Response, sha256: str) -> None:
        """Logs in whoever gets ``response`` with the key of that SHA-256 (hexadecimal)."""
        cookie = secrets.token_urlsafe(_RANDOM_BYTES)
        self._table.put(cookie, time.monotonic() + SESSION_SECONDS, bytes.fromhex(sha256))
        _set_cookie(request, response, cookie, SESSION_SECONDS)

    def key_of(self, request: Request) -> str | None:
        """The SHA-256 of the key that the request's session stands for; None where there is no session."""
        cookie = request.cookies.get(_cookie_name(request))
        found = None if not cookie else self._table.get(cookie)
        return None if found is None else found[1].hex()

    def end(self, request: Request, response: Response) -> None:
        """Logs out the session of ``request``."""
        if cookie := request.cookies.get(_cookie_name(request)):
            self._table.remove(cookie)
        _set_cookie(request, response, "", 0)


def _cookie_name(request: Request) -> str:
    if request.url.scheme != "https":
        return _NAME
    return _SECURE_NAME_BELOW if ROOT_PATH.get() else _SECURE_NAME


def _set_cookie(request: Request, response: Response, value: str, seconds: int) -> None:
    response.set_cookie(
        _cookie_name(request),
        value,
        max_age=seconds,
        # What else a proxy shows at this host has no use for it.
        path=ROOT_PATH.get() + "/",
        secure=request.url.scheme == "https",
        httponly=True,
        # No request that another site causes carries it, not even a link.
        samesite="strict",
    )
