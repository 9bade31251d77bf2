"""Text in photos, read in a process of its own: its memory, threads and priority are not this one's."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Self

from crossmodal.errors import ImageError, ServiceError
from crossmodal.extras import require_package
from crossmodal.images.pool import DecodePool
from crossmodal.machine import available_cores
from crossmodal.ocr.worker import LENGTH, LONGEST_SIDE
from crossmodal.processes import exit_words, module_environment

__all__ = ["TextReader", "can_read_texts"]

_WHAT = "Reading the text in photos"

# A page of small print takes some seconds on one busy core.
_PHOTO_SECONDS = 300.0

# Loading the libraries and networks takes a second or two, on a busy machine some more.
_START_SECONDS = 120.0

# What a process says before it ends.
_MOST_SAID = 1000

# More threads than this make a photo hardly quicker.
_MOST_THREADS = 8

# The lowest priority: whatever else runs on this machine comes first.
_LOWEST = 19


def can_read_texts() -> bool:
    """Whether the extra is installed."""
    return find_spec("rapidocr") is not None


class TextReader:
    """A process that reads the text in photos, started by the first one; ``pool`` decodes them.

    Its networks have a thread for each core, 8 at most; in the ``background`` it has one, at the lowest
    priority. Raises MissingExtra where rapidocr is not installed. Safe across threads, one photo at a time.
    Close it, or use it in a ``with`` statement.
    """

    def __init__(self, pool: DecodePool, *, background: bool = False) -> None:
        require_package("rapidocr", _WHAT)
        self._pool = pool
        self._threads = 1 if background else min(available_cores(), _MOST_THREADS)
        self._nice = _LOWEST if background else 0
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process

    def read(self, photo: bytes, *, max_pixels: int) -> str:
        """The lines of text in the bytes of a photo's file, from top to bottom; empty where there is none.

        Raises ImageError where the photo cannot be read or takes too long, ServiceError where the process
        does not start.
        """
        picture = self._pool.picture(photo, max_pixels=max_pixels, side=LONGEST_SIDE)
        with self._lock:
            process = self._process or self._started()
            try:
                answer = _asked(process, picture)
            except TimeoutError:
                self._end()
                raise ImageError(
                    f"Reading its text was given up after {_PHOTO_SECONDS:.0f} seconds."
                ) from None
            except (OSError, EOFError, ValueError):
                raise ImageError(f"Reading its text ended the process ({self._ended()}).") from None
            except BaseException:
                # Interrupted in the middle: the next answer would be this photo's.
                self._end()
                raise
        if "error" in answer:
            raise ImageError(f"Its text cannot be read: {answer['error']}")
        return str(answer["text"])

    def close(self) -> None:
        """Ends the process, whatever it does."""
        with self._lock:
            self._end()
            self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        try:
            process = self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "crossmodal.ocr.worker", str(self._threads), str(self._nice)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env={**module_environment(), "OMP_NUM_THREADS": str(self._threads)},
                # The terminal's Ctrl-C is not for it.
                start_new_session=True,
            )
        except OSError as error:
            raise ServiceError(f"No process that reads text could be started ({error}).") from error
        try:
            _received(process, _START_SECONDS)
        except (TimeoutError, EOFError, OSError):
            raise ServiceError(
                f"The process that reads text did not start ({self._ended()}). It said: {self._last_words()}"
            ) from None
        return process

    def _last_words(self) -> str:
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(size - _MOST_SAID, 0))
        return " ".join(self._said.read().decode(errors="replace").split())

    def _ended(self) -> str:
        """How the process ended, which it has or is made to."""
        process = self._process
        if process is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
        code = None if process is None else process.poll()
        self._end()
        return "it was given up" if code is None else exit_words(code)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                # What was not sent yet goes nowhere.
                with suppress(OSError):
                    if stream is not None:
                        stream.close()


def _asked(process: subprocess.Popen[bytes], picture: bytes) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(LENGTH.pack(len(picture)) + picture)
    process.stdin.flush()
    return _received(process, _PHOTO_SECONDS)


def _received(process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    """The next answer; raises TimeoutError, and EOFError where the process has ended."""
    assert process.stdout is not None
    until = time.monotonic() + seconds
    number = process.stdout.fileno()
    received = bytearray()
    while len(received) < LENGTH.size or len(received) < LENGTH.size + LENGTH.unpack_from(received)[0]:
        if not select.select([number], [], [], max(until - time.monotonic(), 0))[0]:
            raise TimeoutError
        if not (part := os.read(number, 1 << 16)):
            raise EOFError
        received += part
    answer: dict[str, Any] = json.loads(received[LENGTH.size :])
    return answer
