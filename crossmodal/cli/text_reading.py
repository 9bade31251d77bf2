"""The text in photos, read when the index is ready: at the end of ``index``, and while ``watch`` waits."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import closing, nullcontext

from crossmodal.cli.local_engine import engine_for
from crossmodal.cli.present.console import counted
from crossmodal.cli.present.progress import TextProgress
from crossmodal.engine.engine import Engine
from crossmodal.engine.texts import ReadText
from crossmodal.errors import CrossmodalError, StoreLocked
from crossmodal.ocr import can_read_texts
from crossmodal.processes import StopSignals
from crossmodal.settings import Settings

__all__ = ["TextsMeanwhile", "read_waiting_texts"]

# A server or ``watch`` writes for a moment, or for half a minute after its last write.
_PATIENCE_SECONDS = 60.0

# Changes are looked for again after so long.
_READING_SECONDS = 2.0


def read_waiting_texts(settings: Settings) -> bool:
    """Reads the text in the photos of the index that wait; False where a signal ended that before its end.

    Without the extra, or with ``--ocr off``, it reads none. A photo that cannot be read is told on stderr.
    """
    if settings.ocr == "off" or not can_read_texts():
        return True
    with StopSignals() as signals, engine_for(settings) as engine:
        waiting = engine.workspace.text_counts().waiting
        if not waiting:
            return True
        print(
            f"The index is ready. Reading the text in {counted(waiting, 'photo')}: that can be stopped at "
            "any moment, and the next `index` goes on with it.",
            file=sys.stderr,
        )
        # Processes take long to start, and are started once.
        held = engine.writing() if settings.layout == "pods" else nullcontext()
        with (
            held,
            TextProgress(waiting, enabled=not settings.json) as progress,
            closing(
                engine.read_texts(
                    patient=lambda seconds: seconds < _PATIENCE_SECONDS and not signals.stopping
                )
            ) as reading,
        ):
            try:
                for item in reading:
                    _tell(item)
                    progress.with_text += bool(item.text)
                    progress.advance(added=item.error is None, failed=item.error is not None)
                    if signals.stopping:
                        return False
            except StoreLocked as error:
                print(f"warning: {error} The next `index` goes on with the text in photos.", file=sys.stderr)
    return True


class TextsMeanwhile:
    """The text in photos, read as long as nothing else is to be done; ``engine`` is open. Close it."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._wanted = settings.ocr != "off" and can_read_texts()
        self._reading: Generator[ReadText, None, None] | None = None
        self._failed: set[str] = set()
        self._read = 0
        self._waiting = self._wanted

    def wake(self) -> None:
        """Says that there may be new photos."""
        self._waiting = self._wanted

    def try_again(self) -> None:
        """Says that what could not be read may be read now, as on a disk that is back."""
        self._failed.clear()
        self.wake()

    def read_some(self) -> None:
        """Reads for about two seconds. Raises as ``Engine.read_texts``."""
        if not self._waiting:
            return
        until = time.monotonic() + _READING_SECONDS
        if self._reading is None:
            self._reading = self._engine.read_texts(background=True, skip=self._failed)
        try:
            for item in self._reading:
                _tell(item)
                if item.error is None:
                    self._read += 1
                else:
                    self._failed.add(item.photo)
                if time.monotonic() >= until:
                    return
        except CrossmodalError as error:
            # What was not stored is read again: soon where another process writes, else after a change.
            self._reading = None
            self._waiting = isinstance(error, StoreLocked)
            raise
        self._reading, self._waiting = None, False
        if self._read:
            print(f"{time.strftime('%H:%M:%S')} text read in {counted(self._read, 'photo')}", flush=True)
            self._read = 0

    def close(self) -> None:
        """Stores what was read."""
        if self._reading is not None:
            self._reading.close()
            self._reading = None


def _tell(item: ReadText) -> None:
    if item.error is not None:
        print(f"warning: {item.source}: {item.error}", file=sys.stderr, flush=True)
