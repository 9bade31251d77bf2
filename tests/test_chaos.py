"""kill -9 at random moments loses nothing that was acknowledged; ``python -m tests.chaos`` does it longer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

# The fewest of which every kind gets its share.
FEW = 12


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [FEW, pytest.param(60, marks=pytest.mark.slow)])
def test_kills_lose_nothing(kills: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--kills", str(kills), "--json", tmp_path / "report.json"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["kills"], report["lost"]) == (kills, 0)
    programs = {"engine", "command", "server"}
    assert set(report["kinds"]) == {"write", "codes", "copies", "conversion", *programs}
    assert all(kind["kills"] >= 1 for kind in report["kinds"].values())
    assert sum(report["kinds"][name]["kills"] for name in programs) >= kills // 2
    assert report["kinds"]["command"]["acknowledged"] > 0
    # What has come over HTTP is never less than what the rounds that wait for an answer have got.
    assert report["kinds"]["server"]["acknowledged"] >= 3
    assert report["acknowledged"] >= 10 * kills
    assert done.stdout.splitlines()[-1].split() == ["all", str(kills), str(report["acknowledged"]), "0"]
