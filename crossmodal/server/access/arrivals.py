"""Where a request comes from: through which proxy, and without a key in its address."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import unquote_plus

from starlette.types import ASGIApp, Receive, Scope, Send

from crossmodal.errors import SettingsError
from crossmodal.http_shapes.root_path import ROOT_PATH, root_path_of

__all__ = ["HOST", "UNTOLD_PROXY", "URL_KEY", "Arrivals", "parse_networks"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HOST = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")

# Where in the state of a request a key is that stood in its address.
URL_KEY = "url_key"

# Where in the state of a request it stands that it came through a proxy of which the server was not told.
UNTOLD_PROXY = "untold_proxy"

# What proxies add to what they pass on, X-Forwarded-For apart.
_OF_PROXIES = frozenset({b"x-real-ip", b"forwarded", b"via"})

_PARAMETER = b"key="


def parse_networks(given: Iterable[str]) -> tuple[Network, ...]:
    """The addresses and networks of --trusted-proxy; raises SettingsError for anything else."""
    networks = []
    for text in given:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError:
            raise SettingsError(
                f"--trusted-proxy {text!r} is neither an address nor a network; write it like 10.0.0.7 or "
                "10.0.0.0/8."
            ) from None
    return tuple(networks)


class Arrivals:
    """Puts the client, the scheme and the host into the scope as the proxies in ``trusted`` report them.

    The path that such a proxy has taken off (X-Forwarded-Prefix) becomes ROOT_PATH. Of everybody else those
    headers are ignored, but for a note that there were some. A key in the address moves from there into the
    request's state, so that nothing behind this, the log least of all, sees it. A connection without an
    address is one of another serving process, which names its client as the last of X-Forwarded-For.
    """

    def __init__(self, app: ASGIApp, trusted: tuple[Network, ...]) -> None:
        self._app = app
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        through_proxy = self._resolve(scope)
        _take_key(scope)
        token = ROOT_PATH.set(_root_path(scope, ROOT_PATH.get(), through_proxy=through_proxy))
        try:
            await self._app(scope, receive, send)
        finally:
            ROOT_PATH.reset(token)

    def _resolve(self, scope: Scope) -> bool:
        """Whether the request came through a proxy of ``trusted``, as which the scope is changed then."""
        hops = _listed(scope, b"x-forwarded-for")
        peer, port = scope.get("client") or ("", 0)
        if not peer and hops and _is_of_this_server(scope):
            peer = hops.pop()
        through_proxy = self._is_trusted(peer)
        scope["state"][UNTOLD_PROXY] = not through_proxy and (
            bool(hops) or any(name in _OF_PROXIES for name, _ in scope["headers"])
        )
        while self._is_trusted(peer) and hops:
            peer, port = hops.pop(), 0
        scope["client"] = (peer, port)
        if not through_proxy:
            return False
        if (schemes := _listed(scope, b"x-forwarded-proto")) and schemes[-1] in ("http", "https"):
            scope["scheme"] = schemes[-1]
        hosts = _listed(scope, b"x-forwarded-host")
        if hosts and HOST.fullmatch(host := hosts[-1].encode("latin-1")):
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope["headers"] = [(b"host", host), *others]
        return True

    def _is_trusted(self, address: str) -> bool:
        if not self._trusted:
            return False
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None)
        return any((mapped or found) in network for network in self._trusted)


def _root_path(scope: Scope, configured: str, *, through_proxy: bool) -> str:
    """What stands in front of the paths: what the nearest proxy says, else ``configured``."""
    prefixes = _listed(scope, b"x-forwarded-prefix") if through_proxy else []
    named = root_path_of(prefixes[-1]) if prefixes else None
    return configured if named is None else named


def _is_of_this_server(scope: Scope) -> bool:
    """Whether it came over the socket file of another serving process, and not by a port."""
    server = scope.get("server")
    return server is None or server[1] is None


def _listed(scope: Scope, name: bytes) -> list[str]:
    """The values of a header that may come several times and hold several, in order."""
    values = [value.decode("latin-1") for header, value in scope["headers"] if header == name]
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _take_key(scope: Scope) -> None:
    parts = scope.get("query_string", b"").split(b"&")
    keys = [part for part in parts if part.startswith(_PARAMETER)]
    if keys:
        value = keys[0].removeprefix(_PARAMETER).decode("latin-1")
        scope["state"][URL_KEY] = unquote_plus(value)
        scope["query_string"] = b"&".join(part for part in parts if part not in keys)
