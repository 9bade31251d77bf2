"""Lines of the log about requests that are refused because the server is busy: a few, and a sum of the rest.

A line costs more than such a refusal, and hundreds of equal ones a second hide all others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter

__all__ = ["RefusalLines"]

# So many a second have lines of their own; one line says what became of all others.
_OWN_LINES = 10
_SECONDS = 1.0


class RefusalLines:
    """Counts refusals, and writes to ``logger`` once a second how many had no lines of their own.

    For one event loop.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._began = -_SECONDS
        self._own = 0
        # By address.
        self._summed: Counter[str] = Counter()

    def are_own(self, address: str) -> bool:
        """Whether the refusal of a request from ``address`` gets lines of its own; counts it."""
        now = time.monotonic()
        if not self._summed and now - self._began >= _SECONDS:
            self._began, self._own = now, 0
        self._own += 1
        if self._own <= _OWN_LINES:
            return True
        if not self._summed:
            asyncio.get_running_loop().call_later(self._began + _SECONDS - now, self._sum_up)
        self._summed[address] += 1
        return False

    def _sum_up(self) -> None:
        address, most = self._summed.most_common(1)[0]
        fields = {
            "action": "refused",
            "reason": "busy",
            "requests": self._summed.total(),
            "seconds": _SECONDS,
            "addresses": len(self._summed),
            "most_from": address,
            "of_those": most,
        }
        self._summed.clear()
        self._logger.info("audit", extra={"fields": fields})
