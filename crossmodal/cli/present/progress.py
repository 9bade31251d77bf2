"""The progress of indexing and evaluating, on stderr: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from crossmodal.cli.present.console import counted, duration, speed_number

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["EvaluationProgress", "IndexProgress", "TextProgress"]

# Speed and time left are those of the last seconds, and from the first batch on: a model is slow to load.
_WINDOW_SECONDS = 30.0

# Of two batches that end at almost the same time, nothing can be said.
_LEAST_SECONDS = 0.2


class IndexProgress:
    """A context manager that shows how far indexing has come; call ``advance`` after each batch.

    ``total`` is the number of documents expected, None where it cannot be known. ``interval`` is the
    number of seconds between two lines where ``file`` is not a terminal. With ``enabled=False``
    nothing is written.
    """

    label = "Indexing"
    thing = "document"

    def __init__(
        self,
        total: int | None,
        *,
        enabled: bool = True,
        file: TextIO | None = None,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.added = self.replaced = self.unchanged = self.failed = 0
        self._total = total
        self._enabled = enabled
        self._file = sys.stderr if file is None else file
        self._interval = interval
        self._clock = clock
        self._bar: Progress | None = None
        self._written = 0
        self._started = self._last_line = clock()
        self._marks: list[tuple[float, int]] = [(self._started, 0)]

    def __enter__(self) -> Self:
        self._started = self._last_line = self._clock()
        self._marks = [(self._started, self.done)]
        if self._enabled and self._file.isatty():
            self._bar = _progress_bar(self._file)
            self._bar.add_task(self.label, total=self._total, speed="", left="", counts="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._show_bar(self._bar)
            self._bar.stop()
        elif self._enabled and self.done > self._written:
            self._write_line()

    @property
    def done(self) -> int:
        """How many documents have gone through, whatever became of them."""
        return self.added + self.replaced + self.unchanged + self.failed

    def advance(self, added: int = 0, replaced: int = 0, unchanged: int = 0, failed: int = 0) -> None:
        """Counts documents that have just gone through."""
        self.added += added
        self.replaced += replaced
        self.unchanged += unchanged
        self.failed += failed
        now = self._clock()
        if len(self._marks) == 2 and self._marks[0][1] == 0:
            del self._marks[0]
        self._marks.append((now, self.done))
        while len(self._marks) > 2 and now - self._marks[1][0] >= _WINDOW_SECONDS:
            del self._marks[0]
        if self._bar is not None:
            self._show_bar(self._bar)
        elif self._enabled and now - self._last_line >= self._interval:
            self._write_line()

    def documents_per_second(self) -> float | None:
        """The speed over the last half minute, None before anything can be said."""
        (first, before), (last, after) = self._marks[0], self._marks[-1]
        seconds, documents = last - first, after - before
        return documents / seconds if seconds >= _LEAST_SECONDS and documents > 0 else None

    def seconds_left(self) -> float | None:
        """The time left at that speed, None where the total or the speed of a second batch is unknown."""
        speed = self.documents_per_second()
        if self._total is None or speed is None or self._marks[0][1] == 0:
            return None
        return max(0, self._total - self.done) / speed

    def counts(self) -> str:
        """``1,200 indexed, 300 already there, 2 failed``; what is zero is left out, except the first."""
        parts = [f"{self.added + self.replaced:,} indexed"]
        if self.unchanged:
            parts.append(f"{self.unchanged:,} already there")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        return ", ".join(parts)

    def _speed(self) -> str:
        speed = self.documents_per_second()
        return "" if speed is None else f"{speed_number(speed)} {self.thing}s/s"

    def _left(self) -> str:
        left = self.seconds_left()
        return "" if left is None or self.done >= (self._total or 0) else f"{duration(left)} left"

    def _show_bar(self, bar: Progress) -> None:
        # A data set may turn out longer than it looked; the bar then grows with it.
        total = None if self._total is None else max(self._total, self.done)
        bar.update(
            bar.task_ids[0],
            completed=self.done,
            total=total,
            speed=self._speed(),
            left=self._left(),
            counts=self.counts(),
        )

    def _write_line(self) -> None:
        self._last_line = self._clock()
        self._written = self.done
        of = "" if self._total is None else f" of {max(self._total, self.done):,}"
        done = f"{self.done:,}{of} {self.thing}s" if of else counted(self.done, self.thing)
        parts = [done, self.counts(), self._speed(), self._left()]
        print("; ".join(part for part in parts if part), file=self._file, flush=True)


class EvaluationProgress(IndexProgress):
    """The progress of an evaluation; ``stage`` says what it is doing."""

    label = "Evaluating"
    stage = "encoding"

    def counts(self) -> str:
        """``indexing, 2 failed``."""
        return f"{self.stage}, {self.failed:,} failed" if self.failed else self.stage


class TextProgress(IndexProgress):
    """The progress of reading the text in photos; ``with_text`` counts those that have some."""

    label = "Reading text"
    thing = "photo"
    with_text = 0

    def counts(self) -> str:
        """``30 with text, 2 failed``."""
        said = f"{self.with_text:,} with text"
        return f"{said}, {self.failed:,} failed" if self.failed else said


def _progress_bar(file: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}", style="cyan"),
        TextColumn("{task.fields[left]}", style="dim"),
        TextColumn("{task.fields[counts]}"),
        console=Console(file=file, highlight=False),
        expand=True,
    )
