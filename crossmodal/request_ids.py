"""Which requests the work at hand is done for: one, or several that share a call of the model."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

__all__ = ["REQUEST_IDS", "request_id"]

# Set by the server. It passes from a task to those that it starts, to threads where they get the context, and
# to the processes of a Flow with what they are asked.
REQUEST_IDS: ContextVar[tuple[str, ...]] = ContextVar("request_ids", default=())

# An id that a client may give: what trackers and proxies make, and nothing that could break a line.
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def request_id(given: str) -> str:
    """The id that a client gave, where it is at most 128 characters of a plain kind, else a new one."""
    return given if _SANE_ID.fullmatch(given) else secrets.token_hex(8)
