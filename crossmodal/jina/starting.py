"""While a Flow starts: signals, dead processes and a deadline end it, and jina says nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Any

from crossmodal.errors import ServiceError
from flows.child_processes import exit_words

__all__ = ["Starting"]

# A large model on a slow disk takes a minute at most.
_START_SECONDS = 300.0
_START_CHECK_SECONDS = 0.2


class Starting:
    """While a Flow starts: no output of jina, and an end to the waiting that jina would do for ten minutes.

    SIGINT and SIGTERM raise KeyboardInterrupt here, and so do a process that dies and the deadline.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._failure: str | None = None
        self._interrupted = False
        self._postponed = False
        self._started = threading.Event()
        # jina's pods, of which each has a process.
        self._pods: list[Any] = []
        self._previous: dict[int, Any] = {}
        self._report_unraisable = sys.unraisablehook
        self._watching = threading.Thread(target=self._watch, name="watch-start", daemon=True)
        self._silence = contextlib.ExitStack()

    def __enter__(self) -> Starting:
        # jina paints a banner on stdout, where results of the command line belong.
        nowhere = self._silence.enter_context(open(os.devnull, "w", encoding="utf-8"))
        self._silence.enter_context(contextlib.redirect_stdout(nowhere))
        self._silence.enter_context(_noting_pods(self._pods))
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._interrupt)
        sys.unraisablehook = self._unraisable
        self._watching.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._started.set()
        # Its signal must not arrive when the handlers are those of before.
        self._watching.join()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._report_unraisable
        self._silence.close()
        if kind is KeyboardInterrupt:
            # It came while jina was telling of the failure itself.
            self.raise_failure()

    def processes(self) -> list[BaseProcess]:
        """Every process of the Flow started so far, also one that has died since."""
        return [pod.worker for pod in self._pods if pod.worker.pid is not None]

    def raise_interrupt(self) -> None:
        """Raises KeyboardInterrupt where a signal has come."""
        if self._interrupted:
            raise KeyboardInterrupt

    def raise_failure(self) -> None:
        """Raises ServiceError where a dead process or the deadline ended the start, and not a person."""
        self._started.set()
        if self._failure is not None:
            raise ServiceError(self._failure) from None

    def let_tasks_end(self) -> None:
        """Lets what was cancelled close its connections: the loop ended with the first of the tasks."""
        self._started.set()

        async def wait() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*others, return_exceptions=True)

        asyncio.get_event_loop().run_until_complete(wait())

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        loop = _running_loop()
        # Neither is sure to end the start: it is asked to again then.
        self._postponed = loop is not None or _is_forking(frame)
        if loop is not None:
            # Raised in the midst of gRPC's own code, it leaves gRPC unable to end.
            loop.call_soon_threadsafe(_cancel_tasks, loop)
        elif not self._postponed:
            raise KeyboardInterrupt

    def _unraisable(self, report: sys.UnraisableHookArgs) -> None:
        """Takes what the handler raised where nothing can be, as in the callback of a weak reference."""
        if issubclass(report.exc_type, KeyboardInterrupt):
            self._postponed = True
        else:
            self._report_unraisable(report)

    def _watch(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._started.wait(_START_CHECK_SECONDS):
            if self._interrupted:
                self._end_processes()
            else:
                self._failure = self._look_for_failure(deadline)
                if self._failure:
                    self._end_processes()
            if self._postponed or (self._failure and not self._interrupted):
                os.kill(os.getpid(), signal.SIGTERM)

    def _end_processes(self) -> None:
        """Ends what is not wanted any more: jina, leaving its start, waits for processes that nobody ends.

        For one that dies before it has told of anything, it would wait a minute.
        """
        for pod in list(self._pods):
            if pod.worker.pid is not None:
                pod.worker.kill()
                pod.is_shutdown.set()

    def _look_for_failure(self, deadline: float) -> str | None:
        dead = next((process for process in self.processes() if not process.is_alive()), None)
        if dead is not None and dead.exitcode != 0:
            return (
                f"The process {dead.name} of the {self._kind} Flow ended while starting "
                f"({exit_words(dead.exitcode)})."
            )
        if dead is not None:
            return (
                f"The process {dead.name} of the {self._kind} Flow could not start; "
                "what it said stands above."
            )
        if time.monotonic() > deadline:
            return f"The {self._kind} Flow did not start within {_START_SECONDS:.0f} seconds."
        return None


@contextlib.contextmanager
def _noting_pods(noted: list[Any]) -> Iterator[None]:
    """Adds every pod of jina that is started meanwhile to ``noted``.

    multiprocessing forgets a dead process as soon as another is started or it is asked for the living ones.
    """
    from jina.orchestrate.pods import Pod

    start = Pod.start

    def note_and_start(pod: Any) -> Any:
        noted.append(pod)
        return start(pod)

    Pod.start = note_and_start
    try:
        yield
    finally:
        Pod.start = start


def _is_forking(frame: FrameType | None) -> bool:
    """Whether a process is being forked in ``frame``: Python only prints what is raised in a hook of that."""
    while frame is not None:
        if frame.f_code.co_name == "_launch":
            return True
        frame = frame.f_back
    return False


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        # Once: what is closing its connection must not be cancelled at that.
        if not task.cancelling():
            task.cancel()
