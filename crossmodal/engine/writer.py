"""When the index Flow is open, and with it the lock of the index's one writer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from crossmodal.errors import ServiceError
from crossmodal.flow.runner import Flow

__all__ = ["Writer", "WriterState"]

WriterState = Literal["idle", "starting", "running"]


class Writer:
    """The index Flow: opened by the first write, closed ``idle_seconds`` after the last one.

    Safe across threads.
    """

    def __init__(self, open_flow: Callable[[], Flow], idle_seconds: float) -> None:
        self._open_flow = open_flow
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._flow: Flow | None = None
        self._users = 0
        # Until then whoever wrote last may write again.
        self._until = 0.0
        self._ending = False
        self._closing: threading.Timer | None = None
        self._starting = False

    @property
    def state(self) -> WriterState:
        """Whether it is open at this moment."""
        if self._starting:
            return "starting"
        return "idle" if self._flow is None else "running"

    @contextmanager
    def flow(self, *, lingers: bool = True) -> Iterator[Flow]:
        """The index Flow, for as long as the context lasts.

        Where it ``lingers`` it stays open for some time, otherwise no longer than it would have: for work in
        the background, which other processes that want to write must not wait for.
        """
        with self._lock:
            self._users += 1
            if self._closing is not None:
                self._closing.cancel()
                self._closing = None
        try:
            yield self._opened()
        finally:
            with self._lock:
                self._users -= 1
                if lingers:
                    self._until = time.monotonic() + self._idle_seconds
                if self._users == 0 and self._flow is not None:
                    self._close_later()

    def close(self) -> None:
        """Closes the Flow, now or after what is being written."""
        with self._lock:
            if self._closing is not None:
                self._closing.cancel()
                self._closing = None
            self._ending = self._users > 0
            if not self._ending:
                self._close()

    def check(self) -> None:
        """Raises ServiceError where the open Flow lost a process, or what it writes to."""
        flow = self._flow
        if flow is not None:
            flow.check()

    def _opened(self) -> Flow:
        with self._opening:
            if self._flow is not None:
                try:
                    self._flow.check()
                except ServiceError:
                    # It lost a process, or the index was replaced: this write opens it again.
                    lost, self._flow = self._flow, None
                    lost.close()
            if self._flow is None:
                self._starting = True
                try:
                    self._flow = self._open_flow()
                finally:
                    self._starting = False
            return self._flow

    def _close_later(self) -> None:
        seconds = self._until - time.monotonic()
        if seconds <= 0 or self._ending:
            self._ending = False
            self._close()
            return
        self._closing = threading.Timer(seconds, self._close_if_idle)
        self._closing.daemon = True
        self._closing.start()

    def _close_if_idle(self) -> None:
        with self._lock:
            if self._users == 0:
                self._close()

    def _close(self) -> None:
        with self._opening:
            flow, self._flow = self._flow, None
            if flow is not None:
                flow.close()
