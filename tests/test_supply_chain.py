"""What is installed: the lock with its hashes, the audit, and the list of parts, as `make` makes them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement

LOCK = REPOSITORY / "requirements.lock"
BASE_LOCK = REPOSITORY / "requirements-base.lock"
PYTHONS = ("3.11", "3.12", "3.13")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str, python: str) -> dict[str, str]:
    """Versions by name of what applies on a Python."""
    environment = {"python_version": python, "python_full_version": f"{python}.4"}
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith(("#", " ", "-")):
            requirement = Requirement(line.rstrip("\\"))
            if requirement.marker is None or requirement.marker.evaluate(environment):
                found[canonical(requirement.name)] = str(requirement.specifier)
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_the_versions_that_are_tried_together(python: str) -> None:
    locked = pins(LOCK.read_text(encoding="utf-8"), python)
    held = pins((REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), python)
    assert locked.items() <= held.items()
    for file in ("requirements-base.txt", "requirements-jina.txt", "requirements-image.txt"):
        asked = pins((REPOSITORY / file).read_text(encoding="utf-8"), python)
        assert asked.keys() <= locked.keys(), f"{file} asks for more; run `make lock`"
    assert ("jina" in locked) == (python == "3.11")
    assert "torch" not in locked
    base = pins(BASE_LOCK.read_text(encoding="utf-8"), python)
    assert base.items() <= locked.items()
    assert not base.keys() & {"jina", "docarray", "pydantic", "grpcio"}


@pytest.mark.parametrize(("lock", "least"), [(LOCK, 80), (BASE_LOCK, 40)])
def test_every_locked_package_has_hashes_and_comes_from_no_named_place(lock: Path, least: int) -> None:
    text = lock.read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text)
    packages = [entry for entry in entries if "==" in entry.partition("\n")[0]]
    assert len(packages) > least
    for package in packages:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", package), package[:80]
    assert "://" not in text


def command_line(target: str) -> str:
    """What `make TARGET` would run."""
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return done.stdout.replace("\\\n", " ")


def test_the_targets_run_what_they_say() -> None:
    assert re.search(
        r"uv pip compile .*--universal .*--generate-hashes .*requirements-base\.lock\n"
        r".*uv pip compile .*--universal .*--generate-hashes .*requirements\.lock",
        command_line("lock"),
    )
    assert ".ci/audit .venv-tools/bin/pip-audit" in command_line("audit")
    assert re.search(
        r"cyclonedx-py requirements requirements\.lock .*JSON .*dist/sbom\.json", command_line("sbom")
    )


def audit(
    tmp_path: Path, exceptions: str, code: int = 0
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The audit with a stand-in for pip-audit that ends with ``code``, and the arguments that it got."""
    stand_in, got, listed = tmp_path / "pip-audit", tmp_path / "arguments", tmp_path / "exceptions.txt"
    stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{got}"\nexit {code}\n')
    stand_in.chmod(0o755)
    listed.write_text(exceptions)
    done = subprocess.run(
        [REPOSITORY / ".ci" / "audit", stand_in, listed], capture_output=True, text=True, check=False
    )
    return done, got.read_text().splitlines() if got.exists() else []


def test_the_audit_asks_about_the_whole_lock_and_lets_explained_exceptions_pass(tmp_path: Path) -> None:
    done, arguments = audit(tmp_path, "# why\n\nPYSEC-2026-1  # only on Windows\nGHSA-x-y  # not called\n")
    assert done.returncode == 0, done.stderr
    assert {"--strict", "--require-hashes", "requirements.lock"} <= set(arguments)
    ignored = [arguments[at + 1] for at, word in enumerate(arguments) if word == "--ignore-vuln"]
    assert ignored == ["PYSEC-2026-1", "GHSA-x-y"]


def test_an_exception_without_a_reason_is_refused(tmp_path: Path) -> None:
    done, arguments = audit(tmp_path, "PYSEC-2026-1\n")
    assert (done.returncode, arguments) == (2, [])
    assert "without a reason: 1:PYSEC-2026-1" in done.stderr


def test_a_database_that_cannot_be_reached_fails_the_audit(tmp_path: Path) -> None:
    done, _ = audit(tmp_path, "", code=1)
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr


def test_the_exceptions_of_the_project_are_explained(tmp_path: Path) -> None:
    listed = (REPOSITORY / ".ci" / "audit-exceptions.txt").read_text(encoding="utf-8")
    assert audit(tmp_path, listed)[0].returncode == 0
