"""The process beside the workers of a server, such as the one that speaks gRPC."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from crossmodal.errors import ServiceError
from crossmodal.processes import exit_words
from crossmodal.server.restarts import Restarts
from crossmodal.server.silence import Silence
from crossmodal.server.worker import metrics_variables
from crossmodal.settings import Settings, exported

__all__ = ["Beside", "BesideProcess"]


class BesideProcess(Protocol):
    """A process beside the workers that ends with this one, such as the one that speaks gRPC."""

    @property
    def pid(self) -> int: ...
    def fileno(self) -> int: ...
    def heard(self) -> float: ...
    def is_ready(self) -> bool: ...
    def poll(self) -> int | None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class Beside:
    """The process beside the workers, where there is one; ended with the context."""

    def __init__(
        self, settings: Settings, start: Callable[[], BesideProcess] | None, folder: Path | None
    ) -> None:
        self._name = f"The process that answers gRPC on port {settings.grpc_port}"
        self._start = start
        self._folder = folder
        self._process: BesideProcess | None = None
        self._restarts = Restarts(self._name)
        self._answered = False
        self._silence = Silence()
        self.answering = start is None

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._process is not None:
            self._process.stop()

    @property
    def due(self) -> float:
        """When it is to be started again; infinite where it runs, or has never been started."""
        return self._restarts.due if self._answered else math.inf

    @property
    def starting(self) -> list[int]:
        """The pipe on which it reports while it starts."""
        return [] if self._process is None or self.answering else [self._process.fileno()]

    def check(self) -> None:
        """Starts it where it has ended, or never was, and kills it where it is stuck.

        Raises ServiceError where it cannot serve.
        """
        if self._start is None:
            return
        if self._process is None:
            if self._restarts.take():
                with exported(metrics_variables(self._folder)):
                    self._process = self._start()
            return
        if self.answering:
            self._kill_stuck(self._process)
        # Polled first: then all that it has reported before its end can be read.
        code = self._process.poll()
        if not self.answering:
            self.answering = self._process.is_ready()
            self._answered |= self.answering
            # It reports from then on.
            self._silence = Silence()
        if code is not None:
            self.answering = False
            self._process.stop()
            self._process = None
            if not self._answered:
                raise ServiceError(f"{self._name} ended while starting ({exit_words(code)}).")
            self._restarts.note_end(code)

    def _kill_stuck(self, process: BesideProcess) -> None:
        self._silence.end(process.heard())
        if (why := self._silence.why_stuck(process.pid)) is not None:
            print(f"error: {self._name} is killed. {why}", file=sys.stderr, flush=True)
            process.kill()
