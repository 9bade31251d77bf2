"""What a training run depends on, so that the same configuration makes the same model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from crossmodal.errors import SettingsError
from crossmodal.models.native.text_config import GruConfig
from crossmodal.models.registry import find_native
from crossmodal.settings import LOSSES
from crossmodal.training.json_fields import check_bounds, read_fields

__all__ = [
    "Augmentation",
    "Classes",
    "Distil",
    "MoreData",
    "Origin",
    "Stage",
    "TrainingConfig",
    "Widening",
    "fine_tuning",
]

Distil = Literal["text", "vectors", "similarity"]
_PLACE = "training setting"
_GAP = "{}"

# The least and the largest value of each number.
_STAGE_BOUNDS: Mapping[str, tuple[float, float]] = {
    "epochs": (1, 10_000),
    "margin": (0.0, 2.0),
    "scale": (0.1, 100.0),
    "teacher_weight": (0.0, 1e4),
    "temperature": (0.001, 10.0),
    "batch_size": (2, 65_536),
    "captions_per_photo": (1, 100),
    "accumulate": (1, 1024),
    "chunk_size": (1, 65_536),
    "image_trunk_rate": (0.0, 10.0),
    "text_trunk_rate": (0.0, 10.0),
    "head_rate": (0.0, 10.0),
    "frozen_blocks": (0, 1000),
    "frozen_layers": (0, 1000),
    "photo_size": (32, 4096),
    "weight_decay": (0.0, 10.0),
    "warm_up_steps": (0, 1_000_000),
    "clip_norm": (1e-3, 1e6),
    "views": (1, 64),
    "dropout": (0.0, 0.95),
    "feature_dropout": (0.0, 0.95),
}
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "num_docs": (1, 10**9),
    "dev_share": (0.01, 0.5),
    "text_layers": (1, 1000),
    "dimension": (1, 8192),
    "word_dimension": (1, 8192),
    "min_word_count": (1, 10_000),
    "average_decay": (0.0, 0.999999),
    "patience": (1, 10_000),
    "seed": (0, 2**32 - 1),
}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random changes of a photo: a part of it with ``scale`` of its area, stretched sideways by ``aspect``,
    mirrored or not, and values times 1 +- ``contrast`` plus +- ``brightness`` on the scale [0, 1].

    Colours are 1 +- ``colour`` times as strong, and gone in a share ``grey`` of the photos; in a share
    ``erase`` a part of 5 to 20% of the area is grey.
    """

    scale: tuple[float, float] = (0.6, 1.0)
    aspect: tuple[float, float] = (0.9, 1.1)
    flip: bool = True
    brightness: float = 0.15
    contrast: float = 0.2
    colour: float = 0.0
    grey: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        for name, limit in (("scale", 1.0), ("aspect", 4.0)):
            low, high = getattr(self, name)
            if not 0.05 <= low <= high <= limit:
                raise SettingsError(
                    f"The {_PLACE} augmentation {name} is [{low}, {high}]; it must be two ascending numbers "
                    f"from 0.05 to {limit}."
                )
        shares = ("brightness", "contrast", "colour", "grey", "erase")
        check_bounds(self, dict.fromkeys(shares, (0.0, 1.0)), f"{_PLACE} augmentation")


def _check_templates(templates: tuple[str, ...], place: str) -> None:
    for template in templates:
        if template.count(_GAP) != 1:
            raise SettingsError(
                f"The {place} template {template!r} must have {_GAP} once, where the name goes."
            )
    if not templates:
        raise SettingsError(f"The {place} templates is an empty list; at least one template is needed.")


@dataclass(frozen=True, slots=True)
class MoreData:
    """Another data set to train on.

    Where ``tag`` names a tag of its photos, such as the column ``class`` of a CSV file, they have captions
    made of it: each of ``templates`` with the tag's value in the place of {}.
    """

    data: str
    split: str | None = None
    tag: str | None = None
    templates: tuple[str, ...] = (_GAP,)

    def __post_init__(self) -> None:
        _check_templates(self.templates, f"{_PLACE} more")


