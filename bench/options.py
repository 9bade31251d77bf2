"""What every benchmark is told."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["REPOSITORY", "Options"]

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Options:
    """``quick`` asks for a run of at most 45 seconds, which ``deadline`` on ``time.perf_counter`` is for.

    ``data`` is a folder with photos and captions, None for the toy data; ``workspace`` holds what is made
    once and used again, such as stores of a million vectors.
    """

    quick: bool
    data: Path | None
    workspace: Path
    deadline: float | None = None

    def until(self, share: float = 1.0) -> float | None:
        """When ``share`` of the time that is left will be over; None where there is no deadline."""
        if self.deadline is None:
            return None
        now = time.perf_counter()
        return now + share * max(self.deadline - now, 0.0)
