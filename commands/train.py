"""``-t train``: a VSE++ model from a data set's photos and captions."""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path

from crossmodal.settings import Settings
from crossmodal.training.config import TrainingConfig
from crossmodal.training.train import Progress, train

_OUTPUT = "trained-vse"
_LINE_SECONDS = 5.0


def run(settings: Settings) -> int:
    """Trains and prints the dev metrics; returns 1 where some photos could not be used."""
    if settings.config is not None:
        config = TrainingConfig.load(settings.config)
        command = ["-t", "train", "--config", str(settings.config)]
    else:
        config = TrainingConfig(data=settings.data_set)
        command = ["-t", "train", "-d", settings.data_set]
    output = settings.output or settings.workspace / _OUTPUT
    result = train(
        config,
        data_root=settings.data_root,
        output=output,
        cache=settings.model_cache / "features",
        command="python app.py " + shlex.join(command),
        progress=_Lines(quiet=settings.json),
    )
    if settings.json:
        told = {**asdict(result), "folder": str(result.folder)}
        print(json.dumps(told))
    else:
        for direction, metrics in result.metrics.items():
            print(f"{direction}: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
        print(f"{result.epochs} epochs, the best was {result.best_epoch}; {result.seconds:.0f} seconds")
        print(f"the model is in {result.folder}; use it with -m {shlex.quote(str(_shown(result.folder)))}")
    for failure in result.failures:
        print(f"failed: {failure.source}: {failure.reason}", file=sys.stderr)
    return 1 if result.failures else 0


class _Lines:
    """A line on stderr now and then, and at the end of each epoch."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._quiet or (progress.stage != "epochs" and now - self._last < _LINE_SECONDS):
            return
        self._last = now
        total = f" of {progress.total}" if progress.total else ""
        message = f": {progress.message}" if progress.message else ""
        print(f"{progress.stage} {progress.done}{total}{message}", file=sys.stderr)


def _shown(folder: Path) -> Path:
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
