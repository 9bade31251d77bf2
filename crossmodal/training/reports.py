"""What a run reports while it goes on and at its end: plain values, which need no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Epoch", "Hooks", "Metrics", "Outcome", "Preparation", "Step", "score_of"]

# Of both directions, "text2image" and "image2text".
Metrics = dict[str, dict[str, float]]


def score_of(metrics: Metrics) -> tuple[float, float]:
    """What weights are chosen by: the sum of both directions' hit@10, from 0 to 2.

    Where that is equal, as it often is among a few dozen photos, the sum of their MRR decides.
    """
    hits, reciprocal = (
        metrics["text2image"][name] + metrics["image2text"][name] for name in ("hit@10", "mrr")
    )
    return hits, reciprocal


class Preparation(NamedTuple):
    """A sign of life before the first step: ``done`` of ``total`` (None: not known) of ``doing``."""

    doing: str
    done: int
    total: int | None


class Step(NamedTuple):
    """A step of the optimisation, all counted from 1, with the batch's loss and what went through a tower."""

    stage: int
    stages: int
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    captions: int
    photos: int


@dataclass(frozen=True)
class Epoch:
    """What an epoch gave: the mean of its steps' losses and the dev metrics after it.

    Stages and epochs count from 1 but for the very first, number 0 of stage 0: the weights that the run
    starts with, whose ``loss`` is None.
    """

    stage: int
    number: int
    loss: float | None
    metrics: Metrics
    seconds: float

    @property
    def score(self) -> tuple[float, float]:
        """What the best epoch is chosen by."""
        return score_of(self.metrics)


@dataclass(frozen=True)
class Hooks:
    """Where the loop reports, and what it checks after every step to know whether to stop."""

    on_step: Callable[[Step], None] = lambda _: None
    on_epoch: Callable[[Epoch], None] = lambda _: None
    should_stop: Callable[[], bool] = lambda: False
    save_seconds: float = 300.0


@dataclass(frozen=True)
class Outcome:
    """A finished run: its epochs, the best of them, what the loss had learnt there, the time taken by all
    processes together, and the shares that were best of the origin in the image and in the text trunk, and of
    the model that the run started from."""

    epochs: list[Epoch]
    best: Epoch
    learned: dict[str, float]
    seconds: float
    origin_shares: tuple[float, float] | None = None
    model_share: float = 0.0
