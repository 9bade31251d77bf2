"""How long a process that reports again and again has said nothing."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["CHECK_SECONDS", "SILENT_SECONDS", "Silence"]

# Reports are looked for so often.
CHECK_SECONDS = 0.5

# One that reports twice a second and has not for so long does not run, or is stopped.
SILENT_SECONDS = 10.0


class Silence:
    """The silence of a process, without what this process or a debugger holds up; begins now."""

    def __init__(self) -> None:
        self._heard = self._looked = time.monotonic()

    def end(self, heard: float | None = None) -> None:
        """Notes that it was heard of, at ``heard`` of ``time.monotonic`` or now."""
        self._heard = max(self._heard, time.monotonic() if heard is None else heard)

    def why_stuck(self, pid: int, said: str | None = None, patience: float = SILENT_SECONDS) -> str | None:
        """Why the process ``pid`` is to be killed: what it ``said``, or ``patience`` seconds of silence.

        To be called every CHECK_SECONDS, also while there is nothing to fear.
        """
        now = time.monotonic()
        # Where this process stood still itself, with the whole machine or under a debugger, nobody was heard.
        if now - self._looked > 2 * CHECK_SECONDS:
            self.end(now - CHECK_SECONDS)
        self._looked = now
        silent = now - self._heard
        if silent < patience and said is None:
            return None
        if _is_traced(pid):
            self.end()
            return None
        return said or f"It did not run for {silent:.0f} seconds."


def _is_traced(pid: int) -> bool:
    """Whether a debugger holds the process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in status.splitlines())
