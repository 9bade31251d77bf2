"""A signal ends a starting Flow of jina's processes at once, and leaves none of them behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY, children_of, clean_environment, is_running
from needs_jina import needs_jina

pytestmark = needs_jina

SCRIPT = """
import signal, sys
from pathlib import Path
from crossmodal.jina.pods import open_pods
from crossmodal.settings import Settings

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, interrupt)
print("starting", flush=True)
try:
    open_pods("index", Settings(workspace=Path(sys.argv[1]), model="vse", shards=1))
    print("started", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


MOMENTS = [(processes, number) for processes in (1, 2, 6) for number in (signal.SIGINT, signal.SIGTERM)]
QUICK = [(6, signal.SIGTERM)]


@pytest.mark.parametrize(
    ("processes", "number"),
    [
        pytest.param(
            *moment, marks=() if moment in QUICK else pytest.mark.slow, id="with-{}-{}".format(*moment)
        )
        for moment in MOMENTS
    ],
)
def test_a_start_that_is_interrupted_leaves_nothing(tmp_path: Path, number: int, processes: int) -> None:
    """At the moment when there are so many processes: its own first, then those of the steps."""
    starting = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, tmp_path / "index"],
        cwd=REPOSITORY,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 100
    children: list[int] = []
    while len(children) < processes and time.monotonic() < deadline:
        children = list(children_of(starting.pid))
        time.sleep(0.002)
    assert starting.poll() is None
    starting.send_signal(number)
    said, errors = starting.communicate(timeout=60)
    assert (said, errors) == ("starting\ninterrupted\n", "")
    # Where a KeyboardInterrupt ends the ``exec`` of a text, as named tuples have it while jina is imported,
    # CPython takes SIGINT for its own end as well, also when the interrupt was caught.
    assert starting.returncode in (0, -signal.SIGINT)
    # What was forked in the last moment ends a second later.
    ended = time.monotonic() + 10
    while any(map(is_running, children)) and time.monotonic() < ended:
        time.sleep(0.05)
    assert [pid for pid in children if is_running(pid)] == []
