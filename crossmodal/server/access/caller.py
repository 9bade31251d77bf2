"""Who asks, as the gate found out."""

from __future__ import annotations

from starlette.types import Scope

from crossmodal.access.policy import Caller

__all__ = ["caller_of"]


def caller_of(scope: Scope) -> Caller:
    """Who asks, of a request that passed the gate; of any other, somebody who may only read."""
    caller = scope.get("state", {}).get("caller")
    return caller if isinstance(caller, Caller) else Caller(None, "read")