@dataclass(frozen=True, slots=True)
class Classes:
    """What a classifier says of each photo, as a teacher.

    ``weights`` is a timm state dict of mobilenet_edgetpu_100 with its classifier, ``names`` a CSV file with
    the column ``class``, a row for each class in the classifier's order. A batch adds ``count`` classes as
    sentences, each by one of ``templates``: those that the classifier finds in its photos, and others by
    chance. ``weight`` times the divergence of softmax(``scale`` * cosine) from what the classifier says of
    these classes is added to the loss.
    """

    weights: str
    names: str
    templates: tuple[str, ...] = ("a photo of a {}", _GAP)
    count: int = 160
    weight: float = 1.0
    scale: float = 30.0

    def __post_init__(self) -> None:
        place = f"{_PLACE} classes"
        bounds = {"count": (2.0, 100_000.0), "weight": (0.0, 1e4), "scale": (0.1, 100.0)}
        check_bounds(self, bounds, place)
        _check_templates(self.templates, place)


@dataclass(frozen=True, slots=True)
class Origin:
    """The weights that a tuned model of this project comes from: ``image_weights`` and ``text_weights`` as in
    ``TrainingConfig``; a side that isn't named comes from the model itself.

    The run starts from trunks of which the share ``start`` is theirs. In the end each of ``end`` is tried as
    their share in the image trunk, and each in the text trunk; the pair that is best on dev is stored.
    """

    image_weights: str | None = None
    text_weights: str | None = None
    start: float = 0.35
    end: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for share in (self.start, *self.end):
            if not 0.0 <= share <= 1.0:
                raise SettingsError(f"The {_PLACE} origin has the share {share}; shares are from 0 to 1.")


