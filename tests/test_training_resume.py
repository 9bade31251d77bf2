"""A run that was stopped, killed or finished, and what goes on from there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coloured_shapes import measured_by_torch, world
from conftest import REPOSITORY, clean_environment

from crossmodal.errors import SettingsError
from crossmodal.models.registry import find_native
from crossmodal.training import Epoch, Run, Stage, Step, TrainingConfig, train_on

STAGE = Stage(
    epochs=3,
    loss="infonce",
    batch_size=16,
    captions_per_photo=2,
    text_trunk_rate=3e-3,
    head_rate=3e-3,
    warm_up_steps=3,
    views=2,
)
# Dropout, two views, averaging and a learned temperature: all that a resumed run has to get right.
CONFIG = TrainingConfig(
    data="coloured shapes",
    image_weights="vse",
    text_tower="gru",
    dimension=16,
    word_dimension=8,
    min_word_count=1,
    average_decay=0.9,
    bfloat16=False,
    stages=(STAGE, replace(STAGE, epochs=2, loss="sum-of-hinges", accumulate=2)),
)
STATE = "training-state.pt"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(output: Path, cache: Path, config: TrainingConfig = CONFIG, **settings: Any) -> None:
    carried_out = Run(output, cache=cache, threads=1, **settings)
    with measured_by_torch():
        train_on(config, world(range(0, 4, 2)), world(range(1, 2)), carried_out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """What the run makes when nobody interrupts it."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, cache)
    return folder


def assert_same_result(folder: Path, whole: Path) -> None:
    weights = []
    for output in (folder, whole):
        checkpoint = find_native(str(output))
        assert checkpoint is not None
        weights.append({**checkpoint.image_weights(), **checkpoint.text_weights()})
    for name, value in weights[1].items():
        np.testing.assert_allclose(weights[0][name], value, rtol=0, atol=1e-6, err_msg=name)
    histories = [json.loads((output / "history.json").read_text())["epochs"] for output in (folder, whole)]
    assert len(histories[0]) == len(histories[1]) == 6
    for one, other in zip(*histories, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-6)
        assert one["metrics"] == other["metrics"]
    assert not (folder / STATE).exists()


class StopAfter:
    """Says stop after so many steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def progress(self, sign: object) -> None:
        self._left -= isinstance(sign, Step)

    def should_stop(self) -> bool:
        return self._left <= 0


# At the end of the first stage; within an epoch, at its end and within the last one, as the next test does.
@pytest.mark.parametrize("steps", [9, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (1, 3, 12))])
def test_a_stopped_run_goes_on_to_the_same_result(
    steps: int, whole: Path, cache: Path, tmp_path: Path
) -> None:
    stop = StopAfter(steps)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, cache, progress=stop.progress, should_stop=stop.should_stop)
    assert (tmp_path / STATE).is_file()
    # Not a model yet.
    assert not (tmp_path / "config.json").exists()
    taken: list[Step] = []
    run(tmp_path, cache, progress=lambda sign: taken.append(sign) if isinstance(sign, Step) else None)
    # 9 steps in the first stage, 2 times 2 in the second: none is taken twice.
    assert len(taken) == 13 - steps
    assert_same_result(tmp_path, whole)


def test_a_run_can_be_stopped_again_and_again(whole: Path, cache: Path, tmp_path: Path) -> None:
    # After each of the first steps, within an epoch and at its end, then after every second one.
    for steps in (1, 1, 1, 1, 2, 2, 2, 2):
        stop = StopAfter(steps)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, cache, progress=stop.progress, should_stop=stop.should_stop)
    run(tmp_path, cache)
    assert_same_result(tmp_path, whole)


def test_a_run_that_is_stopped_when_its_patience_ends_takes_no_further_epoch(
    cache: Path, tmp_path: Path
) -> None:
    # Rates this small change nothing on dev, so the first epoch is the best and the second ends the stage.
    still = replace(STAGE, text_trunk_rate=1e-12, head_rate=1e-12)
    config = replace(CONFIG, patience=1, average_decay=None, stages=(still,))
    stop = StopAfter(6)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, cache, config, progress=stop.progress, should_stop=stop.should_stop)
    taken: list[Step] = []
    run(tmp_path, cache, config, progress=lambda sign: taken.append(sign) if isinstance(sign, Step) else None)
    assert taken == []
    assert len(json.loads((tmp_path / "history.json").read_text())["epochs"]) == 3


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_training_resume import run
from crossmodal.training import Step

if __name__ == "__main__":
    steps = 0
    def tell(sign):
        global steps
        if isinstance(sign, Step):
            steps += 1
            print("step", flush=True)
            if steps == 5:
                # Here it is killed.
                sys.stdin.read()
    run(Path(sys.argv[1]), Path(sys.argv[2]), progress=tell, save_seconds=0.0)
"""


