"""The text in photos, read while the server has nothing to write."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from crossmodal.engine.engine import Engine
from crossmodal.errors import CrossmodalError, StoreLocked, StoreMissing
from crossmodal.ocr import can_read_texts

__all__ = ["TextReading"]

_logger = logging.getLogger(__name__)

# Several writes come one after the other; reading begins when none has come for so long.
_QUIET_SECONDS = 5.0

# So long after another process was found writing, or something went wrong, it is tried again.
_RETRY_SECONDS = 60.0

# So often a photo that could not be read is tried again: its disk may be back.
_AGAIN_SECONDS = 3600.0

# A photo takes a second or so.
_CLOSE_SECONDS = 3.0


class TextReading:
    """A thread that reads the text in the photos of ``engine`` that wait, one at a time.

    The process that reads has one thread and the lowest priority, and the writer's lock is held only while
    something is stored. It begins at the start and after writes; ``busy`` says whether one is under way, and
    then it stops until that is over. Close it before the engine.
    """

    def __init__(self, engine: Engine, busy: Callable[[], bool]) -> None:
        self._engine = engine
        self._busy = busy
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._ended = threading.Event()
        # Photos that cannot be read wait for the next hour.
        self._failed: set[str] = set()
        self._again_at = time.monotonic() + _AGAIN_SECONDS
        self._thread = threading.Thread(target=self._run, name="read-texts", daemon=True)

    def start(self) -> None:
        """Begins, if the extra is installed."""
        if can_read_texts():
            self._changed.set()
            self._thread.start()

    def wake(self) -> None:
        """Says that there may be new photos."""
        self._changed.set()

    def close(self) -> None:
        """Ends it, after the photo that is being read."""
        self._closing.set()
        self._changed.set()
        if self._thread.ident is not None:
            # What is left of it after that ends with this process, and reads that photo another time; it
            # stores nothing, which would open again what is closed after this.
            self._thread.join(_CLOSE_SECONDS)
        self._ended.set()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._changed.wait(_AGAIN_SECONDS if self._failed else None)
            self._changed.clear()
            if self._closing.wait(_QUIET_SECONDS):
                return
            if self._changed.is_set() or self._busy():
                self._changed.set()
                continue
            try:
                self._read()
            except StoreMissing:
                # The first write makes it.
                continue
            except StoreLocked:
                self._try_later()
            except CrossmodalError as error:
                _logger.warning("The text in photos cannot be read: %s", error)
                self._try_later()
            except Exception:
                # The thread goes on whatever comes: else nothing would be read until a restart.
                _logger.exception("The text in photos cannot be read")
                self._try_later()

    def _read(self) -> None:
        if not self._engine.workspace.text_counts().waiting:
            return
        if time.monotonic() >= self._again_at:
            self._failed.clear()
            self._again_at = time.monotonic() + _AGAIN_SECONDS
        reading = self._engine.read_texts(background=True, skip=self._failed, ended=self._ended.is_set)
        try:
            for item in reading:
                if item.error is not None:
                    self._failed.add(item.photo)
                    _logger.warning("%s: %s", item.source, item.error)
                if self._closing.is_set() or self._changed.is_set() or self._busy():
                    self._changed.set()
                    return
        finally:
            reading.close()

    def _try_later(self) -> None:
        if not self._closing.wait(_RETRY_SECONDS):
            self._changed.set()