@dataclass(frozen=True, slots=True)
class Widening:
    """A second branch of the photo's network, as ``widening`` describes it.

    ``image_weights`` is the timm state dict of mobilenet_edgetpu_100, with its classifier, whose upper layers
    the branch gets. ``names`` and ``templates`` name the classes as in ``Classes``; ``class_weight`` times
    the divergence from what the classifier says is added to the loss of ``epochs``. Of a cosine of the
    widened model ``share`` is the branch's.
    """

    image_weights: str
    names: str
    templates: tuple[str, ...] = ("a photo of a {}", _GAP)
    share: float = 0.4
    epochs: int = 12
    class_weight: float = 1.0

    def __post_init__(self) -> None:
        place = f"{_PLACE} widen"
        check_bounds(self, {"share": (0.0, 1.0), "epochs": (1, 10_000), "class_weight": (0.0, 1e4)}, place)
        _check_templates(self.templates, place)


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a run with settings of its own; it goes on from the best weights so far.

    **What is learnt.** ``loss`` is one of ``settings.LOSSES`` or None, for distillation alone; ``margin``
    and ``scale`` are those of ``objective.build_loss``. ``teachers`` (any models that ``-m`` takes)
    add ``teacher_weight`` times what ``distil`` names: ``text``, the distance to the teacher's vectors of
    captions, also of the captions in ``texts`` (.txt files with one a line, or CSV files with a column
    ``caption``, either may be .gz); ``vectors``, that and the distance to its vectors of photos; or
    ``similarity``, the divergence from its similarities of photos and captions at ``temperature``. Several
    teachers have to share one space; what they teach are the means of their vectors. ``classes`` adds what a
    classifier knows. Photos of the same captions are never each other's negatives.

    **Batches** hold ``batch_size`` captions, ``captions_per_photo`` of each photo that is in it. One
    optimizer step takes ``accumulate`` of them; ``chunk_size`` is how many photos or captions go through a
    tower at once, which bounds the memory and leaves the gradient as it is.

    **Rates** (AdamW's) are those at the top of a linear warm-up of ``warm_up_steps`` and a cosine to 0 at the
    last of ``epochs``; a part with rate 0 is frozen. Heads are the layers that make a tower's features a
    vector. Gradients are scaled down to the norm ``clip_norm``.

    **What stays.** Of an image trunk that is trained, the first ``frozen_blocks`` (in this project's CNN: the
    stem, then blocks 0 to 6) stay as they are: half the work is in the first three, which see edges and
    colours. Of a text trunk that is trained, the first ``frozen_layers`` do, in this project's transformer.

    **Photos.** A frozen image trunk sees ``views`` of each photo once (itself, its mirror image, then
    augmented ones); a trained one sees each photo with a new augmentation each time, at ``photo_size`` pixels
    (None: the model's own size; a CNN learns from smaller ones in less time). ``dropout`` is that of this
    project's text towers (open_clip's networks have their own), ``feature_dropout`` that of image features.
    A frozen text trunk of this project's sees each caption once, without dropout.
    """

    epochs: int = 8
    loss: str | None = "infonce"
    margin: float = 0.2
    scale: float | None = None
    teachers: tuple[str, ...] = ()
    teacher_weight: float = 1.0
    distil: Distil | None = None
    temperature: float = 0.05
    texts: tuple[str, ...] = ()
    classes: Classes | None = None
    batch_size: int = 256
    captions_per_photo: int = 1
    accumulate: int = 1
    chunk_size: int | None = None
    image_trunk_rate: float = 0.0
    text_trunk_rate: float = 5e-5
    head_rate: float = 1e-3
    frozen_blocks: int = 0
    frozen_layers: int = 0
    photo_size: int | None = None
    weight_decay: float = 0.01
    warm_up_steps: int = 100
    clip_norm: float = 1.0
    views: int = 2
    augmentation: Augmentation = field(default_factory=Augmentation)
    dropout: float = 0.1
    feature_dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.loss is not None and self.loss not in LOSSES:
            raise SettingsError(f"There is no loss {self.loss!r}; there are {', '.join(LOSSES)}.")
        check_bounds(self, _STAGE_BOUNDS, _PLACE)
        if self.batch_size < 2 * self.captions_per_photo:
            raise SettingsError(
                f"The {_PLACE} batch_size is {self.batch_size}: with {self.captions_per_photo} "
                f"captions_per_photo it must be at least {2 * self.captions_per_photo}, or no batch has a "
                "negative."
            )
        if (not self.teachers) != (self.distil is None):
            raise SettingsError(
                f"The {_PLACE}s teachers and distil belong together; only one of them is given."
            )
        if self.loss is None and self.distil is None:
            raise SettingsError(f"A stage whose {_PLACE} loss is null needs teachers and distil.")
        if self.classes is not None and not self.needs_photos:
            raise SettingsError(
                f'The {_PLACE} classes needs photos: a loss, or another "distil" than "text".'
            )
        if self.texts and self.distil not in ("text", "vectors"):
            raise SettingsError(
                f'The {_PLACE} texts needs "distil": "text" or "vectors": captions without photos serve '
                "nothing else."
            )
        if not any((self.image_trunk_rate, self.text_trunk_rate, self.head_rate)):
            raise SettingsError(
                f"The {_PLACE}s image_trunk_rate, text_trunk_rate and head_rate are all 0: nothing would be "
                "trained."
            )

    @property
    def needs_photos(self) -> bool:
        """Whether anything is learnt from photos, and not from captions alone."""
        return self.loss is not None or self.distil_photos

    @property
    def distil_photos(self) -> bool:
        """Whether the teachers look at photos."""
        return self.distil in ("vectors", "similarity")


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """A training run.

    **Data.** ``data`` is a data set's name or path, of which the first ``num_docs`` documents are used (None:
    all). ``train_split`` and ``dev_split`` are splits of it; without ``dev_split``, ``dev_share`` of the
    photos (chosen by their bytes) are held out. ``more`` are further data sets, trained on as a whole.

    **Model.** It starts as ``model``, which is anything that ``-m`` takes and that can be trained. In one of
    this project's own models, ``image_weights`` (such a model, or a timm state dict of mobilenet_edgetpu_100)
    replaces the photo's side, ``text_weights`` (the folder of a published MiniLM-like sentence encoder, of
    which ``text_layers`` layers, evenly spread, are used (None: all)) the sentence's; without ``model`` both
    sides have to be named so. ``text_tower`` starts the sentence's side from random weights instead: a
    ``gru`` over the words that occur at least ``min_word_count`` times, with embeddings of
    ``word_dimension``, or a ``transformer`` over the word pieces of ``text_weights``. ``dimension`` (of the
    vectors) and ``resize`` concern models that are new; None means 512 (or what ``image_weights`` has) and
    ``squash``. A GRU that goes on learning gets words that are new to it.

    **What pretraining knew.** ``origin`` names what the trunks were pretrained as, where the run starts from
    one that was tuned: weights are means of both (WiSE-FT, Wortsman et al. 2021). In the end each of
    ``keep_model`` is tried as the share of the model that the run started from, in all weights. ``widen``
    puts the upper layers as they were beside the tuned ones, before the first of ``stages``, of which there
    may then be none; no stage trains that second branch.

    **Optimisation.** ``freeze_word_embeddings`` leaves a pretrained transformer's embeddings unchanged.
    ``average_decay`` is that of the moving average of the weights, which is what is measured and stored
    (None: the weights themselves). A stage ends early after ``patience`` epochs without a better dev result.
    ``bfloat16`` computes both towers in bfloat16 (None: where the processor or the GPU does it in hardware).

    **Storage.** ``quantize_text`` stores the text tower's matrices as int8 (None: a transformer's).
    ``sources`` are sentences for the model card that say where its parts come from.
    """

    data: str
    more: tuple[MoreData, ...] = ()
    num_docs: int | None = None
    train_split: str | None = None
    dev_split: str | None = None
    dev_share: float = 0.1
    model: str | None = None
    image_weights: str | None = None
    text_weights: str | None = None
    text_tower: Literal["gru", "transformer"] | None = None
    text_layers: int | None = None
    dimension: int | None = None
    word_dimension: int = 300
    min_word_count: int = 4
    resize: Literal["crop", "squash"] | None = None
    origin: Origin | None = None
    keep_model: tuple[float, ...] = ()
    widen: Widening | None = None
    freeze_word_embeddings: bool = True
    average_decay: float | None = None
    patience: int = 6
    bfloat16: bool | None = None
    quantize_text: bool | None = None
    seed: int = 0
    sources: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = (Stage(),)

    def __post_init__(self) -> None:
        check_bounds(self, _BOUNDS, _PLACE)
        for share in self.keep_model:
            if not 0.0 <= share <= 1.0:
                raise SettingsError(f"The {_PLACE} keep_model has {share}; shares are from 0 to 1.")
        if not self.stages and self.widen is None:
            raise SettingsError(f"The {_PLACE} stages is an empty list; at least one stage is needed.")
        if self.dev_split is not None and self.train_split is None:
            raise SettingsError(
                f"The {_PLACE} dev_split is {self.dev_split!r} without a train_split; give both, or only "
                "train_split to hold dev photos out of it."
            )
        if self.model is not None and self.dimension is not None:
            raise SettingsError(
                f"The {_PLACE}s model and dimension are both given: a model that is there has its dimension."
            )
        if self.model is None and (
            self.image_weights is None or not (self.text_weights or self.text_tower == "gru")
        ):
            raise SettingsError(
                f"Without the {_PLACE} model, image_weights is needed and one of text_weights and "
                '"text_tower": "gru".'
            )
        if self.text_tower == "transformer" and self.text_weights is None:
            raise SettingsError(
                f'The {_PLACE} "text_tower": "transformer" needs text_weights, whose word pieces it reads.'
            )
        if self.text_tower == "gru" and self.text_weights is not None:
            raise SettingsError(f"The {_PLACE} text_weights is of no use to a gru: leave one of the two out.")

    @classmethod
    def from_json(cls, value: object) -> TrainingConfig:
        """The configuration in a JSON object. Raises SettingsError for a key or a value that cannot be
        used.
        """
        return read_fields(cls, value, _PLACE)

    @classmethod
    def load(cls, path: Path) -> TrainingConfig:
        """The configuration in a JSON file. Raises SettingsError where it cannot be read or used."""
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"The training configuration {path} cannot be read: {error}.") from error
        if not isinstance(value, dict):
            raise SettingsError(f"The training configuration {path} is not a JSON object.")
        return cls.from_json(value)

    def to_json(self) -> dict[str, Any]:
        """All settings, the defaults included, as JSON reads them back."""
        value: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return value


@dataclass(frozen=True)
class _Rates:
    """What suits a kind of text tower; the loss is that which the kind's published weights were made with."""

    loss: str
    text_trunk: float
    head: float


