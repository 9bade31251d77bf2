"""How processes start and end: what they get, what an exit code means, and signals as a wish to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Self

__all__ = ["STOP_SIGNALS", "StopSignals", "exit_words", "module_environment"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# A process that works on photos gets none of the environment that it doesn't need: there may be keys in it.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME", "TMPDIR")


def module_environment() -> dict[str, str]:
    """The environment of a process that runs a module of this package: paths, the language, and no keys.

    Modules are found where this process has found them, whatever its current folder was then.
    """
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    package = str(Path(__file__).resolve().parents[1])
    folders = [package, *(part for part in sys.path if Path(part).is_absolute())]
    return {**passed_on, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(folders)}


def exit_words(code: int | None) -> str:
    """How a process ended, of its exit code: killed by which signal, or the number."""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


class StopSignals:
    """Notes SIGINT and SIGTERM as long as the context lasts; a second one raises KeyboardInterrupt.

    For the main thread; ``stopping`` can be asked in any. ``wake`` can be read from once a signal has come:
    one that comes just before a wait would be slept over.
    """

    def __init__(self) -> None:
        self.stopping = False
        self._previous: dict[int, Any] = {}
        self.wake, self._written = os.pipe()
        os.set_blocking(self._written, False)

    def __enter__(self) -> Self:
        for number in STOP_SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self.wake)
        os.close(self._written)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.stopping:
            raise KeyboardInterrupt
        self.stopping = True
        os.write(self._written, b"s")
