"""All that one stage draws its batches from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crossmodal.errors import SettingsError
from crossmodal.home_folder import expanded
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.registry import identify_model, load_image_encoder, load_text_encoder
from crossmodal.training.classes import ClassTeacher, class_logits, class_names, class_sentences
from crossmodal.training.config import Classes, Stage
from crossmodal.training.content_store import ContentStore
from crossmodal.training.features import (
    FeatureInput,
    ImageInput,
    PixelInput,
    TextInput,
    Tokens,
    cached_features,
)
from crossmodal.training.pairs import Pairs, extra_texts
from crossmodal.training.trainable.base import Trainable

__all__ = [
    "Batch",
    "Resources",
    "StageData",
    "batches_of",
    "image_input",
    "number_of_batches",
    "prepare_stage",
    "teacher_images",
    "teacher_texts",
]

Rows = npt.NDArray[np.int64]
# Texts or photos that go through the teacher before their vectors are written.
_TEACHER_BATCH = 256
# Batches of texts without photos that are put in order of length together.
_LIKE_BATCHES = 64
Vectors = npt.NDArray[np.float16]
_Encode = Callable[[list[bytes]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Resources:
    """Model inputs of the photos by preprocessing, folders, precision, and how teachers are loaded.

    ``folder`` caches what is computed once; ``withheld`` are the dev photos' captions. ``models`` (the
    registry's cache), ``threads`` and ``trust_remote_code`` are those of ``load_image_encoder``. ``progress``
    gets what is being computed, how much of it is done and how much there is.
    """

    inputs: dict[ImagePreprocessing, ContentStore]
    folder: Path
    withheld: Sequence[str]
    models: Path | None
    threads: int | None
    trust_remote_code: bool
    bfloat16: bool
    progress: Callable[[str, int, int], None]

    def loading(self) -> dict[str, Any]:
        """The options of ``load_image_encoder`` and ``load_text_encoder`` for a teacher."""
        return {
            "threads": self.threads,
            "cache": self.models,
            "trust_remote_code": self.trust_remote_code,
        }


class Batch(NamedTuple):
    """What goes into one gradient.

    ``images`` (photos, ...) is as an ``ImageInput`` gives them, or None where a stage has no use for photos.
    ``rows`` and ``groups``, int64 (captions,), hold each caption's row in ``images`` and the group of its
    photo (``Pairs.groups``). ``texts``, as a ``TextInput`` gives them, has a row for each caption, then one
    for each text without a photo, then one for each class. ``teacher_texts`` are the teachers' vectors of
    captions and texts, ``teacher_images`` those of each caption's photo. ``classes`` are the logs of the
    classifier's probabilities (photos, classes) of what is in ``images``.
    """

    images: Tensor | None
    rows: Tensor
    groups: Tensor
    texts: Tokens | Tensor
    teacher_texts: Tensor | None = None
    teacher_images: Tensor | None = None
    classes: Tensor | None = None

    @property
    def captions(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class StageData:
    """The training data as a stage sees it.

    ``photos`` int64 (captions,) has the photo of each caption, ``groups`` the group of each photo. ``texts``
    are all captions, then ``extra`` texts without a photo, then the sentences of classes; ``text_vectors``
    the teachers' of all but the last, ``image_vectors`` those of photos.
    """

    stage: Stage
    photos: Rows
    groups: Rows
    images: ImageInput | None
    texts: TextInput
    extra: int
    text_vectors: Vectors | None
    image_vectors: Vectors | None
    classes: ClassTeacher | None

    @property
    def batches(self) -> int:
        """Batches in an epoch."""
        if self.images is None:
            return max(1, (len(self.photos) + self.extra) // self.stage.batch_size)
        return number_of_batches(self.photos, self.stage.batch_size, self.stage.captions_per_photo)

    def epoch(self, seed: Sequence[int], start: int) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on; what they hold depends on ``seed`` alone.

        With photos, an epoch is ``batches_of`` the captions, and each batch brings as many of the texts
        without photos as it has captions. Without, captions and texts are drawn alike, those of about one
        length together.
        """
        rng = np.random.default_rng(seed)
        if self.images is None:
            for rows in self._of_one_length(rng)[start:]:
                yield self._texts_alone(rows)
            return
        batches = batches_of(self.photos, self.stage.batch_size, self.stage.captions_per_photo, rng)
        extra = len(self.photos) + rng.permutation(self.extra)
        for number in range(start, len(batches)):
            captions = batches[number]
            first = number * self.stage.batch_size
            count = min(len(captions), len(extra))
            texts = np.take(extra, np.arange(first, first + count), mode="wrap") if count else extra
            yield self._pairs(captions, texts, np.random.default_rng([*seed, number]))

    def _pairs(self, captions: Rows, extra: Rows, rng: np.random.Generator) -> Batch:
        assert self.images is not None
        photos = self.photos[captions]
        unique, rows = np.unique(photos, return_inverse=True)
        images = self.images.take(unique, rng)
        classes = None if self.classes is None else self.classes.some(unique, rng)
        texts = np.concatenate([captions, extra])
        sentences = [] if classes is None else [len(self.photos) + self.extra + classes.sentences]
        return Batch(
            images=images,
            rows=torch.from_numpy(rows),
            groups=torch.from_numpy(self.groups[photos]),
            texts=self.texts.take(np.concatenate([texts, *sentences])),
            teacher_texts=self._taught(texts),
            teacher_images=None if self.image_vectors is None else _floats(self.image_vectors[photos]),
            classes=None if classes is None else classes.log_probabilities,
        )

    def _of_one_length(self, rng: np.random.Generator) -> list[Rows]:
        """The numbers of all captions and texts without a photo in random batches with little padding."""
        size, lengths = self.stage.batch_size, self.texts.lengths()
        order = rng.permutation(len(self.photos) + self.extra)[: self.batches * size]
        batches = []
        for first in range(0, len(order), _LIKE_BATCHES * size):
            some = order[first : first + _LIKE_BATCHES * size]
            some = some[np.argsort(lengths[some], kind="stable")]
            batches += [some[at : at + size] for at in range(0, len(some), size)]
        return [batches[number] for number in rng.permutation(len(batches))]

    def _texts_alone(self, rows: Rows) -> Batch:
        own = rows[rows < len(self.photos)]
        texts = np.concatenate([own, rows[rows >= len(self.photos)]])
        return Batch(
            images=None,
            rows=torch.zeros(len(own), dtype=torch.int64),
            groups=torch.from_numpy(self.groups[self.photos[own]]),
            texts=self.texts.take(texts),
            teacher_texts=self._taught(texts),
        )

    def _taught(self, texts: Rows) -> Tensor | None:
        return None if self.text_vectors is None else _floats(self.text_vectors[texts])


