"""Names and addresses of machines."""

from __future__ import annotations

import ipaddress
import socket

from crossmodal.errors import ServiceError

__all__ = ["in_url", "is_loopback", "listen"]


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address without a port, can only be this machine (RFC 6761, 6.3)."""
    name = host.lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def in_url(host: str) -> str:
    """``host`` as it stands before a colon and a port: an IPv6 address in brackets (RFC 3986, 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def listen(host: str, port: int, *, option: str) -> socket.socket:
    """A socket that listens there; where that is impossible, raises ServiceError that names ``option``."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            # A port whose last connections are still winding down can be listened on again.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(2048)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise ServiceError(
            f"Port {port} on {host} cannot be listened on ({error.strerror or error}); "
            f"end what uses it, or choose another with {option}."
        ) from None
    return listening