_GRU = _Rates("max-of-hinges", text_trunk=2e-4, head=1e-4)
_TRANSFORMER = _Rates("infonce", text_trunk=2e-5, head=2e-4)
_OPEN_CLIP = _Rates("infonce", text_trunk=5e-6, head=2e-5)


def fine_tuning(
    data: str, model: str, *, loss: str | None = None, split: str | None = None, num_docs: int | None = None
) -> TrainingConfig:
    """A cautious run on the photos and captions of ``data``: the image trunk frozen, small rates, two views.

    A few hundred photos take about a minute, nearly all of it for the photos' features, which are cached. A
    tenth of the photos (of ``split``, if given) is held out to choose the epoch by, and the model as it was
    takes part in that choice.
    """
    checkpoint = find_native(model)
    if checkpoint is None:
        rates = _OPEN_CLIP
    else:
        rates = _GRU if isinstance(checkpoint.text, GruConfig) else _TRANSFORMER
    return TrainingConfig(
        data=data,
        num_docs=num_docs,
        train_split=split,
        model=model,
        min_word_count=3,
        average_decay=0.99,
        patience=3,
        stages=(
            Stage(
                epochs=10,
                loss=loss or rates.loss,
                batch_size=64,
                text_trunk_rate=rates.text_trunk,
                head_rate=rates.head,
                warm_up_steps=10,
                views=2,
            ),
        ),
    )