def prepare_stage(model: Trainable, stage: Stage, pairs: Pairs, resources: Resources) -> StageData:
    """Compute what ``stage`` needs of features and teacher's vectors, as far as it isn't known yet.

    Raises ModelError for a teacher, SettingsError where its dimension is another than the student's
    although vectors are to be learnt from it, DataSetError for caption files.
    """
    images = image_input(model, stage, pairs, resources, train=True) if stage.needs_photos else None
    extra = extra_texts(stage.texts, resources.withheld)
    text_vectors = image_vectors = None
    if stage.teachers:
        names = stage.teachers
        text_vectors = _mean(
            [teacher_texts(name, [*pairs.captions, *extra], resources) for name in names], stage
        )
        if stage.distil != "similarity" and text_vectors.shape[1] != model.dimension:
            raise SettingsError(
                f"The teacher {names[0]} has {text_vectors.shape[1]} dimensions and the model "
                f'{model.dimension}: to learn vectors from it ("distil": "{stage.distil}") they must have as '
                "many."
            )
        if stage.distil_photos:
            image_vectors = _mean([teacher_images(name, pairs.digests, resources) for name in names], stage)
    classes, sentences = None, []
    if stage.classes is not None:
        class_list = class_names(expanded(stage.classes.names))
        sentences = class_sentences(stage.classes, class_list)
        classes = _classes(model, stage.classes, len(class_list), pairs, resources)
    texts = TextInput.of(
        model,
        [*pairs.captions, *extra, *sentences],
        frozen=stage.text_trunk_rate == 0,
        bfloat16=resources.bfloat16,
        progress=lambda done, total: resources.progress("features of captions", done, total),
    )
    return StageData(
        stage=stage,
        photos=pairs.photos,
        groups=pairs.groups(),
        images=images,
        texts=texts,
        extra=len(extra),
        text_vectors=text_vectors,
        image_vectors=image_vectors,
        classes=classes,
    )


def _mean(vectors: Sequence[Vectors], stage: Stage) -> Vectors:
    """The teachers' vectors, or the means of several teachers' at unit length.

    Raises SettingsError where they can't have one space.
    """
    if len(vectors) == 1:
        return vectors[0]
    dimensions = [found.shape[1] for found in vectors]
    if len(set(dimensions)) > 1:
        raise SettingsError(
            f"The teachers {', '.join(stage.teachers)} have {dimensions} dimensions; several teachers must "
            "share one space."
        )
    sums = np.sum([found.astype(np.float32) for found in vectors], axis=0)
    means: Vectors = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float16)
    return means


def _classes(
    model: Trainable, classes: Classes, count: int, pairs: Pairs, resources: Resources
) -> ClassTeacher:
    logits = class_logits(
        expanded(classes.weights),
        count,
        resources.inputs[model.preprocessing],
        model.preprocessing,
        pairs.digests,
        folder=resources.folder,
        bfloat16=resources.bfloat16,
        progress=lambda done, total: resources.progress("photos by the classifier", done, total),
    )
    return ClassTeacher(logits, len(classes.templates), min(classes.count, count))


