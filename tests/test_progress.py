"""The progress of indexing: counts, speed and time left, on a terminal and in a log."""

from __future__ import annotations

import io

import pytest

from crossmodal.cli.present.progress import IndexProgress


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_every_few_seconds_and_one_at_the_end() -> None:
    out, clock = io.StringIO(), Clock()
    with IndexProgress(1000, file=out, interval=5, clock=clock) as progress:
        for _ in range(6):
            clock.now += 2
            progress.advance(added=30, replaced=2, unchanged=7, failed=1)
        clock.now += 1
        progress.advance(failed=1)
    assert out.getvalue().splitlines() == [
        "120 of 1,000 documents; 96 indexed, 21 already there, 3 failed; 20 documents/s; 44 s left",
        "240 of 1,000 documents; 192 indexed, 42 already there, 6 failed; 20 documents/s; 38 s left",
        "241 of 1,000 documents; 192 indexed, 42 already there, 7 failed; 18 documents/s; 42 s left",
    ]


def test_without_a_total_there_is_no_time_left() -> None:
    out, clock = io.StringIO(), Clock()
    with IndexProgress(None, file=out, clock=clock) as progress:
        clock.now += 10
        progress.advance(added=5)
    assert out.getvalue() == "5 documents; 5 indexed; 0.5 documents/s\n"


def test_batches_that_end_together_have_no_speed() -> None:
    out, clock = io.StringIO(), Clock()
    with IndexProgress(56, file=out, clock=clock) as progress:
        clock.now += 1.5
        progress.advance(added=32)
        clock.now += 0.001
        progress.advance(added=24)
    assert out.getvalue() == "56 of 56 documents; 56 indexed\n"


def test_the_speed_is_that_of_the_last_half_minute() -> None:
    clock = Clock()
    with IndexProgress(10_000, file=io.StringIO(), clock=clock) as progress:
        for _ in range(60):
            clock.now += 1
            progress.advance(added=1)
        assert progress.documents_per_second() == pytest.approx(1)
        for _ in range(31):
            clock.now += 1
            progress.advance(added=10)
        assert progress.documents_per_second() == pytest.approx(10)
        assert progress.seconds_left() == pytest.approx((10_000 - 370) / 10)


def test_a_data_set_longer_than_it_looked() -> None:
    out, clock = io.StringIO(), Clock()
    with IndexProgress(3, file=out, clock=clock) as progress:
        clock.now += 1
        progress.advance(added=5)
    assert out.getvalue() == "5 of 5 documents; 5 indexed; 5.0 documents/s\n"


def test_nothing_is_written_when_it_is_off_or_nothing_happened() -> None:
    out, clock = io.StringIO(), Clock()
    with IndexProgress(3, enabled=False, file=out, clock=clock) as progress:
        clock.now += 100
        progress.advance(failed=3)
    with IndexProgress(3, file=out, clock=clock):
        clock.now += 100
    assert out.getvalue() == ""
    assert progress.failed == 3


def test_a_terminal_gets_a_bar_that_takes_no_speed_from_the_first_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm-256color")
    out, clock = Terminal(), Clock()
    with IndexProgress(40, file=out, clock=clock) as progress:
        clock.now += 90
        progress.advance(added=3)
        assert " left" not in out.getvalue()
        clock.now += 2
        progress.advance(added=8, unchanged=2)
    shown = out.getvalue()
    assert "Indexing" in shown
    assert "13/40" in shown
    assert "5.0 documents/s" in shown
    assert "5.4 s left" in shown
    assert "11 indexed, 2 already there" in shown


def test_it_ends_when_indexing_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Terminal()

    def index() -> None:
        with IndexProgress(40, file=out) as progress:
            progress.advance(added=1)
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        index()
    # The cursor is shown again.
    assert out.getvalue().rstrip().endswith("\x1b[?25h")
