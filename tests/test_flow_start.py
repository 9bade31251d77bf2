"""A Flow whose processes die at their birth is told at once, and not after a minute for each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY, clean_environment

# The first one is dead, and forgotten by multiprocessing, before anybody has looked at it.
SCRIPT = """
import os, signal, sys
from jina.orchestrate import pods
from commands.opening import open_for_writing
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
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "index")],
        cwd=REPOSITORY,
        env=clean_environment(),
        capture_output=True,
        text=True,
        # jina would wait for a minute.
        timeout=50,
        check=False,
    )
    said = "The process flow_index/rep-0 of the index Flow ended while starting (killed by SIGKILL)."
    assert (ran.returncode, ran.stderr) == (0, said + "\n")
