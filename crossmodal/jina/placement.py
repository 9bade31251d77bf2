"""Where the processes of a Flow may be: on this machine for it alone, or elsewhere with TLS and a token."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from crossmodal.errors import ServiceError
from crossmodal.flow.topology import StepEntry, Topology
from crossmodal.hosts import is_loopback
from crossmodal.jina.launch import TOKEN_FILE, read_shared_token

__all__ = ["require_private"]

_HERE = "127.0.0.1"


def require_private(path: Path, topology: Topology, environment: Mapping[str, str]) -> None:
    """Raises ServiceError for a step of the Flow in ``path`` that others than the Flow could reach or read.

    A step of this run has to listen on this machine alone, where jina would listen on every address by
    default. An ``external`` one needs an address, a port and TLS, for each of its shards, and the token in
    the file that the ``environment`` names.
    """
    for step in topology.steps:
        problem = _problem(step, environment)
        if problem is not None:
            raise ServiceError(f"{path}: {step.name} {problem}")


def _problem(step: StepEntry, environment: Mapping[str, str]) -> str | None:
    placing = step.placing
    protocol = str(placing.get("protocol", "grpc")).lower()
    if protocol not in ("grpc", "grpcs"):
        return f"says protocol: {protocol}; the processes of a Flow speak grpc alone."
    hosts = _listed(placing.get("host"))
    if not placing.get("external"):
        if hosts and all(is_loopback(host) for host in hosts):
            return None
        where = f"says host: {', '.join(hosts)}" if hosts else "says no host, so it would listen everywhere"
        return (
            f"{where}; a step that this run starts needs host: {_HERE}, and one that runs on another host "
            "external: true, tls: true, its host and its port."
        )
    addresses = [_address(host, bool(placing.get("tls"))) for host in hosts]
    if not addresses:
        return "is external and says no host; it needs its address, its port and tls: true."
    for host, (port, tls) in zip(hosts, addresses, strict=True):
        if not port and not _listed(placing.get("port")):
            return f"is external at {host} without a port; add it."
        if not tls:
            return f"is external at {host} without TLS, open to everybody between; add tls: true."
    if step.shards > 1 and len(addresses) != step.shards:
        return f"is external with {step.shards} shards and {len(addresses)} hosts; list a host for each."
    if read_shared_token(environment) is None:
        return (
            f"is external, which takes a token that both sides share: set {TOKEN_FILE} to a file that holds "
            "it, here and there."
        )
    return None


def _listed(value: Any) -> list[str]:
    """jina takes one value, or a list of them for several replicas."""
    return [str(one) for one in (value if isinstance(value, list) else [] if value is None else [value])]


def _address(host: str, tls: bool) -> tuple[int | None, bool]:
    """The port in ``host``, which may be a URL, and whether it is spoken to with TLS."""
    if "://" not in host:
        host = f"grpc://{host}"
    address = urlsplit(host)
    return address.port, tls or address.scheme == "grpcs"
