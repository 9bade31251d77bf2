"""The optimisation of both towers on cached features."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from crossmodal.evaluation.metrics import ranks_of_relevant, summarize
from crossmodal.models.native.towers import GruTextTower
from crossmodal.models.native.vocabulary import PADDING, Vocabulary
from crossmodal.training.config import TrainingConfig
from crossmodal.training.losses.hinges import max_of_hinges, sum_of_hinges
from crossmodal.training.pairs import Pairs

__all__ = ["Epoch", "Heads", "dev_metrics", "fit"]

# Captions that go through the text tower at once when it is evaluated.
_DEV_BATCH = 256

# Added to the deviation of a feature, so that one that is nearly always 0 isn't blown up.
_DEVIATION_FLOOR = 1e-3

# Initial word embeddings are uniform in this range either side of 0, as in the VSE++ paper's code.
_EMBEDDING_RANGE = 0.1


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: the loss's mean over its batches and the dev metrics after it."""

    number: int
    loss: float
    metrics: dict[str, dict[str, float]]

    @property
    def score(self) -> float:
        """What the best epoch is chosen by: hit@10 of both directions together, from 0 to 2."""
        return self.metrics["text2image"]["hit@10"] + self.metrics["image2text"]["hit@10"]


class Heads(nn.Module):
    """All that is trained: the projection of CNN features, and the text tower."""

    def __init__(self, projection: nn.Linear, text: GruTextTower) -> None:
        super().__init__()
        self.projection = projection
        self.text = text

    def images(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(self.projection(features), dim=-1)


def fit(
    config: TrainingConfig,
    vocabulary: Vocabulary,
    train: Pairs,
    dev: Pairs,
    *,
    on_epoch: Callable[[Epoch], None],
    on_step: Callable[[int, int, float], None],
) -> tuple[Heads, list[Epoch]]:
    """Train, and return the heads of the best epoch on ``dev`` together with all epochs' results.

    ``on_step`` gets the step, the number of all steps and the loss. The same configuration, data, torch
    and processor give the same result.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return _fit(config, vocabulary, train, dev, on_epoch, on_step)


def _fit(
    config: TrainingConfig,
    vocabulary: Vocabulary,
    train: Pairs,
    dev: Pairs,
    on_epoch: Callable[[Epoch], None],
    on_step: Callable[[int, int, float], None],
) -> tuple[Heads, list[Epoch]]:
    batches = _Batches(config, vocabulary, train)
    heads = _new_heads(config, vocabulary)
    optimizer = torch.optim.Adam(heads.parameters(), lr=config.learning_rate)
    steps = config.epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate(step, config.warm_up_steps, steps)
    )
    epochs: list[Epoch] = []
    best, best_state = 0, heads.state_dict()
    for number in range(1, config.epochs + 1):
        loss_of = sum_of_hinges if number <= config.sum_epochs else max_of_hinges
        heads.train()
        losses: list[float] = []
        for step, batch in enumerate(batches, start=(number - 1) * len(batches) + 1):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
                texts = heads.text(*batch.words)
            loss = loss_of(heads.images(batch.features), texts.float(), batch.photos, margin=config.margin)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(heads.parameters(), config.clip_norm)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            on_step(step, steps, losses[-1])
        state = _on_raw_features(heads, batches.mean, batches.deviation)
        epochs.append(Epoch(number, float(np.mean(losses)), dev_metrics(state, vocabulary, dev)))
        on_epoch(epochs[-1])
        if best == 0 or epochs[-1].score > epochs[best - 1].score:
            best, best_state = number, copy.deepcopy(state.state_dict())
        elif number - max(best, config.sum_epochs) >= config.patience:
            break
    heads.load_state_dict(best_state)
    return heads.eval(), epochs


class _Batch(NamedTuple):
    """Standardised features (N, 1280), padded word numbers with their lengths, and rows of photos (N,)."""

    features: Tensor
    words: tuple[Tensor, list[int]]
    photos: Tensor


class _Batches:
    """An epoch's batches in random order; each pass draws another order and other views.

    Captions that do not fill a last batch are left out of that epoch.
    """

    def __init__(self, config: TrainingConfig, vocabulary: Vocabulary, pairs: Pairs) -> None:
        self.mean, self.deviation = _standard(pairs.features)
        self._config = config
        self._pairs = pairs
        self._numbers = [vocabulary.numbers_of(caption) for caption in pairs.captions]
        self._rng = np.random.default_rng(config.seed)

    def __len__(self) -> int:
        return max(1, len(self._numbers) // self._config.batch_size)

    def __iter__(self) -> Iterator[_Batch]:
        size = self._config.batch_size
        order = self._rng.permutation(len(self._numbers))
        for number in range(len(self)):
            rows = order[number * size : (number + 1) * size]
            photos = self._pairs.photos[rows]
            views = self._rng.integers(self._pairs.features.shape[1], size=len(rows))
            features = torch.from_numpy(self._pairs.features[photos, views]).float()
            yield _Batch(
                nn.functional.dropout((features - self.mean) / self.deviation, self._config.feature_dropout),
                _padded([self._numbers[row] for row in rows]),
                torch.from_numpy(photos),
            )


def _standard(features: npt.NDArray[np.float16]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each feature over the photos as they are (view 0)."""
    values = features[:, 0].astype(np.float32)
    return torch.from_numpy(values.mean(axis=0)), torch.from_numpy(values.std(axis=0) + _DEVIATION_FLOOR)


def _new_heads(config: TrainingConfig, vocabulary: Vocabulary) -> Heads:
    from crossmodal.models.native.mobilenet import FEATURES

    projection = nn.Linear(FEATURES, config.dimension)
    nn.init.xavier_uniform_(projection.weight)
    nn.init.zeros_(projection.bias)
    text = GruTextTower(len(vocabulary), config.word_dimension, config.dimension, config.dropout)
    with torch.no_grad():
        text.embedding.weight.uniform_(-_EMBEDDING_RANGE, _EMBEDDING_RANGE)
        text.embedding.weight[PADDING] = 0
    return Heads(projection, text)


def _on_raw_features(heads: Heads, mean: Tensor, deviation: Tensor) -> Heads:
    """The same heads for features that are not standardised: the projection takes that over."""
    raw = copy.deepcopy(heads).eval()
    with torch.no_grad():
        raw.projection.weight.div_(deviation)
        raw.projection.bias.sub_(raw.projection.weight @ mean)
    return raw


def _rate(step: int, warm_up: int, steps: int) -> float:
    return min(1.0, (step + 1) / (warm_up + 1)) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, list[int]]:
    """Rows of word numbers as one tensor int64 (N, longest), and their lengths."""
    lengths = [len(row) for row in rows]
    padded = torch.full((len(rows), max(lengths)), PADDING, dtype=torch.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.tensor(row)
    return padded, lengths


def dev_metrics(heads: Heads, vocabulary: Vocabulary, dev: Pairs) -> dict[str, dict[str, float]]:
    """The metrics of both directions on ``dev``, for heads that take raw features."""
    heads.eval()
    rows = [vocabulary.numbers_of(caption) for caption in dev.captions]
    with torch.inference_mode():
        images = heads.images(torch.from_numpy(dev.features[:, 0]).float()).numpy()
        texts = np.concatenate(
            [
                heads.text(*_padded(rows[start : start + _DEV_BATCH])).numpy()
                for start in range(0, len(rows), _DEV_BATCH)
            ]
        )
    photo_ids = [str(number) for number in range(len(images))]
    caption_photos = [str(number) for number in dev.photos]
    return {
        "text2image": summarize(ranks_of_relevant(texts, images, caption_photos, photo_ids)),
        "image2text": summarize(ranks_of_relevant(images, texts, photo_ids, caption_photos)),
    }
