"""Who may see where photos were taken: somebody on this machine, and who holds an admin key."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.types import Scope

from crossmodal.errors import RequestError
from crossmodal.filters import Filter
from crossmodal.filters.places import asks_for_places
from crossmodal.filters.sorting import Order
from crossmodal.match import Match
from crossmodal.metadata.locations import is_private, without_private
from crossmodal.server.access.arrivals import UNTOLD_PROXY
from crossmodal.server.access.caller import caller_of
from crossmodal.settings import Settings

__all__ = ["hide_locations", "require_no_locations", "sees_locations"]


def sees_locations(scope: Scope, settings: Settings) -> bool:
    """Whether who asks may see coordinates and places; with ``--show-locations`` everybody may.

    That somebody holds a key makes them known, which --insecure-no-auth doesn't. A proxy of which the server
    was not told makes everybody seem to be on this machine.
    """
    caller = caller_of(scope)
    return settings.show_locations or (
        (caller.name is not None and caller.scope == "admin") or _is_here(scope)
    )


def hide_locations(matches: Iterable[Match]) -> None:
    """Take places out of the tags of ``matches``."""
    for match in matches:
        match.tags = without_private(match.tags)


def require_no_locations(filter: Filter | None, order: Order | None = None) -> None:
    """Raise RequestError, 403, where a filter or an order says what the tags would."""
    if (filter is not None and asks_for_places(filter)) or (order is not None and is_private(order.tag)):
        raise RequestError(
            "Where photos were taken is for whoever holds an admin key or sits at this machine, and this "
            "asks for it; `crossmodal serve --show-locations` opens it for everybody.",
            status=403,
        )


def _is_here(scope: Scope) -> bool:
    if scope.get("state", {}).get(UNTOLD_PROXY):
        return False
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(str(client[0]) if client else "")
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
