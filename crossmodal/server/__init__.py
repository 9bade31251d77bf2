"""The HTTP side of both Flows: bodies in, answers out; the Flow does the rest."""

from __future__ import annotations

from crossmodal.server.server import SearchGateway

__all__ = ["SearchGateway"]
