"""A Flow that cannot start is told at once, in a sentence."""

from __future__ import annotations

from pathlib import Path

from conftest import run_app, run_python

# The first one is dead, and forgotten by multiprocessing, before anybody has looked at it.
SCRIPT = """
import os, signal, sys
from jina.orchestrate import pods
from crossmodal.cli.opening import open_for_writing
from crossmodal.errors import ServiceError
from crossmodal.settings import read_settings
from crossmodal.workspace import Workspace
from flows.service import FlowService

pods.run = lambda **given: os.kill(os.getpid(), signal.SIGKILL)
settings = read_settings(["-t", "index", "--workspace", sys.argv[1]], {})
try:
    with FlowService("index", open_for_writing(settings, Workspace(settings.workspace))):
        print("started", file=sys.stderr)
except ServiceError as error:
    print(error, file=sys.stderr)
"""


def test_a_process_that_dies_at_its_birth_is_not_waited_for(tmp_path: Path) -> None:
    # jina would wait for a minute.
    ran = run_python("-c", SCRIPT, tmp_path / "index", timeout=50)
    said = "The process flow_index/rep-0 of the index Flow ended while starting (killed by SIGKILL)."
    assert (ran.returncode, ran.stderr) == (0, said + "\n")


def test_a_folder_that_jina_would_take_for_another_is_refused(tmp_path: Path) -> None:
    workspace = tmp_path / "cost$HOME"
    ran = run_app("-t", "index", "-d", "toy-data", "-n", "1", "--workspace", workspace)
    said = "cannot be used, because jina takes a part of it for the name of a variable"
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"error: {workspace} {said}")
    assert [path.name for path in tmp_path.iterdir()] == [workspace.name]


def test_a_flow_needs_no_unicode_and_leaves_no_temporary_files(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TMPDIR": str(temporary)}
    arguments = ("-t", "index", "-d", "toy-data", "-n", "1", "--workspace", tmp_path / "index")
    ran = run_app(*arguments, environment=environment)
    assert ran.returncode == 0, ran.stderr
    assert list(temporary.iterdir()) == []
