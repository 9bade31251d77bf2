"""The optimisation: stages, epochs and steps, and going on where an earlier process ended."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crossmodal.errors import SettingsError
from crossmodal.training.config import Stage, TrainingConfig
from crossmodal.training.dev import caption_vectors, measure, photo_vectors, using_weights
from crossmodal.training.mixing import Weights, best_mean, best_means, put_means, trunks_of
from crossmodal.training.objective import Objective
from crossmodal.training.optimization import (
    Average,
    accumulate_gradients,
    build_optimizer,
    rate_at,
    set_rates,
    trained_parameters,
)
from crossmodal.training.pairs import Pairs
from crossmodal.training.reports import Epoch, Hooks, Metrics, Outcome, Step
from crossmodal.training.stage_data import Batch, Resources, StageData, image_input, prepare_stage
from crossmodal.training.state import StateFile
from crossmodal.training.trainable.base import Trainable
from crossmodal.training.trainable.building import build_origin

__all__ = ["fit"]


# Added to the deviation of a feature, so that one that is nearly always 0 isn't blown up.
_DEVIATION_FLOOR = 1e-3

# Photos that mean and deviation are taken from, evenly spread.
_STANDARD_SAMPLE = 2_000


@dataclass
class _Best:
    epoch: Epoch
    weights: dict[str, Tensor]
    learned: dict[str, float]


@dataclass
class _Position:
    """The next thing to do: ``step`` (from 0) of ``epoch`` (from 1) of ``stage`` (from 0)."""

    stage: int = 0
    epoch: int = 1
    step: int = 0


@dataclass
class _Run:
    """What a whole run carries from stage to stage."""

    model: Trainable
    config: TrainingConfig
    train: Pairs
    dev: Pairs
    resources: Resources
    state_file: StateFile
    hooks: Hooks
    parameters: dict[str, nn.Parameter]
    position: _Position = field(default_factory=_Position)
    epochs: list[Epoch] = field(default_factory=list)
    best: _Best | None = None
    learned: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def save(self, stage: Mapping[str, Any] | None) -> None:
        """``stage`` is the state of the stage in progress, None between two stages."""
        best = self.best
        assert best is not None
        self.state_file.save(
            {
                "position": asdict(self.position),
                "weights": {name: value.detach() for name, value in self.parameters.items()},
                "epochs": [asdict(epoch) for epoch in self.epochs],
                "best": {"epoch": asdict(best.epoch), "weights": best.weights, "learned": best.learned},
                "learned": self.learned,
                "seconds": self.seconds(),
                "stage": stage,
            }
        )

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises SettingsError where the weights are those of another network."""
        shapes, own = (
            {name: tuple(value.shape) for name, value in weights.items()}
            for weights in (state["weights"], self.parameters)
        )
        if shapes != own:
            raise SettingsError(
                f"The weights in {self.state_file.path} don't fit the model that the run starts from, which "
                "has changed since: use another --output, or delete that file to start over."
            )
        self.position = _Position(**state["position"])
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        best = state["best"]
        self.best = _Best(Epoch(**best["epoch"]), best["weights"], best["learned"])
        self.learned = state["learned"]
        self.seconds_before = state["seconds"]
        self.put(state["weights"])

    def put(self, weights: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in weights.items():
                self.parameters[name].copy_(value)

    def consider(self, epoch: Epoch, learned: dict[str, float]) -> None:
        """Record an epoch whose weights the model has now, and copy them if none were better."""
        self.epochs.append(epoch)
        if self.best is None or epoch.score > self.best.epoch.score:
            weights = {name: value.detach().clone() for name, value in self.parameters.items()}
            self.best = _Best(epoch, weights, learned)
        self.hooks.on_epoch(epoch)


def fit(
    model: Trainable,
    config: TrainingConfig,
    train: Pairs,
    dev: Pairs,
    resources: Resources,
    state_file: StateFile,
    hooks: Hooks,
) -> Outcome:
    """Train ``model``, which then has the weights of the best epoch on ``dev``, the start included.

    Goes on from ``state_file`` where there is one; the state is saved at the start, after every epoch and
    every ``hooks.save_seconds``. Steps draw their random numbers from the seed and their own number alone, so
    that the result doesn't depend on where a run was interrupted. When ``hooks.should_stop`` says so, the
    state is saved and KeyboardInterrupt raised, as for Ctrl-C.

    Raises SettingsError where the state belongs to another run and where the loss or its gradient isn't
    finite, and what ``stage_data.prepare_stage`` raises.
    """
    trained: dict[str, nn.Parameter] = {}
    for stage in config.stages:
        trained |= trained_parameters(model, stage, freeze_word_embeddings=config.freeze_word_embeddings)
    run = _Run(model, config, train, dev, resources, state_file, hooks, trained)
    with torch.random.fork_rng():
        _standardise(run)
        started = {name: value.detach().clone() for name, value in trained.items()}
        origin = _origin(run)
        if state := state_file.load():
            run.restore(state)
            planned = sum(stage.epochs for stage in config.stages)
            resources.progress("going on after epochs", len(run.epochs) - 1, planned)
        else:
            _measure_start(run)
        progress = None if state is None else state["stage"]
        for number in range(run.position.stage, len(config.stages)):
            _StageRun(run, number).fit(progress)
            progress = None
        assert run.best is not None
        run.put(run.best.weights)
        shares = None if origin is None else _mixed(run, origin)
        share = _with_model(run, started)
    return Outcome(run.epochs, run.best.epoch, run.best.learned, run.seconds(), shares, share)


def _origin(run: _Run) -> Weights | None:
    """The trunks' weights before they were tuned, which the model gets its share of."""
    settings = run.config.origin
    if settings is None:
        return None
    origin = trunks_of(build_origin(run.config, run.resources.models), run.parameters)
    put_means(run.model, run.parameters, origin, settings.start, settings.start)
    return origin


def _mixed(run: _Run, origin: Weights) -> tuple[float, float]:
    """Put the means of the best weights and those of ``origin`` in place that are best on dev; its shares."""
    settings = run.config.origin
    assert settings is not None
    # Where the trunk was trained, photos are its pixels.
    stage = max(run.config.stages, key=lambda stage: stage.image_trunk_rate)
    images = image_input(run.model, stage, run.dev, run.resources, train=False)
    tokens = run.model.tokenize(run.dev.captions)
    return best_means(
        run.model,
        run.parameters,
        origin,
        settings.end,
        lambda: photo_vectors(run.model, images, len(run.dev.digests), bfloat16=run.resources.bfloat16),
        lambda: caption_vectors(run.model, tokens, bfloat16=run.resources.bfloat16),
        run.dev.photos,
    )


def _with_model(run: _Run, started: Weights) -> float:
    """Put the mean of the weights and those that the run ``started`` from in place that is best on dev; its
    share of the latter."""
    if not run.config.keep_model:
        return 0.0
    stage = max(run.config.stages, key=lambda stage: stage.image_trunk_rate)
    images = image_input(run.model, stage, run.dev, run.resources, train=False)
    tokens = run.model.tokenize(run.dev.captions)
    return best_mean(
        run.parameters,
        started,
        run.config.keep_model,
        lambda: measure(run.model, images, tokens, run.dev, bfloat16=run.resources.bfloat16),
    )


def _standardise(run: _Run) -> None:
    """Have the image head learn on standardised features, if it learns at all."""
    heads = [stage for stage in run.config.stages if stage.head_rate > 0 and stage.needs_photos]
    if not heads or not run.model.standardises:
        return
    frozen = Stage(views=heads[0].views, augmentation=heads[0].augmentation)
    count = len(run.train.digests)
    sample = np.unique(np.linspace(0, count - 1, min(count, _STANDARD_SAMPLE)).astype(np.int64))
    some = replace(run.train, digests=[run.train.digests[number] for number in sample])
    images = image_input(run.model, frozen, some, run.resources, train=heads[0].image_trunk_rate == 0)
    features = images.take(np.arange(len(sample)), None)
    run.model.standardise(features.mean(dim=0), features.std(dim=0) + _DEVIATION_FLOOR)


def _measure_start(run: _Run) -> None:
    # A model that is only widened has no stage; photos are then features of its frozen trunk.
    stage = run.config.stages[0] if run.config.stages else Stage()
    images = image_input(run.model, stage, run.dev, run.resources, train=False)
    metrics = measure(
        run.model, images, run.model.tokenize(run.dev.captions), run.dev, bfloat16=run.resources.bfloat16
    )
    run.consider(Epoch(0, 0, None, metrics, run.seconds()), run.model.learned_by_loss())
    run.save(None)


class _StageRun:
    """One stage under way."""

    def __init__(self, run: _Run, number: int) -> None:
        self._run = run
        self._number = number
        self._stage = stage = run.config.stages[number]
        self._device = next(run.model.parameters()).device
        self._data: StageData = prepare_stage(run.model, stage, run.train, run.resources)
        self._dev_images = image_input(run.model, stage, run.dev, run.resources, train=False)
        self._dev_tokens = run.model.tokenize(run.dev.captions)
        known = run.learned.get(stage.loss or "", run.model.learned_by_loss())
        self._objective = Objective(stage, known).to(self._device)
        self._trained = trained_parameters(
            run.model, stage, freeze_word_embeddings=run.config.freeze_word_embeddings
        )
        self._optimizer = build_optimizer(run.model, self._objective, stage, self._trained)
        self._average = Average(self._trained, run.config.average_decay)
        self._steps = math.ceil(self._data.batches / stage.accumulate)
        self._losses = (0.0, 0)
        self._saved = time.monotonic()

    def fit(self, progress: Mapping[str, Any] | None) -> None:
        """Run the stage to its end; ``progress`` is what ``_state`` gave, if it was under way."""
        run, stage = self._run, self._stage
        if progress is not None:
            self._restore(progress)
        run.model.set_dropout(stage.dropout, stage.feature_dropout)
        # Checked before an epoch and not after it: a run that was stopped in between checks it again.
        while run.position.epoch <= stage.epochs and not self._out_of_patience():
            self._epoch()
        run.learned[stage.loss or ""] = self._objective.learned()
        assert run.best is not None
        run.put(run.best.weights)
        run.position = _Position(stage=self._number + 1)
        run.save(None)

    def _out_of_patience(self) -> bool:
        own = [epoch for epoch in self._run.epochs if epoch.stage == self._number + 1]
        if not own:
            return False
        return own[-1].number - max(own, key=lambda epoch: epoch.score).number >= self._run.config.patience

    def _epoch(self) -> None:
        run, position = self._run, self._run.position
        run.model.train()
        batches = self._data.epoch(
            (run.config.seed, self._number, position.epoch), position.step * self._stage.accumulate
        )
        while position.step < self._steps:
            self._step(list(islice(batches, self._stage.accumulate)))
            position.step += 1
            if position.step < self._steps:
                self._pause(save=time.monotonic() - self._saved >= run.hooks.save_seconds)
        metrics = self._measure()
        mean = self._losses[0] / max(1, self._losses[1])
        epoch = Epoch(self._number + 1, position.epoch, mean, metrics, run.seconds())
        with using_weights(run.parameters, self._average.weights()):
            run.consider(epoch, self._objective.learned())
        self._losses = (0.0, 0)
        position.epoch, position.step = position.epoch + 1, 0
        self._pause(save=True)

    def _pause(self, *, save: bool) -> None:
        """Save where it is time to, and stop where that is wanted."""
        stop = self._run.hooks.should_stop()
        if save or stop:
            self._save()
        if stop:
            raise KeyboardInterrupt

    def _step(self, batches: list[Batch]) -> None:
        run, stage, position = self._run, self._stage, self._run.position
        done = (position.epoch - 1) * self._steps + position.step
        set_rates(self._optimizer, rate_at(done, stage.warm_up_steps, stage.epochs * self._steps))
        seeds = np.random.SeedSequence([run.config.seed, self._number, position.epoch, position.step])
        loss = 0.0
        for batch, seed in zip(batches, seeds.generate_state(len(batches)), strict=True):
            loss += self._gradients(batch, len(batches), int(seed))
        if not math.isfinite(loss):
            raise self._diverged("loss", loss)
        parameters = [*self._trained.values(), *self._objective.parameters()]
        norm = nn.utils.clip_grad_norm_(parameters, stage.clip_norm).item()
        if not math.isfinite(norm):
            # Scaled by an infinite norm all gradients would be 0, and training would silently learn nothing.
            raise self._diverged("gradient's norm", norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._average.update()
        self._losses = (self._losses[0] + loss, self._losses[1] + 1)
        run.hooks.on_step(
            Step(
                stage=self._number + 1,
                stages=len(run.config.stages),
                epoch=position.epoch,
                epochs=stage.epochs,
                step=position.step + 1,
                steps=self._steps,
                loss=loss,
                captions=sum(len(batch.texts) for batch in batches),
                photos=sum(0 if batch.images is None else len(batch.images) for batch in batches),
            )
        )

    def _diverged(self, what: str, value: float) -> SettingsError:
        position = self._run.position
        return SettingsError(
            f"The {what} became {value} in stage {self._number + 1}, epoch {position.epoch}, step "
            f"{position.step + 1}; lower the stage's rates, or give it more warm_up_steps."
        )

    def _gradients(self, batch: Batch, batches: int, seed: int) -> float:
        """Add the batch's share of a step's gradient; returns its share of the loss."""
        model, images = self._run.model, self._data.images

        def encode_images(rows: Tensor) -> Tensor:
            assert images is not None
            with self._autocast():
                return images.encode(model, rows)

        def encode_texts(rows: Any) -> Tensor:
            with self._autocast():
                return self._data.texts.encode(rows)

        return accumulate_gradients(
            None if batch.images is None else batch.images.to(self._device),
            batch.texts,
            encode_images,
            encode_texts,
            lambda photos, texts: self._objective(batch, photos, texts) / batches,
            chunk_size=self._stage.chunk_size,
            seed=seed,
        )

    def _measure(self) -> Metrics:
        run = self._run
        with using_weights(run.parameters, self._average.weights()):
            return measure(
                run.model, self._dev_images, self._dev_tokens, run.dev, bfloat16=run.resources.bfloat16
            )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._run.resources.bfloat16)

    def _save(self) -> None:
        self._run.save(
            {
                "optimizer": self._optimizer.state_dict(),
                "average": self._average.state(),
                "objective": self._objective.state_dict(),
                "losses": list(self._losses),
            }
        )
        self._saved = time.monotonic()

    def _restore(self, progress: Mapping[str, Any]) -> None:
        self._optimizer.load_state_dict(progress["optimizer"])
        self._average.restore(progress["average"])
        self._objective.load_state_dict(progress["objective"])
        self._losses = (progress["losses"][0], progress["losses"][1])
