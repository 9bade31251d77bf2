"""A full and a read-only disk, real ones: a sentence, a non-zero exit, and what was written stays good."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import TOY_IMAGES, copy_index, run_app

from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.workspace import Workspace

Mount = Callable[[str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a file system in memory of a given size; where that is not allowed the test is skipped."""
    mounted: list[Path] = []

    def make(size: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a file system is not allowed here")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def assert_one_sentence(stderr: str, words: str) -> None:
    assert "Traceback" not in stderr
    (line,) = [line for line in stderr.splitlines() if line.startswith("error:")]
    assert words in line


@pytest.mark.parametrize("size", [pytest.param("400k", marks=pytest.mark.slow), "1200k"])
def test_a_full_disk_is_a_sentence_and_what_was_written_is_whole(mount: Mount, size: str) -> None:
    workspace = mount(size) / "workspace"
    done = run_app("-t", "index", "--workspace", workspace)
    assert done.returncode == 1
    assert_one_sentence(done.stderr, "cannot be written")
    if Workspace(workspace).exists():
        with EmbeddedStore.open_reader(workspace) as store:
            assert store.verify() == []


def test_a_read_only_disk_can_be_searched_but_not_written(mount: Mount, toy_workspace: Path) -> None:
    disk = mount("64m")
    workspace = disk / "workspace"
    copy_index(toy_workspace, workspace)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    found = run_app(
        "-t", "query", "--workspace", workspace, "--query-image", TOY_IMAGES / "cat.jpg", "-k", "3", "--json"
    )
    assert found.returncode == 0, found.stderr
    assert len(json.loads(found.stdout)["results"][0]["matches"]) == 3
    refused = run_app("-t", "index", "--workspace", workspace)
    assert refused.returncode == 1
    assert_one_sentence(refused.stderr, "Read-only file system")
