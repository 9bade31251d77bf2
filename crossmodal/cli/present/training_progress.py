"""What a training run reports while it goes on, and at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from crossmodal.cli.present.console import duration
from crossmodal.training import Epoch, Preparation, Step, TrainingResult

__all__ = ["TrainingLines", "describe_result"]

_LINE_SECONDS = 5.0


class TrainingLines:
    """A line on stderr every few seconds, at the end of each preparation and after each epoch."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._last_line = time.monotonic()
        # What has been prepared since the last line about it.
        self._unprinted: Preparation | None = None
        # Since when, and what went through, that speeds and the time left are reckoned from.
        self._since = 0.0
        self._stage = 0
        self._steps = self._captions = self._photos = 0

    def __call__(self, sign: Preparation | Step | Epoch) -> None:
        now = time.monotonic()
        if self._unprinted and (not isinstance(sign, Preparation) or sign.doing != self._unprinted.doing):
            self._print_preparation(self._unprinted, now)
        if isinstance(sign, Preparation):
            self._prepare(sign, now)
        elif isinstance(sign, Step):
            self._step(sign, now)
        else:
            self._print(describe_epoch(sign), now)
            # Measuring took time in which no step was taken.
            self._stage = 0

    def _prepare(self, sign: Preparation, now: float) -> None:
        self._unprinted = sign
        if now - self._last_line >= _LINE_SECONDS:
            self._print_preparation(sign, now)

    def _print_preparation(self, sign: Preparation, now: float) -> None:
        self._unprinted = None
        total = "" if sign.total is None else f" of {sign.total}"
        self._print(f"{sign.doing}: {sign.done}{total}", now)

    def _step(self, step: Step, now: float) -> None:
        if step.stage != self._stage:
            self._stage, self._since = step.stage, now
            self._steps = self._captions = self._photos = 0
        else:
            self._steps += 1
            self._captions += step.captions
            self._photos += step.photos
        if now - self._last_line < _LINE_SECONDS:
            return
        line = (
            f"stage {step.stage} of {step.stages}, epoch {step.epoch} of {step.epochs}, step {step.step} of "
            f"{step.steps}: loss {step.loss:.3f}"
        )
        seconds = now - self._since
        if self._steps and seconds > 0:
            left = (step.epochs - step.epoch) * step.steps + step.steps - step.step
            line += f", {self._captions / seconds:.0f} captions/s"
            line += f", {self._photos / seconds:.0f} photos/s" if self._photos else ""
            line += f", at most {duration(left * seconds / self._steps)} left in this stage"
        self._print(line, now)

    def _print(self, line: str, now: float) -> None:
        self._last_line = now
        if not self._quiet:
            print(line, file=sys.stderr, flush=True)


def describe_epoch(epoch: Epoch) -> str:
    """One line: the loss and the dev metrics of both directions."""
    if epoch.loss is None:
        what = "the start"
    else:
        what = f"stage {epoch.stage}, epoch {epoch.number}: loss {epoch.loss:.3f}"
    return f"{what}, dev {_hits(epoch.metrics)}"


def describe_result(result: TrainingResult) -> list[str]:
    """Lines for the end: what the model can do, which epoch it is, how long it took."""
    lines = ["on the dev photos, with the weights as they are stored:"]
    lines += [
        f"{direction}: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        for direction, metrics in result.metrics.items()
    ]
    if result.best_stage:
        chosen = f"the best was epoch {result.best_epoch} of stage {result.best_stage}"
    else:
        chosen = "none was better on the dev photos than the start, so the weights are as they were"
    lines.append(f"at the start: {_hits(result.start)}")
    lines.append(f"{result.epochs} epochs in {duration(result.seconds)}; {chosen}")
    return lines


def _hits(metrics: Mapping[str, Mapping[str, float]]) -> str:
    by_text, by_image = metrics["text2image"], metrics["image2text"]
    return (
        f"hit@1 {by_text['hit@1']:.1%} and hit@10 {by_text['hit@10']:.1%} text to image, "
        f"{by_image['hit@1']:.1%} and {by_image['hit@10']:.1%} image to text"
    )
