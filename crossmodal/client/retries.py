"""When a call is made again, and how long to wait before that."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["UNAVAILABLE", "Retries", "retry_after"]

# A server that is starting, busy or behind a proxy that doesn't reach it. RFC 9110, RFC 6585.
UNAVAILABLE = frozenset({502, 503, 504})
_AGAIN = UNAVAILABLE | {429}


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is made, at most ``attempts`` times (at least 1), and how it waits in between.

    The wait before attempt n + 1 is ``first_delay`` * 2**(n - 1) seconds, at most ``longest_delay``, half of
    it drawn by lot, so that clients that failed together don't come back together. Where the server says how
    long to wait, that is the least wait; where it says longer than ``longest_delay``, the call fails at once.
    """

    attempts: int = 5
    first_delay: float = 0.25
    longest_delay: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_delay < 0 or self.longest_delay < self.first_delay:
            raise ValueError(
                f"{self} cannot be followed: at least one attempt, and 0 <= first_delay <= longest_delay."
            )

    def wait(self, made: int, told: float | None = None) -> float | None:
        """Seconds to wait after ``made`` failed attempts; None where there is to be no other.

        ``told`` is how long the server asked to wait.
        """
        if made >= self.attempts or (told or 0) > self.longest_delay:
            return None
        # 2.0**made overflows for attempts that nobody can wait for.
        longest = min(self.longest_delay, self.first_delay * 2.0 ** min(made - 1, 64))
        return max(told or 0, longest * random.uniform(0.5, 1))

    def covers(self, status: int) -> bool:
        """Whether an answer with this HTTP status may be another one later."""
        return status in _AGAIN


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header (RFC 9110, 10.2.3: a number or a date) asks to wait, else None."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
