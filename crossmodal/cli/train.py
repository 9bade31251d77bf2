"""``train``: fine-tune a model on a data set's photos and captions, or train one as a file says."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from crossmodal.cli.output import print_json
from crossmodal.cli.present.plots import write_training
from crossmodal.cli.present.training_progress import TrainingLines, describe_result
from crossmodal.extras import require_package
from crossmodal.models.recommendation import resolve_best
from crossmodal.models.registry import DEFAULT_MODEL
from crossmodal.processes import StopSignals
from crossmodal.settings import Settings
from crossmodal.training import Run, TrainingConfig, TrainingResult, fine_tuning, train
from crossmodal.training.train import HISTORY

_OUTPUT = "trained-model"
_PLOT = "training.png"


def run(settings: Settings) -> int:
    """Trains, draws the plot and prints the dev metrics.

    Returns 1 where some photos could not be used and 130 where it was stopped.
    """
    for package in ("torch", "matplotlib"):
        require_package(package, "Training", "train")
    config, command = _configuration(settings)
    output = settings.output or settings.workspace / _OUTPUT
    with StopSignals() as signals:
        carried_out = Run(
            output=output,
            cache=settings.model_cache / "training",
            models=settings.model_cache,
            trust_remote_code=settings.trust_remote_code,
            command=command,
            progress=TrainingLines(quiet=settings.json),
            should_stop=lambda: signals.stopping,
        )
        try:
            result = train(config, carried_out, data_root=settings.data_root)
        except KeyboardInterrupt:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return 130
    write_training(output / HISTORY, output / _PLOT)
    _print(result, as_json=settings.json)
    return 1 if result.failures else 0


def _configuration(settings: Settings) -> tuple[TrainingConfig, str]:
    """What to do, and the command line that does the same again."""
    command = ["crossmodal", "train"]
    if settings.config is None:
        model = resolve_best(settings.model or DEFAULT_MODEL, settings.model_cache)
        config = fine_tuning(
            settings.data_set, model, loss=settings.loss, split=settings.split, num_docs=settings.num_docs
        )
        command += ["-d", settings.data_set, "-m", model]
        for name in ("loss", "split", "num_docs"):
            if (value := getattr(settings, name)) is not None:
                command += [f"--{name}", str(value)]
        return config, shlex.join(command)
    return TrainingConfig.load(settings.config), shlex.join([*command, "--config", str(settings.config)])


def _print(result: TrainingResult, *, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(result), "folder": str(result.folder)})
    else:
        print("\n".join(describe_result(result)))
        folder = _shown(result.folder)
        print(f"the model is in {folder}; use it with -m {shlex.quote(folder)}")
    for failure in result.failures:
        print(f"failed: {failure.source}: {failure.reason}", file=sys.stderr)


def _shown(folder: Path) -> str:
    """The folder as ``-m`` takes it; "vse" alone would be the shipped model."""
    short = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    return str(short) if short.is_absolute() else f"./{short}"