def test_a_killed_process_loses_at_most_the_last_step(whole: Path, cache: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "model"), str(cache)],
        cwd=REPOSITORY,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            for _ in range(5):
                assert process.stdout.readline() == "step\n"
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    taken: list[Step] = []
    run(
        tmp_path / "model",
        cache,
        progress=lambda sign: taken.append(sign) if isinstance(sign, Step) else None,
    )
    # The fifth was taken and not yet saved.
    assert len(taken) == 13 - 4
    assert_same_result(tmp_path / "model", whole)


def test_the_state_is_saved_every_so_often_within_an_epoch(cache: Path, tmp_path: Path) -> None:
    saved: list[bool] = []

    def note(sign: object) -> None:
        if isinstance(sign, Step):
            saved.append((tmp_path / STATE).stat().st_mtime_ns > 0)
            # Seen: what is written from now on has another time, whatever the file system's clock.
            os.utime(tmp_path / STATE, ns=(0, 0))

    one = replace(CONFIG, stages=(replace(STAGE, epochs=1),))
    run(tmp_path, cache, one, progress=note, save_seconds=0.0)
    assert saved == [True] * 3


def stopped(output: Path, cache: Path) -> Path:
    stop = StopAfter(2)
    with pytest.raises(KeyboardInterrupt):
        run(output, cache, progress=stop.progress, should_stop=stop.should_stop)
    return output / STATE


def test_a_state_of_another_run_is_refused_and_kept(cache: Path, tmp_path: Path) -> None:
    state = stopped(tmp_path, cache)
    before = state.read_bytes()
    other_stage = replace(CONFIG, seed=3, stages=(replace(STAGE, margin=0.3), CONFIG.stages[1]))
    with pytest.raises(
        SettingsError, match=r"other settings \(seed, stage 1's margin\); use another --output"
    ):
        run(tmp_path, cache, other_stage)
    other_data = Run(tmp_path, cache=cache, threads=1)
    with pytest.raises(SettingsError, match="unfinished run on other data"):
        train_on(CONFIG, world(range(0, 6, 2)), world(range(1, 2)), other_data)
    assert state.read_bytes() == before


def test_a_damaged_state_is_named(cache: Path, tmp_path: Path) -> None:
    state = stopped(tmp_path, cache)
    state.write_bytes(state.read_bytes()[:-1000])
    with pytest.raises(SettingsError, match=r"training-state\.pt cannot be read .*; delete it"):
        run(tmp_path, cache)
    state.write_bytes(b"")
    with pytest.raises(SettingsError, match="cannot be read"):
        run(tmp_path, cache)


def test_a_state_that_is_older_than_a_setting_is_taken_up(whole: Path, cache: Path, tmp_path: Path) -> None:
    import torch

    state = stopped(tmp_path, cache)
    saved = torch.load(state, weights_only=True)
    config = json.loads(saved["config"])
    del config["quantize_text"], config["stages"][0]["clip_norm"]
    torch.save({**saved, "config": json.dumps(config)}, state)
    run(tmp_path, cache)
    assert_same_result(tmp_path, whole)


def test_stopping_while_photos_are_read_comes_at_once(tmp_path: Path) -> None:
    signs = 0

    def count(_: object) -> None:
        nonlocal signs
        signs += 1

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "model", tmp_path / "cache", progress=count, should_stop=lambda: signs >= 3)
    assert signs == 3
    assert not (tmp_path / "model" / STATE).exists()
    epochs: list[Epoch] = []
    one = replace(CONFIG, stages=(replace(STAGE, epochs=1),))
    run(
        tmp_path / "model",
        tmp_path / "cache",
        one,
        progress=lambda sign: epochs.append(sign) if isinstance(sign, Epoch) else None,
    )
    assert len(epochs) == 2


def test_a_start_that_has_changed_since_is_named(cache: Path, tmp_path: Path) -> None:
    run(tmp_path / "start", cache, replace(CONFIG, stages=(replace(STAGE, epochs=1),)))
    config = TrainingConfig(data="shapes", model=str(tmp_path / "start"), bfloat16=False, stages=(STAGE,))
    stop = StopAfter(1)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "model", cache, config, progress=stop.progress, should_stop=stop.should_stop)
    run(tmp_path / "start", cache, replace(CONFIG, dimension=20, stages=(replace(STAGE, epochs=1),)))
    with pytest.raises(SettingsError, match="don't fit the model that the run starts from"):
        run(tmp_path / "model", cache, config)


def test_a_run_never_overwrites_what_it_starts_from(cache: Path, tmp_path: Path) -> None:
    config = TrainingConfig(data="shapes", model=str(tmp_path / "model"), stages=(STAGE,))
    with pytest.raises(SettingsError, match="is what the run starts from: choose another --output"):
        run(tmp_path / "model", cache, config)
