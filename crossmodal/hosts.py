"""Names and addresses of machines."""

from __future__ import annotations

import ipaddress
import socket

from crossmodal.errors import ServiceError

__all__ = ["in_url", "is_loopback", "is_own", "is_public", "listen"]

# What isn't for the whole internet: IANA's special-purpose address registries (RFC 6890 and what updates it),
# multicast (RFC 5771), addresses for relays, and Azure's address of the host below a virtual machine. Not
# ipaddress.is_global, whose answer changes between patch releases of Python.
_NOT_PUBLIC_4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "168.63.129.16/32",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",
        ),
    )
)
# Only 2000::/3 is given out as global unicast (RFC 4291, 2.4): loopback, IPv4-mapped and -compatible, NAT64,
# unique local (fd00:ec2::254 among them), link-local and multicast addresses all lie outside. In it, Teredo
# (2001::/32) and 6to4 (2002::/16) hold IPv4 addresses, private ones too.
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    map(
        ipaddress.IPv6Network,
        ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address without a port, can only be this machine (RFC 6761, 6.3)."""
    name = host.lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_public(address: str) -> bool:
    """Whether ``address`` is one of a machine on the internet: none of a special range, and nothing else."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in _NOT_PUBLIC_4)
    return parsed in _GLOBAL_6 and not any(parsed in network for network in _NOT_PUBLIC_6)


def is_own(address: str) -> bool:
    """Whether this machine has ``address`` itself: where it may answer what no other may see."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Sends nothing; the kernel chooses the address to send from.
            probe.connect((address, 9))
            return bool(probe.getsockname()[0] == address)
    except OSError:
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
