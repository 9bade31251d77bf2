"""How often a caller may come: the generic cell rate algorithm (ITU-T I.371), one number a caller."""

from __future__ import annotations

import time

from crossmodal.access.shared_table import SharedTable

__all__ = ["RateLimit"]


class RateLimit:
    """At most ``burst`` at once and ``a_minute`` in the long run, of each caller.

    ``name`` tells limits of one table apart.
    """

    def __init__(self, table: SharedTable, name: str, a_minute: float, burst: float) -> None:
        self._table = table
        self._name = name
        self._interval = 60.0 / a_minute
        self._tolerance = self._interval * (burst - 1)

    def wait(self, who: str) -> float:
        """Seconds until ``who`` may come again; 0 where that is now."""
        now = time.monotonic()
        return max(0.0, self._arrival(who, now) - now - self._tolerance)

    def take(self, who: str) -> float:
        """As ``wait``; where that is 0, this time counts."""
        now = time.monotonic()
        arrival = self._arrival(who, now)
        wait = arrival - now - self._tolerance
        if wait > 0:
            return wait
        self._table.put(self._name + who, arrival + self._interval)
        return 0.0

    def _arrival(self, who: str, now: float) -> float:
        """When the next would come of a caller who always keeps the rate."""
        found = self._table.get(self._name + who)
        return now if found is None else max(now, found[0])
