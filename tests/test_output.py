"""Stdout is written whole or with an error: to a slow reader, to one that goes away, to a full disk."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest
from conftest import REPOSITORY, clean_environment, run_app
from warm_start import WarmProcess

FULL = "error: The output cannot be written to stdout: No space left on device. It is not complete.\n"

# Every form of ``search``; the first is the default.
FORMS = ("--print=table", "--print=paths", "--print=json", "--print=jsonl", "--print=csv", "--json")
OTHERS = ("status --json", "status", "models --json", "models", "search --help", "--version")

# With PYTHONUNBUFFERED an interpreter of its own has to start, which takes longer than what is tested.
BUFFERED = [*((form, False) for form in FORMS), ("--print=table", True)]

QUESTIONS = [f"thing number {number} in a meadow" for number in range(110)]
# All 15 photos and 41 captions, so that every form takes more than three pipes hold.
EVERYTHING = ("-k", "100", "--modality", "both")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy data indexed with the model that answers the quickest, for the many questions."""
    made = tmp_path_factory.mktemp("output") / "workspace"
    done = run_app("index", "toy-data", "--workspace", made, "-m", "vse")
    assert done.returncode == 0, done.stderr
    return made


class Warm:
    """``python app.py`` that begins after its imports, with pipes as subprocess.Popen has them."""

    def __init__(self, arguments: Sequence[str | Path], stdout: int, stdin: int) -> None:
        self.stdout: IO[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed by communicate
        with ExitStack() as held:
            source = os.open(os.devnull, os.O_RDONLY) if stdin == subprocess.DEVNULL else os.dup(stdin)
            asked = held.enter_context(open(source, "rb"))
            if stdout == subprocess.PIPE:
                reading, writing = os.pipe()
                self.stdout = open(reading, "rb")  # noqa: SIM115  closed by communicate
            else:
                writing = os.dup(stdout)
            written = held.enter_context(open(writing, "wb"))
            variables = {**clean_environment(), "PYTHONUNBUFFERED": ""}
            self._process = WarmProcess(list(map(str, arguments)), variables, asked, written, self._said)

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def communicate(self, timeout: float) -> tuple[bytes, bytes]:
        """Waits for its end; what is left of stdout, and stderr."""
        left = b"" if self.stdout is None else self.stdout.read()
        self._process.wait(timeout)
        if self.stdout is not None:
            self.stdout.close()
        with self._said as said:
            said.seek(0)
            return left, said.read()


def start(
    arguments: Sequence[str | Path], stdout: int, *, unbuffered: bool = True, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes] | Warm:
    if arguments[0] == "app.py" and not unbuffered:
        return Warm(arguments[1:], stdout, stdin)
    environment = {**clean_environment(), "PYTHONUNBUFFERED": "1" if unbuffered else ""}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=REPOSITORY,
        env=environment,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def start_search(
    form: str, unbuffered: bool, workspace: Path, tmp_path: Path, stdout: int, questions: int = len(QUESTIONS)
) -> subprocess.Popen[bytes] | Warm:
    asked = tmp_path / "questions"
    asked.write_text("\n".join(QUESTIONS[:questions]), encoding="utf-8")
    with asked.open("rb") as file:
        return start(
            ["app.py", "search", "--workspace", workspace, form, *EVERYTHING],
            stdout,
            unbuffered=unbuffered,
            stdin=file.fileno(),
        )


def ended(process: subprocess.Popen[bytes] | Warm) -> tuple[int, str]:
    """The exit code and what stderr says."""
    _, said = process.communicate(timeout=120)
    assert process.returncode is not None
    return process.returncode, said.decode()


def read_slowly(process: subprocess.Popen[bytes] | Warm) -> bytes:
    """All of stdout, after the pipe has been full for a while and then in small pieces."""
    assert process.stdout is not None
    time.sleep(1)
    pieces = []
    while piece := os.read(process.stdout.fileno(), 4096):
        pieces.append(piece)
        if len(pieces) % 16 == 0:
            time.sleep(0.001)
    return b"".join(pieces)


def check(form: str, content: bytes) -> None:
    """The answer holds every match of every question, and ends where it should."""
    text = content.decode()
    found = len(QUESTIONS) * 56
    if form == "--print=table":
        assert [line for line in text.splitlines() if "meadow" in line and "Photos and" in line] == [
            f"Photos and captions for “{question}”" for question in QUESTIONS
        ]
        assert text.endswith("\n")
    elif form == "--print=paths":
        assert len(text.splitlines()) == found
        assert all(Path(line).is_file() for line in set(text.splitlines()))
    elif form == "--print=jsonl":
        lines = [json.loads(line) for line in text.splitlines()]
        assert [line["query"] for line in lines[::56]] == QUESTIONS
        assert len(lines) == found
    elif form == "--print=csv":
        records = list(csv.reader(io.StringIO(text, newline="")))
        assert [record[0] for record in records[1::56]] == QUESTIONS
        assert len(records) == found + 1
    else:
        answer = json.loads(text)
        results = answer if form == "--print=json" else answer["results"]
        assert [result["query"] for result in results] == QUESTIONS
        assert {len(result["matches"]) for result in results} == {56}


@pytest.mark.parametrize(("form", "unbuffered"), BUFFERED)
def test_a_slow_reader_gets_everything(form: str, unbuffered: bool, workspace: Path, tmp_path: Path) -> None:
    process = start_search(form, unbuffered, workspace, tmp_path, subprocess.PIPE)
    content = read_slowly(process)
    assert ended(process) == (0, "")
    assert len(content) > 200_000
    check(form, content)


@pytest.mark.parametrize(("form", "unbuffered"), BUFFERED)
def test_a_reader_that_goes_away_ends_it_quietly(
    form: str, unbuffered: bool, workspace: Path, tmp_path: Path
) -> None:
    # More than one pipe holds.
    process = start_search(form, unbuffered, workspace, tmp_path, subprocess.PIPE, questions=50)
    assert process.stdout is not None
    assert process.stdout.read(1000)
    process.stdout.close()
    process.stdout = None
    assert ended(process) == (141, "")


@pytest.mark.parametrize(("form", "unbuffered"), BUFFERED)
def test_a_full_disk_is_a_sentence(form: str, unbuffered: bool, workspace: Path, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = start_search(form, unbuffered, workspace, tmp_path, full.fileno(), questions=3)
        assert ended(process) == (1, FULL)


@pytest.mark.parametrize(
    ("line", "unbuffered"), [*((line, False) for line in OTHERS), ("status --json", True)]
)
def test_every_other_output_ends_in_the_same_way(line: str, unbuffered: bool, workspace: Path) -> None:
    arguments = ["app.py", *line.split()]
    if line.startswith("status"):
        arguments += ["--workspace", str(workspace)]
    with open("/dev/full", "wb") as full:
        assert ended(start(arguments, full.fileno(), unbuffered=unbuffered)) == (1, FULL)
    reading, writing = os.pipe()
    os.close(reading)
    process = start(arguments, writing, unbuffered=unbuffered)
    os.close(writing)
    assert ended(process) == (141, "")


@pytest.mark.parametrize("unbuffered", [True, False], ids=["unbuffered", "buffered"])
def test_json_and_text_reach_a_pipe_in_order_and_whole(unbuffered: bool) -> None:
    script = (
        "from crossmodal.cli.output import open_streams, print_json\n"
        "open_streams()\nprint('first')\nprint_json(['x' * 1000] * 1000)\nprint('last')\n"
    )
    process = start(["-c", script], subprocess.PIPE, unbuffered=unbuffered)
    first, value, last = read_slowly(process).decode().splitlines()
    assert ended(process) == (0, "")
    assert (first, last) == ("first", "last")
    assert json.loads(value) == ["x" * 1000] * 1000


def test_a_pipe_that_never_waits_gets_everything() -> None:
    script = (
        "from crossmodal.cli.output import open_streams, write\nopen_streams()\nwrite(b'x' * 1_000_000)\n"
    )
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = start(["-c", script], writing)
    os.close(writing)
    with open(reading, "rb") as stream:
        time.sleep(1)
        assert stream.read() == b"x" * 1_000_000
    assert ended(process) == (0, "")


def test_bytes_of_a_path_that_are_no_text_are_json_still(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    from crossmodal.cli.output import print_json

    print_json({"path": "caf\udce9 é.jpg"})
    written = capsysbinary.readouterr().out
    assert written == '{"path": "caf\\udce9 é.jpg"}\n'.encode()
    assert json.loads(written) == {"path": "caf\udce9 é.jpg"}
