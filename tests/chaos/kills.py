"""Starts a workload, kills it at a random moment, and checks what it leaves."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from crossmodal.index.embedded.conversion import convert
from crossmodal.index.embedded.copies import restore
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import MODALITIES
from tests.chaos.checks import Expected, after, assert_holds, assert_search_agrees
from tests.chaos.programs import Command, Uploads

__all__ = ["KINDS", "Kind"]

REPOSITORY = Path(__file__).parents[2]

# Within the time that a few steps take.
_LONGEST_PAUSE_SECONDS = 0.05


@dataclass
class Kind:
    """One kind of work, in a folder of its own; ``kills`` times it was killed.

    ``acknowledged`` counts the documents and files that were acknowledged, ``problems`` what was lost or
    wrong after a kill, a sentence each.
    """

    name: str
    folder: Path
    chance: random.Random
    kills: int = 0
    acknowledged: int = 0
    problems: list[str] = field(default_factory=list)
    expected: Expected = field(default_factory=dict)
    converted: tuple[int, ...] = ()
    program: Command | Uploads | None = None

    def kill(self) -> None:
        """Kills it once and checks."""
        self.kills += 1
        try:
            _CHECKS[self.name](self)
        except Exception as error:  # noqa: BLE001  reported with the others
            self.problems.append(f"kill {self.kills} of {self.name}: {type(error).__name__}: {error}"[:500])

    def finish(self) -> None:
        """Does what the killed program had to do to its end, and checks all of it."""
        if self.program is None or not self.kills:
            return
        try:
            self.program.finish()
        except Exception as error:  # noqa: BLE001  reported with the others
            self.problems.append(f"the end of {self.name}: {type(error).__name__}: {error}"[:500])

    def run_and_kill(self, lines: int, folder: Path | None = None, pause: float | None = None) -> list[str]:
        """All whole lines that the workload printed until it was killed, some time after ``lines``."""
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.chaos.workloads",
                self.name,
                folder or self.folder,
                str(self.kills),
            ],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        output = b""
        with process, process.stdout, process.stderr:
            while output.count(b"\n") <= lines and (line := process.stdout.readline()):
                output += line
            time.sleep(self.chance.uniform(0.0, _LONGEST_PAUSE_SECONDS) if pause is None else pause)
            process.send_signal(signal.SIGKILL)
            output += process.stdout.read()
            said = process.stderr.read().decode(errors="replace")
        assert output.startswith(b"ready\n"), f"it could not start: {said[-300:]}"
        assert process.returncode in (-signal.SIGKILL, 0), said[-300:]
        return output[: output.rfind(b"\n")].decode().splitlines()[1:]

    def follow(self, lines: list[str]) -> str | None:
        """Takes over what was acknowledged; the step that was not."""
        pending = None
        for line in lines:
            if line != "done":
                pending = line
            elif pending is not None:
                self.expected = after(self.expected, pending)
                words = pending.split()
                self.acknowledged += len(set(words[2:])) if words[0] == "put" else len(set(words[1:]))
                pending = None
        return pending


def _check_writing(kind: Kind) -> None:
    pending = kind.follow(kind.run_and_kill(kind.chance.randrange(40)))
    kind.expected = assert_holds(kind.folder, kind.expected, pending)


def _check_codes(kind: Kind) -> None:
    pending = kind.follow(kind.run_and_kill(kind.chance.randrange(6)))
    kind.expected = assert_holds(kind.folder, kind.expected, pending, photos=False)


def _check_copies(kind: Kind) -> None:
    lines = kind.run_and_kill(kind.chance.randrange(12))
    pending = kind.follow(lines)
    kind.expected = assert_holds(kind.folder, kind.expected, pending)
    promised = {
        Path(line.split()[1]) for line, end in pairwise(lines) if line.startswith("backup") and end == "done"
    }
    there = {path for path in kind.folder.parent.glob(f"{kind.folder.name}-backup-*") if path.is_file()}
    assert promised <= there, "an acknowledged backup is not there"
    for number, backup in enumerate(sorted(there)):
        # Each that has its name is whole, and can be restored.
        restore(backup, kind.folder.parent / f"restored-{kind.kills}-{number}")
        backup.unlink()


def _check_conversion(kind: Kind) -> None:
    folder = kind.folder / str(kind.kills)
    with tarfile.open(REPOSITORY / "tests" / "fixtures" / "format-3.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    workspace = folder / "workspace"
    kind.run_and_kill(kind.chance.randrange(30), workspace, kind.chance.uniform(0, 0.01))
    convert(workspace, lambda _: None)
    with EmbeddedStore.open_reader(workspace) as store:
        assert (damage := store.verify()) == [], damage
        found = tuple(store.counts(modality).documents for modality in MODALITIES)
        for modality in MODALITIES:
            assert_search_agrees(store, modality)
    kind.acknowledged += sum(found)
    kind.converted = kind.converted or found
    assert found == kind.converted, f"{found} documents came through, {kind.converted} before"


def _check_engine(kind: Kind) -> None:
    lines = kind.run_and_kill(kind.chance.randrange(56), pause=kind.chance.uniform(0, 0.2))
    have = [line.split()[1:] for line in lines]
    if not have and not (kind.folder / "index.sqlite").exists():
        # It was killed before its first commit.
        return
    with EmbeddedStore.open_reader(kind.folder) as store:
        assert (damage := store.verify()) == [], damage
        for modality in MODALITIES:
            ids = [id for of, id in have if of == modality]
            assert None not in store.get(ids, modality), "an acknowledged document is not there"
            assert len(store.vectors(ids, modality)) == len(ids)
            assert_search_agrees(store, modality)
    kind.acknowledged += len(have)


def _check_program(kind: Kind) -> None:
    if kind.program is None:
        kind.program = (Command if kind.name == "command" else Uploads)(kind.folder, kind.chance)
    kind.program.kill()
    kind.acknowledged = kind.program.acknowledged


_CHECKS: dict[str, Callable[[Kind], None]] = {
    "write": _check_writing,
    "codes": _check_codes,
    "copies": _check_copies,
    "conversion": _check_conversion,
    "engine": _check_engine,
    "command": _check_program,
    "server": _check_program,
}

# What is killed, and how often of twenty times: half of them through the store alone, half as people run it.
KINDS = {"write": 5, "codes": 2, "copies": 2, "conversion": 1, "engine": 2, "command": 3, "server": 5}
