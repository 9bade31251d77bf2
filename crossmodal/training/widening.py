"""A second branch of the photo's network, with the weights from before it was tuned.

Tuning on a few thousand photos makes a small network forget most of what it was pretrained on. Its upper
layers as they were are put beside the tuned ones, on the same lower layers, and get heads of their own:
linear layers on both sides, learnt from captions and from what the pretrained classifier says of each photo.
Both pairs of heads are then one: the sum of both cosines, weighted by ``share``, is the cosine of vectors one
behind the other, which are turned so that the model's dimensions hold nearly all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.errors import SettingsError
from crossmodal.home_folder import expanded
from crossmodal.models.native.towers import ImageTower, TransformerTextTower
from crossmodal.training.classes import class_logits, class_names
from crossmodal.training.config import Augmentation, TrainingConfig, Widening
from crossmodal.training.features import cached_features, text_features
from crossmodal.training.pairs import Pairs
from crossmodal.training.stage_data import Resources
from crossmodal.training.trainable.base import Trainable
from crossmodal.training.trainable.building import pretrained_cnn
from crossmodal.training.trainable.native import NativeModel

__all__ = ["widened"]

# Photos of a batch, each with all its captions.
_BATCH = 512
_RATE = 2e-3
_WARM_UP = 0.1
_WEIGHT_DECAY = 0.05
_FEATURE_DROPOUT = 0.4
_TEXT_DROPOUT = 0.15
_FIRST_SCALE = 25.0

# Added to the deviations of features, some of which are nearly always 0 or never vary.
_PHOTO_FLOOR = 0.05
_TEXT_FLOOR = 0.02

# Captions that the weights of both parts and the dimensions are chosen by.
_SAMPLE = 6000


class _Head(NamedTuple):
    """A linear layer: features to vectors that are not of unit length."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.Linear) -> _Head:
        return cls(layer.weight.detach(), layer.bias.detach())

    def __call__(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight, self.bias)

    def scaled(self, factor: float) -> _Head:
        return _Head(self.weight * factor, self.bias * factor)