def image_input(
    model: Trainable, stage: Stage, pairs: Pairs, resources: Resources, *, train: bool
) -> ImageInput:
    """Photos as ``stage`` takes them to train on, or as they are measured: cached features where the trunk is
    frozen, the dev photos' always in float32. Raises SettingsError for a size that the model doesn't take."""
    inputs = resources.inputs[model.preprocessing]
    if stage.image_trunk_rate > 0:
        if stage.photo_size is not None and not model.any_size:
            raise SettingsError(
                f"The training setting photo_size is {stage.photo_size}, but this model takes photos of "
                f"{model.preprocessing.size} pixels only: leave it out."
            )
        return PixelInput(inputs, pairs.digests, model, stage.augmentation, stage.photo_size)
    store = cached_features(
        model,
        inputs,
        pairs.digests,
        views=stage.views if train else 1,
        augmentation=stage.augmentation,
        folder=resources.folder,
        bfloat16=resources.bfloat16 and train,
        progress=lambda done, total: resources.progress("features of photos", done, total),
    )
    return FeatureInput(store, pairs.digests)


def _floats(vectors: npt.NDArray[np.float16]) -> Tensor:
    return torch.from_numpy(vectors.astype(np.float32))


def number_of_batches(photos: Rows, batch_size: int, captions_per_photo: int) -> int:
    """How many batches ``batches_of`` makes of captions whose photos are ``photos``, int64 (captions,)."""
    _, counts = np.unique(photos, return_counts=True)
    groups = int(np.sum(-(-counts // captions_per_photo)))
    return max(1, groups // (batch_size // captions_per_photo))


def batches_of(
    photos: Rows, batch_size: int, captions_per_photo: int, rng: np.random.Generator
) -> list[Rows]:
    """One epoch: rows of captions in random order, each in at most one batch.

    A photo's captions come in groups of ``captions_per_photo`` (its last group may be smaller), and a batch
    holds batch_size // captions_per_photo groups. Groups that don't fill a last batch are left out of the
    epoch, unless they are all there is.
    """
    shuffled = rng.permutation(len(photos))
    by_photo = shuffled[np.argsort(photos[shuffled], kind="stable")]
    ordered = photos[by_photo]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    place = np.arange(len(photos)) - np.repeat(starts, np.diff(np.r_[starts, len(photos)]))
    groups = np.split(by_photo, np.flatnonzero(place % captions_per_photo == 0)[1:])
    order = rng.permutation(len(groups))
    size = batch_size // captions_per_photo
    count = max(1, len(groups) // size)
    return [
        np.concatenate([groups[number] for number in order[start * size : (start + 1) * size]])
        for start in range(count)
    ]


def teacher_texts(name: str, texts: Sequence[str], resources: Resources) -> Vectors:
    """The vectors float16 (len(texts), dimension) of the model ``name``.

    Raises ModelError where the teacher cannot be loaded.
    """
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    text_of = dict(zip(digests, texts, strict=True))

    def load() -> _Encode:
        encoder = load_text_encoder(name, **resources.loading())
        return lambda batch: encoder.encode([text_of[digest] for digest in batch])

    identity = identify_model(name, cache=resources.models)
    store = _teacher_store(resources, f"texts-{identity.weights}", identity.dimension)
    # Texts of about one length go through together.
    waiting = sorted(text_of, key=lambda digest: len(text_of[digest]))
    _add_missing(store, waiting, load, "the teacher's captions", resources)
    vectors: Vectors = store.rows()
    return vectors[store.numbers(digests)]


def teacher_images(name: str, digests: Sequence[bytes], resources: Resources) -> Vectors:
    """Vectors float16 (len(digests), dimension) of photos; ``resources`` has the teacher's inputs.

    Raises ModelError where the teacher cannot be loaded.
    """

    def load() -> _Encode:
        encoder = load_image_encoder(name, **resources.loading())
        inputs = resources.inputs[encoder.preprocessing]
        rows = inputs.rows()
        return lambda batch: encoder.encode(rows[inputs.numbers(batch)])

    identity = identify_model(name, cache=resources.models)
    kind = hashlib.sha256(identity.preprocessing.encode()).hexdigest()[:8]
    store = _teacher_store(resources, f"photos-{identity.weights}-{kind}", identity.dimension)
    _add_missing(store, list(dict.fromkeys(digests)), load, "the teacher's photos", resources)
    vectors: Vectors = store.rows()
    return vectors[store.numbers(digests)]


def _add_missing(
    store: ContentStore, digests: list[bytes], load: Callable[[], _Encode], doing: str, resources: Resources
) -> None:
    """Adds the vectors of ``digests`` that ``store`` lacks; the teacher is loaded only for those."""
    missing = [digest for digest in digests if digest not in store]
    encode = load() if missing else None
    for start in range(0, len(missing), _TEACHER_BATCH):
        batch = missing[start : start + _TEACHER_BATCH]
        assert encode is not None
        store.add(batch, encode(batch))
        resources.progress(doing, start + len(batch), len(missing))


def _teacher_store(resources: Resources, name: str, dimension: int) -> ContentStore:
    return ContentStore(resources.folder / "teachers" / f"{name}-{dimension}", (dimension,), np.float16)
