"""A Flow of jina's processes that cannot start, or loses a process, says so at once in a sentence."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import children_of, is_running, run_python
from needs_jina import needs_jina

from crossmodal.documents import Document
from crossmodal.engine.opening import local_flow
from crossmodal.errors import ServiceError, StoreLocked
from crossmodal.jina.pods import PodsFlow, open_pods
from crossmodal.settings import Settings


def settings(workspace: Path, **options: object) -> Settings:
    return Settings(workspace=workspace, model="vse", shards=1, layout="pods", **options)  # type: ignore[arg-type]


CONFIG = """
jtype: StepExecutor
py_modules: [../executor.py]
with: {step: "step.py:Mine"}
metas: {name: mine}
"""


@contextmanager
def no_process_left() -> Iterator[None]:
    """Fails where a process that was started meanwhile is still there some seconds later."""
    before = set(children_of(os.getpid()))
    started: set[int] = set()
    try:
        yield
        started = set(children_of(os.getpid())) - before
    finally:
        deadline = time.monotonic() + 20
        while any(map(is_running, started)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(is_running, started))


def test_where_jina_is_missing_one_sentence_says_what_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 1, "final", 0))
    with pytest.raises(ServiceError) as raised:
        open_pods("index", settings(tmp_path / "index"))
    assert str(raised.value) == (
        "--layout pods needs jina, which has no packages for Python 3.13: use Python 3.11 with "
        '`pip install "crossmodal-search[jina]"`. The default layout works without it.'
    )
    monkeypatch.setattr(sys, "version_info", (3, 11, 9, "final", 0))
    monkeypatch.setattr("crossmodal.jina.launch.find_spec", lambda name: None)
    with pytest.raises(ServiceError, match=r'pip install "crossmodal-search\[jina\]"` on Python 3.11'):
        open_pods("index", settings(tmp_path / "index"))


@needs_jina
def test_a_folder_that_jina_would_take_for_another_is_refused(tmp_path: Path) -> None:
    workspace = tmp_path / "cost$HOME"
    with pytest.raises(ServiceError, match="because jina takes a part of it for the name of a variable"):
        open_pods("query", settings(workspace))


@needs_jina
def test_a_second_writer_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    workspace = tmp_path / "index"
    with (
        no_process_left(),
        local_flow("index", settings(workspace).flow_environment()),
        pytest.raises(StoreLocked),
    ):
        open_pods("index", settings(workspace))


@needs_jina
def test_what_keeps_a_step_from_being_made_is_said(tmp_path: Path) -> None:
    flows, executors = tmp_path / "flows", tmp_path / "executors"
    (executors / "mine").mkdir(parents=True)
    flows.mkdir()
    repository = Path(__file__).resolve().parents[1]
    (executors / "executor.py").write_text((repository / "executors" / "executor.py").read_text())
    (executors / "mine" / "config.yml").write_text(CONFIG)
    (executors / "mine" / "step.py").write_text(
        "from crossmodal.errors import ModelError\n"
        "from crossmodal.steps.step import Step\n"
        "class Mine(Step):\n"
        "    def prepare(self): raise ModelError('The weights are gone.')\n"
    )
    path = flows / "flow.yml"
    path.write_text(
        "jtype: Flow\nexecutors:\n"
        "- {name: own, uses: ../executors/mine/config.yml, needs: gateway, host: 127.0.0.1}\n"
    )
    with no_process_left(), pytest.raises(ServiceError) as raised:
        PodsFlow("query", path, {})
    # It depends on who notices first, jina or what watches its processes; the reason is the same.
    said, _, why = str(raised.value).partition(" It said: ")
    assert said in (
        "The process own/rep-0 of the query Flow could not start.",
        "The query Flow could not be started (RuntimeFailToStart).",
    )
    assert why == "own: The weights are gone."
    (executors / "mine" / "config.yml").write_text(CONFIG.replace("Mine", "Other"))
    with pytest.raises(ServiceError, match=r"names the step step\.py:Other, which cannot be loaded"):
        PodsFlow("query", path, {})


@needs_jina
def test_a_process_that_is_killed_ends_the_flow_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with no_process_left():
        flow = open_pods("index", settings(tmp_path / "index"))
        try:
            flow.check()
            (doc,) = flow.run("index", [Document("a", "text", text="words", record=None)])
            assert doc.error is None
            # That of the Flow itself leads their group.
            steps = [pid for pid in children_of(os.getpid()) if os.getpgid(pid) not in (pid, os.getpgid(0))]
            os.kill(steps[0], signal.SIGKILL)
            started = time.monotonic()
            with pytest.raises(ServiceError) as raised:
                run_for_a_minute(flow)
            assert "of the index Flow ended unexpectedly (killed by SIGKILL)" in str(raised.value)
            assert time.monotonic() < started + 20
            with pytest.raises(ServiceError, match="Start again; crossmodal verify tells"):
                flow.check()
        finally:
            flow.close()
    assert list((tmp_path / "temporary").iterdir()) == []


def run_for_a_minute(flow: PodsFlow) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        flow.run("index", [Document("a", "text", text="words")])


KILLED = """
import os, sys
from pathlib import Path
from crossmodal.jina.pods import open_pods
from crossmodal.settings import Settings
flow = open_pods("index", Settings(workspace=Path(sys.argv[1]), model="vse", shards=1))
sys.path.insert(0, "tests")
from conftest import children_of
print(*children_of(os.getpid()), flush=True)
os.kill(os.getpid(), 9)
"""


@needs_jina
def test_nothing_outlives_a_process_that_is_killed(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    ran = run_python("-c", KILLED, tmp_path / "index", environment={"TMPDIR": str(temporary)})
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    left = list(map(int, ran.stdout.split()))
    assert len(left) > 8
    deadline = time.monotonic() + 30
    while any(map(is_running, left)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in left if is_running(pid)] == []
    assert list(temporary.glob("crossmodal-flow-*")) == []