@dataclass(frozen=True)
class _Data:
    """Features of both branches (photos, 2 * length), pooled captions (captions, width) and the photo of
    each, the groups of photos (``Pairs.groups``), pooled sentences of classes (templates, classes, width),
    and the classifier's logits (photos, classes)."""

    photos: Tensor
    captions: Tensor
    photo_of: Tensor
    groups: Tensor
    sentences: Tensor
    logits: Tensor

    @property
    def beside(self) -> Tensor:
        return self.photos[:, self.photos.shape[1] // 2 :]


def widened(model: Trainable, config: TrainingConfig, pairs: Pairs, resources: Resources) -> NativeModel:
    """``model`` with a second branch, as ``config.widen`` says, learnt from ``pairs``.

    Raises SettingsError where the model has no transformer for sentences or has a second branch, ModelError
    and DataSetError where weights or names of classes cannot be read.
    """
    settings = config.widen
    assert settings is not None
    if not isinstance(model, NativeModel) or not isinstance(model.text, TransformerTextTower):
        raise SettingsError("The training setting widen is for this project's models with a transformer.")
    if model.image.cnn.beside is not None:
        raise SettingsError(f"The training setting widen: {config.model} has a second branch already.")
    wide = _with_branch(model, settings, config)
    data = _data(wide, settings, pairs, resources)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        photo, sentence = _learnt_heads(wide, settings, data, resources)
    _join(wide, model, photo, sentence, settings.share, data)
    return wide


def _with_branch(model: NativeModel, settings: Widening, config: TrainingConfig) -> NativeModel:
    """``model`` with a second branch, and no head yet."""
    tower = ImageTower(model.dimension, branches=2)
    origin = pretrained_cnn(expanded(settings.image_weights)).state_dict()
    own = {f"cnn.{name}": value for name, value in model.image.cnn.state_dict().items()}
    own |= {
        name: origin[name.removeprefix("cnn.beside.")]
        for name in tower.state_dict()
        if name.startswith("cnn.beside.")
    }
    # The head follows in the end.
    tower.load_state_dict(tower.state_dict() | own)
    return NativeModel(
        tower.eval(), model.text, model.vocabulary, model.preprocessing, quantize_text=config.quantize_text
    )


def _data(model: NativeModel, settings: Widening, pairs: Pairs, resources: Resources) -> _Data:
    inputs = resources.inputs[model.preprocessing]
    store = cached_features(
        model,
        inputs,
        pairs.digests,
        views=1,
        augmentation=Augmentation(),
        folder=resources.folder,
        bfloat16=resources.bfloat16,
        progress=lambda done, total: resources.progress("features of photos", done, total),
    )
    names = class_names(expanded(settings.names))
    logits = class_logits(
        expanded(settings.image_weights),
        len(names),
        inputs,
        model.preprocessing,
        pairs.digests,
        folder=resources.folder,
        bfloat16=resources.bfloat16,
        progress=lambda done, total: resources.progress("classes of photos", done, total),
    )
    features = store.rows()[store.numbers(pairs.digests), 0]
    sentences = [
        _pooled(model, [template.replace("{}", name) for name in names], resources)
        for template in settings.templates
    ]
    return _Data(
        photos=torch.from_numpy(features.astype(np.float32)),
        captions=_pooled(model, pairs.captions, resources),
        photo_of=torch.from_numpy(pairs.photos),
        groups=torch.from_numpy(pairs.groups()),
        sentences=torch.stack(sentences),
        logits=torch.from_numpy(logits.astype(np.float32)),
    )


def _pooled(model: NativeModel, texts: Sequence[str], resources: Resources) -> Tensor:
    """What the transformer makes of ``texts`` before its head: float32 (texts, width)."""
    return text_features(
        model,
        model.text_parts().trunk,
        texts,
        lambda done, total: resources.progress("captions", done, total),
    )


def _learnt_heads(
    model: NativeModel, settings: Widening, data: _Data, resources: Resources
) -> tuple[_Head, _Head]:
    """Heads of the second branch and of its sentences."""
    photos, photo_mean, photo_deviation = _standardised(data.beside, _PHOTO_FLOOR)
    captions, text_mean, text_deviation = _standardised(data.captions, _TEXT_FLOOR)
    sentences = (data.sentences - text_mean) / text_deviation
    photo = nn.Linear(photos.shape[1], model.dimension)
    sentence = nn.Linear(captions.shape[1], model.dimension)
    scale = nn.Parameter(torch.tensor(_FIRST_SCALE).log())
    heads = [*photo.parameters(), *sentence.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": heads, "weight_decay": _WEIGHT_DECAY}, {"params": [scale], "weight_decay": 0.0}], lr=_RATE
    )
    size = min(_BATCH, len(photos))
    steps = settings.epochs * (len(photos) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps, pct_start=_WARM_UP)
    for step, (chosen, own, rows) in enumerate(_batches(data, size, settings.epochs)):
        resources.progress("heads of the second branch", step, steps)
        images = F.normalize(photo(F.dropout(photos[chosen], _FEATURE_DROPOUT)), dim=1)
        texts = F.normalize(sentence(F.dropout(captions[rows], _TEXT_DROPOUT)), dim=1)
        classes = sentences[int(torch.randint(len(sentences), ()))]
        classes = F.normalize(sentence(F.dropout(classes, _TEXT_DROPOUT)), dim=1)
        right = own[None] == torch.arange(size)[:, None]
        groups = data.groups[chosen]
        alike = (groups[:, None] == groups[own][None]) & ~right
        logits = (scale.exp() * images @ texts.T).masked_fill(alike, -torch.inf)
        of_right = logits.log_softmax(dim=1).masked_fill(~right, 0.0)
        of_photos = -(of_right.sum(dim=1) / right.sum(dim=1)).mean()
        loss = (F.cross_entropy(logits.T, own) + of_photos) / 2
        loss = loss + settings.class_weight * F.kl_div(
            (scale.exp() * images @ classes.T).log_softmax(dim=1),
            data.logits[chosen].log_softmax(dim=1),
            log_target=True,
            reduction="batchmean",
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return _raw(photo, photo_mean, photo_deviation), _raw(sentence, text_mean, text_deviation)


def _standardised(rows: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """``rows`` less their mean, by their deviation; the mean, and the deviation."""
    mean, deviation = rows.mean(dim=0), rows.std(dim=0) + floor
    return (rows - mean) / deviation, mean, deviation


def _raw(layer: nn.Linear, mean: Tensor, deviation: Tensor) -> _Head:
    """The head that gives the same of features that aren't standardised."""
    weight = layer.weight.detach() / deviation
    return _Head(weight, layer.bias.detach() - weight @ mean)


def _batches(data: _Data, size: int, epochs: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Photos by their numbers, and their captions: the place of the photo in the batch, and the row."""
    order = torch.argsort(data.photo_of, stable=True)
    counts = torch.bincount(data.photo_of, minlength=len(data.photos))
    first = counts.cumsum(dim=0) - counts
    for _ in range(epochs):
        shuffled = torch.randperm(len(data.photos))
        for start in range(0, len(shuffled) - size + 1, size):
            chosen = shuffled[start : start + size]
            own = torch.repeat_interleave(torch.arange(size), counts[chosen])
            rows = [order[at : at + count] for at, count in zip(first[chosen], counts[chosen], strict=True)]
            yield chosen, own, torch.cat(rows)


def _join(
    wide: NativeModel, model: NativeModel, photo: _Head, sentence: _Head, share: float, data: _Data
) -> None:
    """Give ``wide`` the heads of ``model`` and the new ones as one; ``share`` is that of the new ones."""
    some = data.captions[:: max(1, len(data.captions) // _SAMPLE)]
    half = data.photos.shape[1] // 2
    own, beside = data.photos[:, :half], data.photos[:, half:]
    old_photo, old_sentence = _Head.of(model.image.projection), _Head.of(_transformer(model).projection)
    parts = ((1 - share) ** 0.5, share**0.5)
    # So that of both parts a vector has as much as is wanted; each one's length varies by a seventh.
    photo_heads = [
        head.scaled(part / head(rows).norm(dim=1).mean().item())
        for head, part, rows in zip((old_photo, photo), parts, (own, beside), strict=True)
    ]
    sentence_heads = [
        head.scaled(part / head(some).norm(dim=1).mean().item())
        for head, part in zip((old_sentence, sentence), parts, strict=True)
    ]
    joint_sentence = _Head(*(torch.cat(values) for values in zip(*sentence_heads, strict=True)))
    joint_photo = _Head(
        torch.block_diag(*(head.weight for head in photo_heads)),  # type: ignore[no-untyped-call]
        torch.cat([head.bias for head in photo_heads]),
    )
    # The dimensions in which most of both photos and sentences lies; most of it in the first ones, so that
    # vectors can be cut off.
    moments = torch.zeros(len(joint_photo.bias), len(joint_photo.bias))
    for vectors in (joint_photo(data.photos), joint_sentence(some)):
        unit = F.normalize(vectors, dim=1)
        moments += unit.T @ unit / len(unit)
    kept = torch.linalg.eigh(moments).eigenvectors[:, -wide.dimension :].flip(1).T
    with torch.no_grad():
        layers = wide.image.projection, _transformer(wide).projection
        for layer, head in zip(layers, (joint_photo, joint_sentence), strict=True):
            layer.weight.copy_(kept @ head.weight)
            layer.bias.copy_(kept @ head.bias)


def _transformer(model: NativeModel) -> TransformerTextTower:
    assert isinstance(model.text, TransformerTextTower)
    return model.text
