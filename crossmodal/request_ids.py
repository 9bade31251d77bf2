"""Which requests the work at hand is done for: one, or several that share a call of the model."""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["REQUEST_IDS"]

# Set by the server. It passes from a task to those that it starts, and to threads where they get the context.
REQUEST_IDS: ContextVar[tuple[str, ...]] = ContextVar("request_ids", default=())
