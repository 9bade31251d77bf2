"""``crossmodal watch`` keeps an index true, quietly, and can be killed at any moment."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY, TOY_IMAGES, clean_environment

from crossmodal import PhotoIndex
from crossmodal.cli import text_reading, watch
from crossmodal.cli.index import open_all
from crossmodal.engine.engine import Engine
from crossmodal.engine.texts import ReadText
from crossmodal.errors import ServiceError
from crossmodal.processes import StopSignals
from crossmodal.records import IMAGE
from crossmodal.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "trip").mkdir(parents=True)
    for name in ("cat", "rocket"):
        shutil.copy(TOY_IMAGES / f"{name}.jpg", tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def watching(folder: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts it over the folder, with its index inside of that."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "app.py", "watch", str(folder), "--workspace", str(folder / "index")],
            cwd=REPOSITORY,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Watching"):
                return process
        raise AssertionError("it ended before it watched")

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_text_that_cannot_be_read_is_told_once_and_keeps_nothing_up(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tries = []

    def read_texts(*given: object, **named: object) -> Iterator[None]:
        tries.append(1)
        if tries:
            raise ServiceError("no worker")
        yield

    monkeypatch.setattr(Engine, "read_texts", read_texts)
    monkeypatch.setattr(text_reading, "can_read_texts", lambda: True)
    settings = Settings(workspace=tmp_path / "index", data_sets=(str(folder),))
    with Engine(settings) as engine, StopSignals() as signals:
        watching = watch._Watching(engine, settings, open_all(settings)[0], signals)
        watching.begin()
        hourly = watching._whole_at
        for _ in range(3):
            watching.note(())
        assert len(tries) == 1
        assert watching._whole_at == hourly
        assert capsys.readouterr().err.count("no worker") == 1
        # With the next change it may go.
        shutil.copy(TOY_IMAGES / "coffee.jpg", folder)
        watching.note({str(folder / "coffee.jpg")})
        watching.note(())
        assert len(tries) == 2


def test_a_photo_whose_text_cannot_be_read_is_tried_again_with_the_hourly_pass(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skipped: list[set[str]] = []

    def read_texts(engine: Engine, *, skip: set[str], background: bool) -> Iterator[ReadText]:
        skipped.append(set(skip))
        yield ReadText("cat", "cat.jpg", error="its disk is not there")

    monkeypatch.setattr(Engine, "read_texts", read_texts)
    monkeypatch.setattr(text_reading, "can_read_texts", lambda: True)
    settings = Settings(workspace=tmp_path / "index", data_sets=(str(folder),))
    with Engine(settings) as engine, StopSignals() as signals:
        watching = watch._Watching(engine, settings, open_all(settings)[0], signals)
        watching.begin()
        watching.note(())
        watching.note({str(folder / "cat.jpg")})
        watching.note(())
        watching._whole_at = 0.0
        watching.note(())
        watching.note(())
    assert skipped == [set(), {"cat"}, set()]


def names(folder: Path) -> set[str]:
    with PhotoIndex(folder / "index") as index:
        return {Path(str(record.uri)).name for record in index if record.modality == IMAGE}


def wait_for(folder: Path, wanted: set[str]) -> None:
    until = time.monotonic() + 60
    while (found := names(folder)) != wanted:
        assert time.monotonic() < until, found
        time.sleep(0.3)


def test_what_comes_and_goes_is_in_the_index(
    folder: Path, watching: Callable[[], subprocess.Popen[str]]
) -> None:
    process = watching()
    assert names(folder) == {"cat.jpg", "rocket.jpg"}
    shutil.copy(TOY_IMAGES / "coffee.jpg", folder / "trip")
    wait_for(folder, {"cat.jpg", "rocket.jpg", "coffee.jpg"})
    (folder / "cat.jpg").rename(folder / "trip" / "tom.jpg")
    wait_for(folder, {"tom.jpg", "rocket.jpg", "coffee.jpg"})
    (folder / "rocket.jpg").unlink()
    wait_for(folder, {"tom.jpg", "coffee.jpg"})
    # Killed, and what happened meanwhile is found at the next start.
    process.kill()
    process.wait()
    shutil.copy(TOY_IMAGES / "bricks.jpg", folder)
    again = watching()
    assert names(folder) == {"tom.jpg", "coffee.jpg", "bricks.jpg"}
    # The index writes into the folder itself; nothing is said of that, and nothing is indexed for it.
    time.sleep(4)
    again.send_signal(signal.SIGINT)
    said, _ = again.communicate(timeout=30)
    assert again.returncode == 0
    assert [line.partition(" ")[2] for line in said.splitlines()] == ["1 photo added"]
