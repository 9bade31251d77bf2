"""What a classifier says of photos, which widens what a model knows beyond its captions."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crossmodal.errors import DataSetError, SettingsError
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.training.augmentation import plain
from crossmodal.training.config import Classes
from crossmodal.training.content_store import ContentStore
from crossmodal.training.trainable.building import classifier_logits

__all__ = ["ClassTeacher", "Logits", "SomeClasses", "class_logits", "class_names", "class_sentences"]

Logits = npt.NDArray[np.float16]
_COLUMN = "class"

# What the classifier finds in a photo: its first classes are always among those of a batch.
_FOUND = 2

# Photos that go through the classifier at once.
_BATCH = 64
_HALF = (0.5, 0.5, 0.5)


class SomeClasses(NamedTuple):
    """Classes as a batch has them: the number of a sentence for each, int64 (classes,), and the logs of the
    classifier's probabilities, float32 (photos, classes), each row of which adds up to 1."""

    sentences: npt.NDArray[np.int64]
    log_probabilities: Tensor


def class_names(path: Path) -> list[str]:
    """The column ``class`` of a CSV file, in its order. Raises DataSetError where there is none."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            names = [row[_COLUMN] for row in csv.DictReader(file)]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise DataSetError(f"The classes {path} cannot be read: {error!r}.") from error
    if not all(names):
        raise DataSetError(f"The classes {path} have a row without a name in the column {_COLUMN!r}.")
    return names


def class_sentences(classes: Classes, names: Sequence[str]) -> list[str]:
    """All classes by the first template, then by the next one."""
    return [template.replace("{}", name) for template in classes.templates for name in names]


def class_logits(
    weights: Path,
    count: int,
    inputs: ContentStore,
    preprocessing: ImagePreprocessing,
    digests: Sequence[bytes],
    *,
    folder: Path,
    bfloat16: bool,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Logits:
    """The logits (photos, ``count`` classes) of the classifier in a timm state dict, cached in ``folder``.

    ``inputs`` holds the photos as ``preprocessing`` crops them. Raises ModelError where there is no
    classifier, SettingsError for one of another number of classes.
    """
    name = hashlib.sha256(weights.read_bytes() if weights.is_file() else b"").hexdigest()[:16]
    store = ContentStore(folder / "classes" / f"{name}-{count}-{bfloat16}", (count,), np.float16)
    missing = [digest for digest in dict.fromkeys(digests) if digest not in store]
    parts = [missing[start : start + _BATCH] for start in range(0, len(missing), _BATCH)]
    rows = inputs.rows()
    # As the classifier was trained, whatever the model wants.
    scaling = replace(preprocessing, mean=_HALF, std=_HALF)
    pixels = (plain(rows[inputs.numbers(part)], scaling) for part in parts)
    found = classifier_logits(weights, pixels, bfloat16=bfloat16)
    for number, (part, logits) in enumerate(zip(parts, found, strict=True), start=1):
        if logits.shape[1] != count:
            raise SettingsError(
                f"The training setting classes names {count} classes, and the classifier in {weights} has "
                f"{logits.shape[1]}."
            )
        store.add(part, logits.numpy().astype(np.float16))
        progress(min(number * _BATCH, len(missing)), len(missing))
    known: Logits = store.rows()
    return known[store.numbers(digests)]


@dataclass(frozen=True)
class ClassTeacher:
    """``logits`` (photos, classes) beside ``class_sentences`` of so many ``templates``, of which a batch has
    ``count``."""

    logits: Logits
    templates: int
    count: int

    def some(self, photos: npt.NDArray[np.int64], rng: np.random.Generator) -> SomeClasses:
        """Classes for a batch of ``photos``: what is found in them, as far as there is room, and others."""
        logits = self.logits[photos].astype(np.float32)
        found = np.argsort(-logits, axis=1)[:, :_FOUND].T.ravel()
        others = rng.permutation(logits.shape[1])
        # In the order in which they come, each once: the first ones of all photos, then the second ones.
        chosen = np.array(list(dict.fromkeys([*found.tolist(), *others.tolist()]))[: self.count])
        templates = rng.integers(self.templates, size=len(chosen))
        return SomeClasses(
            sentences=templates * logits.shape[1] + chosen,
            log_probabilities=torch.from_numpy(logits[:, chosen]).log_softmax(dim=1),
        )
